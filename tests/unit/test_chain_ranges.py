"""How many blocks a range has: learned from refusals, forgotten slowly."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.chain.ranges import ENOUGH_LOGS, FIRST, LARGEST, PATIENCE, SMALLEST_UNANSWERED, RangeSize


def after(size, times):
    for _ in range(times):
        size = size.passed()
    return size


def test_ranges_grow_to_the_largest_that_lotus_takes():
    assert RangeSize().size == FIRST
    assert after(RangeSize(), 100).size == LARGEST


def test_a_range_full_of_logs_makes_the_next_one_as_much_smaller():
    dense = RangeSize().passed(5 * ENOUGH_LOGS)
    assert (dense.size, dense.full) == (FIRST // 5, True)
    assert dense.passed(ENOUGH_LOGS).size > dense.size
    assert RangeSize(1, 1).passed(10 * ENOUGH_LOGS).size == 1
    assert after(dense, 100) == RangeSize(LARGEST, LARGEST, after(dense, 100).calm)


def test_a_range_that_is_small_for_another_reason_is_not_full():
    dense = RangeSize().passed(5 * ENOUGH_LOGS)
    assert dense.passed(ENOUGH_LOGS // 2 + 1).full
    for size in (RangeSize(), dense.passed(ENOUGH_LOGS // 2), dense.refused(50), dense.unanswered(50)):
        assert not size.full


def test_a_range_that_is_too_much_is_halved_and_what_was_refused_is_not_tried_again_soon():
    size = RangeSize().refused(500)
    assert size.size == 250
    assert after(size, 30).size == 375


def test_a_size_that_the_endpoint_names_is_taken():
    size = RangeSize().refused(500, 100)
    assert (size.size, after(size, PATIENCE - 1).size) == (100, 100)


def test_an_endpoint_that_always_names_one_block_less_soon_gets_single_blocks():
    blocks, times = LARGEST, 0
    while blocks > 1:
        blocks, times = RangeSize().refused(blocks, blocks - 1).size, times + 1
    assert times < 64


def test_a_learned_limit_is_forgotten_slowly():
    size = RangeSize().refused(500, 100)
    assert after(size, PATIENCE + 1).size == 111
    assert after(size, 100 * PATIENCE).size == LARGEST


def test_a_size_that_is_no_smaller_than_what_was_refused_is_not_believed():
    assert RangeSize().refused(500, 500).size == 250
    assert RangeSize().refused(500, 0).size == 250


def test_a_range_without_an_answer_makes_the_next_one_smaller_but_never_a_single_block():
    assert RangeSize().unanswered(500).size == 250
    assert RangeSize().unanswered(20).size == SMALLEST_UNANSWERED
    assert RangeSize().unanswered(1).size == FIRST


@given(st.integers(1, 5000))
def test_the_size_stays_within_its_bounds_and_a_refused_range_is_never_asked_again_as_it_was(cap):
    size, refusals = RangeSize(), 0
    for _ in range(300):
        if size.size > cap:
            before = size.size
            size, refusals = size.refused(before), refusals + 1
            assert size.size < before
        else:
            size = size.passed()
        assert 1 <= size.size <= size.limit <= LARGEST
    assert refusals <= 40
