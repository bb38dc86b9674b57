"""When a source is so slow that another is asked beside it, and which of them goes on."""

import pytest

from executor.content.pacing import LEAST_HOPE, SLOW_SHARE, UNKNOWN_HOPE, Measured, Runner, hope, is_slow, winner
from executor.content.pacing import overall as rated

MIB = 2**20


def slow(rate=100.0, overall=100.0, *, leads=True):
    """One that was at work when the others were asked."""
    return Runner(overall, rate, True, leads)


def new(overall, rate=None, *, leads=True):
    """One that was asked because of it."""
    return Runner(overall, rate, False, leads)


def test_a_rate_is_known_once_a_window_has_passed():
    measured = Measured(since=100.0)

    assert not measured.look(107.9, 8 * MIB, window=8.0)
    assert measured.rate is None
    assert measured.look(108.0, 16 * MIB, window=8.0)
    assert measured.rate == 2 * MIB


def test_each_window_counts_for_itself():
    measured = Measured(since=0.0)
    measured.look(8.0, 800 * MIB, window=8.0)

    assert not measured.look(15.0, 800 * MIB, window=8.0)
    assert measured.look(16.0, 801 * MIB, window=8.0)
    assert measured.rate == MIB / 8


@pytest.mark.parametrize(
    ("known", "expected"),
    [(None, UNKNOWN_HOPE), (100.0 * MIB, 100.0 * MIB), (1.0, LEAST_HOPE)],
    ids=["unknown", "fast", "known to be slow"],
)
def test_what_is_hoped_of_a_source_is_what_is_known_of_it_and_never_nothing(known, expected):
    assert hope(known) == expected


@pytest.mark.parametrize(
    ("rate", "hopes", "expected"),
    [
        (None, [100.0 * MIB], False),
        (0.0, [], False),
        (0.0, [LEAST_HOPE], True),
        (SLOW_SHARE * 100, [100.0], False),
        (SLOW_SHARE * 100 - 1, [100.0], True),
        (SLOW_SHARE * 100 - 1, [1.0, 100.0], True),
        (MIB / 3.9, [UNKNOWN_HOPE], True),
        (MIB, [UNKNOWN_HOPE], False),
    ],
    ids=[
        "not measured yet",
        "nobody else",
        "nothing, and another that is known to be slow",
        "a quarter of another",
        "less than a quarter",
        "less than a quarter of one of several",
        "a block just before each hedge, and an unknown one",
        "8 Mbit/s, and an unknown one",
    ],
)
def test_a_source_is_slow_only_where_another_may_be_far_faster(rate, hopes, expected):
    assert is_slow(rate, hopes) is expected


@pytest.mark.parametrize(
    ("runners", "expected"),
    [
        ([slow(), new(1000.0)], 1),
        ([slow(), new(1000.0), new(2000.0)], 2),
        ([slow(), new(0.0, leads=False)], None),
        ([slow(overall=5000.0), new(0.0, leads=False)], None),
        ([slow(), new(99.0)], None),
        ([slow(), new(1000.0, leads=False)], None),
        ([slow(), new(0.0, rate=0.0, leads=False)], 0),
        ([slow(), new(90.0, rate=150.0)], 1),
        ([slow(), new(90.0, rate=50.0), new(0.0, leads=False)], None),
        ([slow(rate=None), new(1.0)], 1),
        ([slow()], None),
    ],
    ids=[
        "one that is faster",
        "two that are faster",
        "one that has brought nothing yet",
        "it brought much before it was slow",
        "one that is slower so far",
        "one that brought nothing since",
        "one that was silent for a window",
        "one that was slower at first, and is faster now",
        "one of several is not measured yet",
        "one that was slow before it was measured",
        "alone",
    ],
)
def test_the_faster_goes_on_once_it_is_known_who_that_is(runners, expected):
    assert winner(runners) == expected


def test_a_rate_over_less_than_an_eighth_of_the_window_counts_as_over_that():
    assert [rated(1000, seconds, 8.0) for seconds in (0.0, 0.5, 1.0, 4.0)] == [1000, 1000, 1000, 250]
