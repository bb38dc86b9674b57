"""A CAR that came in, block by block into the store: what is good is kept, whatever follows."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from bridge.outputs import Allowance, Holdings
from executor.content.car import CarLimits, CarParser
from executor.errors import CarError
from executor.protocol.leases import MAX_CAR_BYTES

GROUP_BYTES = 4 * 2**20  # stored together: one flush of many blocks is far cheaper than many of one


def store_car(holdings: Holdings, allowance: Allowance, pieces: Iterable[bytes]) -> None:
    """Store the blocks of a CAR for an owner.

    A stream that is merely cut is no error: the uploader asks what is missing and goes on. CarError for one that is
    wrong, ContentTooLarge for one that is too much; every good block before the fault is kept.
    """
    parser = CarParser(CarLimits(total_bytes=MAX_CAR_BYTES))
    group = []
    size = 0
    try:
        for piece in pieces:
            for cid, block in parser.feed(piece):
                group.append((cid, block))
                size += len(block)
                if size >= GROUP_BYTES:
                    full, group, size = group, [], 0
                    holdings.take(allowance, full)
    finally:
        if group:
            holdings.take(allowance, group)
    parser.feed(b"")  # raises the fault that was still waiting, if there is one; what `finish` finds is a cut
    with suppress(CarError):
        parser.finish()
