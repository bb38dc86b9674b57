"""What deliveries cost and may cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.chain.budget import (
    MIN_SAMPLES,
    REMEMBERED_SECONDS,
    Cost,
    Estimate,
    Sample,
    believable,
    beyond,
    earned,
    share,
    spent,
    usual_cost,
    weight,
)
from executor.protocol.wire import Order

PARTS = st.lists(st.integers(1, 10**9), min_size=1, max_size=64)


@given(st.integers(0, 10**30), PARTS)
def test_the_shares_of_a_cost_cover_it_and_not_much_more(cost, parts):
    shares = [share(cost, part, sum(parts)) for part in parts]

    assert cost <= sum(shares) < cost + len(parts)


def test_a_dearer_delivery_weighs_more():
    assert weight(b"", 0) < weight(b"\0" * 100, 0) < weight(b"\0" * 100, 100_000)


KNOWN = Estimate(3_000_000, 3, 3000, 1000.0)
#: sizes of another batch's deliveries, seconds later -> what they are taken to need
BATCHES = {
    "the same": ([1000, 1000, 1000], 0.0, 3_000_000),
    "other sizes, the same sum": ([900, 1000, 1100], REMEMBERED_SECONDS - 1, 3_000_000),
    "a little more": ([1000, 1000, 1001], 1.0, 3_001_000),
    "as much more as may be": ([1100, 1100, 1100], 1.0, 3_300_000),
    "more than that": ([1100, 1100, 1101], 1.0, None),
    "less": ([900, 900, 900], 1.0, 3_000_000),
    "less than that": ([900, 900, 899], 1.0, None),
    "another number": ([1500, 1500], 1.0, None),
    "too late": ([1000, 1000, 1000], REMEMBERED_SECONDS, None),
    "a clock that went back": ([1000, 1000, 1000], -1.0, None),
}


@pytest.mark.parametrize("name", BATCHES)
def test_an_estimate_is_taken_for_a_batch_like_its_own(name):
    sizes, later, needed = BATCHES[name]

    assert KNOWN.for_batch(sizes, 1000.0 + later) == needed


def test_a_fee_in_another_token_pays_for_no_gas():
    token = "0x00000000000000000000000000000000C0FfEe01"

    assert earned(Order(spec=b"", ttl=1, delivery_fee=7)) == 7
    assert earned(Order(spec=b"", ttl=1, delivery_fee=10**30, token=token)) == 0


SPENT = {
    "nothing": ([], 0),
    "not mined: at most": ([Cost(1, 10)], 10),
    "replaced, not mined: the dearest": ([Cost(1, 10), Cost(1, 13)], 13),
    "mined: what it cost": ([Cost(1, 10, actual=4)], 4),
    "a receipt beyond what was signed": ([Cost(1, 10, actual=10**60)], 10),
    "one of two mined": ([Cost(1, 10, actual=4), Cost(1, 13)], 4),
    "two nonces": ([Cost(1, 10, actual=4), Cost(2, 13)], 17),
    "a share of a batch": ([Cost(1, 10, weight=1, total=3)], 4),
    "a share of a mined batch": ([Cost(1, 10, actual=7, weight=2, total=4)], 4),
}


@pytest.mark.parametrize("name", SPENT)
def test_what_was_spent(name):
    costs, expected = SPENT[name]
    assert spent(costs) == expected


def test_the_deliveries_beyond_their_allowance_are_named():
    assert beyond(100, {1: 1, 2: 3}, {1: 25, 2: 74}) == [2]
    assert beyond(100, {1: 1, 2: 3}, {1: 25, 2: 75}) == []


USUAL = [Sample(100, 1000, 7)] * MIN_SAMPLES
BELIEVED = {
    "usual": (100, [1000], 0, USUAL, True),
    "five times": (500, [1000], 0, USUAL, True),
    "more than five times": (501, [1000], 0, USUAL, False),
    "more, but it is twice as large": (1000, [2000], 0, USUAL, True),
    "a smaller one is measured like a usual one": (500, [10], 0, USUAL, True),
    "two in a batch": (1000, [1000, 1000], 0, USUAL, True),
    "its callback asked for it": (700, [1000], 100, USUAL, True),
    "too few to compare with": (10**9, [1000], 0, USUAL[1:], True),
}


@pytest.mark.parametrize("name", BELIEVED)
def test_an_estimate_is_believed_when_it_is_near_the_last_ones(name):
    *given_, expected = BELIEVED[name]
    assert believable(*given_) is expected


def test_the_usual_cost_is_the_median():
    assert usual_cost([]) is None
    assert usual_cost([Sample(1, 1, cost) for cost in (3, 100, 5)]) == 5
