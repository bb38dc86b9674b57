"""Fees: never above the cap, and replacements that every known node takes."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.chain.fees import Fees, first_fees, raised_fees

WEI = st.integers(0, 10**21)


@given(WEI, WEI, WEI)
def test_first_fees_stay_below_the_cap_and_cover_the_base_fee(base, tip, cap):
    fees = first_fees(base, tip, cap)
    if fees is None:
        assert base > cap
    else:
        assert base <= fees.max_fee <= cap
        assert fees.tip <= fees.max_fee


@given(WEI, WEI, WEI, WEI, WEI)
def test_raised_fees_are_at_least_a_quarter_and_one_more_and_below_the_cap(old, old_tip, base, tip, cap):
    previous = Fees(max(old, old_tip), old_tip)
    fees = raised_fees(previous, base, tip, cap)
    if fees is None:
        assert previous.max_fee * 5 // 4 + 1 >= cap
    else:
        assert fees.max_fee * 4 >= previous.max_fee * 5 + 4
        assert fees.tip * 4 >= previous.tip * 5 + 4
        assert fees.tip <= fees.max_fee <= cap


def test_a_raise_follows_a_base_fee_that_rose_more():
    assert raised_fees(Fees(100, 10), 500, 10, 10_000) == Fees(1010, 14)


def test_raising_again_and_again_ends_at_the_cap():
    fees, count = Fees(1, 0), 0
    while (higher := raised_fees(fees, 0, 0, 10**12)) is not None:
        fees, count = higher, count + 1
    assert fees.max_fee <= 10**12
    assert count < 130
