"""Where the listener stands on a chain that may change its mind: a window of blocks linked by hash. Pure.

The oldest block of the window is final; every other one's parent is the one before it. Numbers have gaps (null rounds),
so blocks are followed by their parents' hashes, never by number + 1. Nothing above the head is ever asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from bridge.chain.shapes import Block
from bridge.errors import FatalError, RpcUnavailable

CATCH_UP_SLACK = 32  # epochs beyond the finality depth that are still walked by hash

Window = tuple[Block, ...]


class DeepReorg(FatalError):
    """The endpoint's chain leaves out a block that was final here."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        self.block = block

    def __str__(self) -> str:
        name = f"block {self.block.number} (0x{self.block.hash.hex()})"
        return (
            f"{name} was final and is no longer on the endpoint's chain; "
            "check that the endpoint is sound and finality_depth is deep enough, then run: insula bridge rebuild"
        )


class Stay(Enum):
    """Why there is nothing to do."""

    SAME = "the head is known"
    BEHIND = "the endpoint is behind: its head is an older block of ours"
    LOWER = "the head is lower than ours and on another branch: wait until it is seen again"


@dataclass(frozen=True)
class Fetch:
    """The block of this hash is needed next."""

    block_hash: bytes


@dataclass(frozen=True)
class CatchUp:
    """Too far behind to walk by hash: read by ranges up to this number, which is final."""

    target: int


@dataclass(frozen=True)
class Advance:
    """`orphaned` left the chain (newest last), `new` came (oldest first)."""

    orphaned: Window
    new: Window


def plan(
    window: Window, head: Block, fetched: Mapping[bytes, Block], finality_depth: int, *, lower_is_real: bool = False
) -> Stay | Fetch | CatchUp | Advance:
    """What to do next about `head`.

    `fetched` holds the blocks got so far by hash. `lower_is_real`: a lower head on another branch was seen before.
    DeepReorg when the head's chain passes by the final block; RpcUnavailable when numbers do not descend.
    """
    places = {block.hash: place for place, block in enumerate(window)}
    tip = window[-1]
    if head.hash == tip.hash:
        return Stay.SAME
    if head.hash in places or head.number < window[0].number:
        return Stay.BEHIND
    if head.number < tip.number and not lower_is_real:
        return Stay.LOWER
    if head.number - tip.number > finality_depth + CATCH_UP_SLACK:
        return CatchUp(head.number - finality_depth)
    branch = [head]
    while branch[-1].parent_hash not in places:
        lowest = branch[-1]
        if lowest.number <= window[0].number:
            raise DeepReorg(window[0])
        parent = fetched.get(lowest.parent_hash)
        if parent is None:
            return Fetch(lowest.parent_hash)
        _check_descent(parent, lowest)
        branch.append(parent)
    place = places[branch[-1].parent_hash]
    _check_descent(window[place], branch[-1])
    return Advance(orphaned=window[place + 1 :], new=tuple(reversed(branch)))


def advanced(window: Window, step: Advance) -> Window:
    """The window after a step."""
    return (*window[: len(window) - len(step.orphaned)], *step.new)


def final_block(window: Window, finality_depth: int, tagged: int = 0) -> Block:
    """The newest block that is deep enough to be final, or not above `tagged`; the oldest one when no other is.

    The oldest one is final already, so this never goes back, whatever the endpoint calls final now.
    """
    limit = max(window[-1].number - finality_depth, tagged)
    return next((block for block in reversed(window) if block.number <= limit), window[0])


def is_linked(window: Window) -> bool:
    """Whether each block's parent is the one before it, with rising numbers."""
    pairs = pairwise(window)
    return bool(window) and all(b.parent_hash == a.hash and b.number > a.number for a, b in pairs)


def _check_descent(parent: Block, child: Block) -> None:
    if parent.number >= child.number:
        raise RpcUnavailable(f"the endpoint's block {child.number} names block {parent.number} as its parent")
