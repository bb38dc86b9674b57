"""What is known of a content source decides when and how long it is asked."""

import pytest

from executor.content.scoring import OPEN_AFTER, OPEN_SECONDS, SHORTEST_HEDGE_SECONDS, Score

MIB = 2**20


UNKNOWN = Score()


def failed(times, now=0.0, score=UNKNOWN):
    for _ in range(times):
        score = score.failed(now)
    return score


def test_a_source_that_nothing_is_known_of_may_be_tried_and_is_waited_for_as_by_default():
    assert Score().may_try(0.0)
    assert Score().hedge_after(2.0) == 2.0


def test_a_fast_source_comes_before_an_unknown_one_and_that_before_a_slow_one():
    fast = Score().brought(10 * MIB, 1.0, 0.1)
    slow = Score().brought(MIB, 60.0, 5.0)

    assert sorted([slow, Score(), fast], key=Score.order) == [fast, Score(), slow]


def test_a_small_try_says_nothing_of_the_rate_unless_it_took_long():
    quick = Score().brought(1000, 0.05, 0.05)
    known = Score().brought(10 * MIB, 1.0, 0.1)

    assert quick.rate is None
    assert quick.order() < Score().order()
    assert known.brought(1000, 0.05, 0.05).rate == known.rate
    assert Score().brought(1000, 10.0, 10.0).rate == 100.0


def test_a_source_that_failed_comes_after_all_others():
    best_but_failed = Score().brought(100 * MIB, 1.0, 0.01).failed(0.0)

    assert Score().brought(1, 100.0, 50.0).order() < best_but_failed.order()


def test_one_fault_does_not_undo_a_record():
    record = Score()
    for _ in range(5):
        record = record.brought(100 * MIB, 1.0, 0.01)

    assert record.brought(MIB, 10.0, 1.0).order() < Score().order()


def test_the_circuit_opens_after_failures_in_a_row_and_half_opens_after_its_time():
    opened = failed(OPEN_AFTER, now=100.0)

    assert failed(OPEN_AFTER - 1, now=100.0).may_try(100.0)
    assert not opened.may_try(100.0)
    assert not opened.may_try(100.0 + OPEN_SECONDS - 0.1)
    assert opened.may_try(100.0 + OPEN_SECONDS)


def test_a_failed_probe_opens_the_circuit_again_at_once():
    opened = failed(OPEN_AFTER, now=0.0)

    assert not opened.failed(OPEN_SECONDS).may_try(OPEN_SECONDS + 1)


def test_a_probe_that_brings_content_closes_the_circuit():
    closed = failed(OPEN_AFTER).brought(MIB, 1.0, 0.1)

    assert closed.may_try(0.0)
    assert failed(OPEN_AFTER - 1, score=closed).may_try(0.0)


def test_a_source_that_lied_is_never_tried_again():
    liar = Score().brought(MIB, 1.0, 0.1).lied("wrong block")

    assert not liar.may_try(10.0**9)
    assert not liar.brought(MIB, 1.0, 0.1).may_try(10.0**9)


def test_a_source_that_lost_a_race_has_not_failed_but_counts_as_slower():
    before = Score().brought(MIB, 1.0, 0.1)
    lost = before.silent(3.0)

    assert lost.failures == 0
    assert lost.order() > before.order()
    assert lost.hedge_after(2.0) > before.hedge_after(2.0)


@pytest.mark.parametrize(("waits", "hedge"), [([1.0] * 30, 1.0), ([0.001] * 30, SHORTEST_HEDGE_SECONDS)])
def test_a_steady_source_is_waited_for_about_as_long_as_it_takes(waits, hedge):
    score = Score()
    for wait in waits:
        score = score.brought(MIB, 2.0, wait)

    assert score.hedge_after(2.0) == pytest.approx(hedge, rel=0.01)


def test_an_unsteady_source_is_waited_for_longer_than_its_average():
    score = Score()
    for wait in [0.5, 1.5] * 20:
        score = score.brought(MIB, 2.0, wait)

    assert score.hedge_after(2.0) > 1.5


def test_the_waits_of_the_try_under_way_count_before_any_score():
    assert Score().hedge_after(2.0, longest_wait=2.0) == 3.0
    assert Score().brought(MIB, 2.0, 1.0).hedge_after(2.0, longest_wait=1.0) == 2.0


@pytest.mark.parametrize("longest", [0.0, 3.0, 9.9])
def test_a_source_that_lets_each_wait_grow_raises_its_own_threshold_to_twice_the_usual_and_no_further(longest):
    score = Score()
    for wait in (2.9, 4.3, 6.5, 9.7):
        score = score.brought(MIB, 20.0, wait)

    assert score.hedge_after(2.0, longest) == 4.0
    assert Score().hedge_after(2.0, longest) <= 4.0
