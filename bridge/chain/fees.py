"""What a transaction offers for its gas (EIP-1559), within the operator's cap. Pure; wei (attoFIL) per gas.

A replacement is computed from our own stored values, never from a fresh estimate: endpoints add noise to theirs. Lotus
asks for 1.10 times the tip plus one (messagepool, ComputeMinRBF), geth and Hardhat for 1.10 times both: 1.25 is enough.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fees:
    """`max_fee` is paid at most, `tip` goes to the block's maker; tip <= max_fee."""

    max_fee: int
    tip: int


def first_fees(base: int, tip: int, cap: int) -> Fees | None:
    """Fees for a first attempt: room for the base fee to double. None while the base fee alone is above the cap."""
    if base > cap:
        return None
    max_fee = min(2 * base + tip, cap)
    return Fees(max_fee, min(tip, max_fee))


def raised_fees(previous: Fees, base: int, tip: int, cap: int) -> Fees | None:
    """Fees that replace `previous`: each at least 1.25 times and one more. None when that is above the cap."""
    least = Fees(_raised(previous.max_fee), _raised(previous.tip))
    if least.max_fee > cap:
        return None
    max_fee = min(max(least.max_fee, 2 * base + tip), cap)
    return Fees(max_fee, min(max(least.tip, tip), max_fee))


def _raised(value: int) -> int:
    return -(-value * 5 // 4) + 1
