"""Work in threads on a stream: in order, a few ahead, errors in their place."""

import threading

import pytest

from executor.content.ahead import THREADS, in_order
from executor.content.blocks import Discarded, MemoryBlocks, Verified
from executor.errors import BlockMismatch
from executor.protocol.cid import RAW, Cid


def always(_):
    return True


def test_results_come_in_the_order_of_the_items():
    assert list(in_order(lambda item: -item, range(100), lambda item: item % 3 == 0)) == [-item for item in range(100)]


def test_at_most_as_many_items_as_there_are_threads_are_taken_ahead():
    taken = []
    results = in_order(str, (taken.append(item) or item for item in range(100)), always)

    next(results)

    assert len(taken) == THREADS + 1


def test_an_error_comes_after_the_results_before_it():
    results = in_order(lambda item: 1 // item, [1, 1, 0, 1], always)

    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize(("items", "is_long"), [([1], always), (range(9), lambda _: False)], ids=["alone", "short"])
def test_what_is_alone_or_short_is_done_by_the_callers_own_thread(items, is_long):
    threads = set(in_order(lambda _: threading.get_ident(), items, is_long))

    assert threads == {threading.get_ident()}


def test_no_thread_stays_behind_where_the_stream_is_left_early():
    before = threading.active_count()
    results = in_order(str, range(100), always)
    next(results)

    results.close()

    assert threading.active_count() == before


def test_a_block_is_verified_only_by_the_cid_that_is_its_own():
    assert Verified.of(RAW, b"x") == (Cid.of(RAW, b"x"), b"x")
    assert Verified.checked(Cid.of(RAW, b"x"), b"x") == Verified.of(RAW, b"x")
    assert Verified.checked(Cid.of(RAW, b"y"), b"x") is None


def test_a_tuple_that_equals_a_verified_block_is_none():
    with pytest.raises(BlockMismatch):
        MemoryBlocks([(Cid.of(RAW, b"y"), b"x")])


def test_what_is_discarded_is_counted():
    assert Discarded().put_many([Verified.of(RAW, b"x"), Verified.of(RAW, b"y")]) == 2
