"""Epochs with gaps: a pure function of seed and share, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.devnet.chaos import epochs
from bridge.devnet.chaos.epochs import WINDOW, EpochMap

maps = st.builds(
    EpochMap,
    st.integers(0, 2**63),
    st.floats(0, 0.5),
    st.integers(1, 12),
    st.lists(st.integers(1, 3000), max_size=30).map(tuple),
)
numbers = st.one_of(st.integers(0, 2000), st.integers(0, 10**12))


@given(maps, numbers)
def test_epochs_rise_strictly_and_lead_back_to_their_numbers(epoch_map, number):
    here, there = epoch_map.epoch_of(number), epoch_map.epoch_of(number + 1)

    assert number <= here < there
    assert epoch_map.at_or_below(here) == epoch_map.at_or_above(here) == number
    assert not epoch_map.is_null(here)
    for null in {here + 1, (here + there) // 2, there - 1} - {here, there}:
        assert epoch_map.is_null(null)
        assert epoch_map.at_or_below(null) == number
        assert epoch_map.at_or_above(null) == number + 1


@given(maps)
def test_epoch_0_has_block_0(epoch_map):
    assert epoch_map.epoch_of(0) == 0


@given(st.integers(0, 2**63), numbers)
def test_without_null_rounds_epochs_are_numbers(seed, number):
    assert EpochMap(seed).epoch_of(number) == number


def test_the_share_of_null_rounds_is_what_was_asked_for():
    epoch_map = EpochMap(3, 0.05)

    nulls = sum(epoch_map.is_null(epoch) for epoch in range(50 * WINDOW))
    assert nulls == 50 * WINDOW // 20


def test_runs_are_as_long_as_asked_for():
    epoch_map = EpochMap(3, 0.2, run=10)

    gaps = {epoch_map.epoch_of(n + 1) - epoch_map.epoch_of(n) for n in range(2000)}
    assert gaps == {1, 11}


def test_named_epochs_are_null():
    epoch_map = EpochMap(3, also=(5, 6, 7, 20))

    assert [epoch for epoch in range(30) if epoch_map.is_null(epoch)] == [5, 6, 7, 20]
    assert epoch_map.epoch_of(5) == 8


def test_another_seed_gives_other_null_rounds_and_the_same_seed_the_same():
    def nulls(seed):
        epoch_map = EpochMap(seed, 0.1)
        return [epoch for epoch in range(1000) if epoch_map.is_null(epoch)]

    assert nulls(1) == nulls(1) != nulls(2)


def test_a_widest_stretch_is_found():
    assert EpochMap(1).widest(5) == 5
    assert EpochMap(1, 0.2, run=10).widest(1) == 11


def test_what_is_remembered_is_bounded():
    epoch_map = EpochMap(1, 0.1)
    first = epoch_map.epoch_of(17)
    for window in range(epochs.MAX_REMEMBERED + 3):
        epoch_map.at_or_below(window * WINDOW)

    assert len(epoch_map._places) <= epochs.MAX_REMEMBERED
    assert epoch_map.epoch_of(17) == first


@pytest.mark.parametrize(
    ("share", "run", "also"), [(0.6, 1, ()), (-0.1, 1, ()), (0.1, 0, ()), (0.1, 101, ()), (0, 1, (0,))]
)
def test_impossible_maps_are_refused(share, run, also):
    with pytest.raises(ValueError, match="null rounds"):
        EpochMap(1, share, run, also)
