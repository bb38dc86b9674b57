"""What the listener makes of each look at the chain beside its logs: tags, stale heads, resets; gauges and alarms.

Nothing here is stored: a restart forgets it, and what was final stays so in the store.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import structlog

from bridge.chain.client import Block, Poll
from bridge.chain.cursor import Advance, Window
from bridge.config import ChainConfig
from bridge.errors import FatalError
from bridge.watch import Alarm, Watch

log = structlog.get_logger("bridge.headwatch")

SHORTER_POLLS = 3  # a head below our final block, and younger than it, is believed when it is seen so often in a row


class HeadWatch:
    """Told of every look and every move. `clock` gives seconds since 1970."""

    def __init__(self, chain: ChainConfig, clock: Callable[[], float], watch: Watch) -> None:
        self._chain = chain
        self._clock = clock
        self._watch = watch
        self._shorter_seen = 0
        self._highest_final = 0
        self._odd_tag = ""

    def look(self, poll: Poll, window: Window) -> None:
        """Judge a head. FatalError: the chain has become shorter than what is final here, and goes on there."""
        now, head = self._clock(), poll.head
        age = now - head.timestamp
        self._watch.set("head_age_seconds", age)
        if age > self._chain.stale_head_seconds:
            detail = f"the newest block, {head.number}, is {age:.0f} s old: the endpoint hangs, or the chain does"
            self._watch.alarm(Alarm.STALE_HEAD, detail, now)
        else:
            self._watch.over(Alarm.STALE_HEAD, now)
        # A node that lags shows an older block; one with a lower number and a later time is of another history.
        is_shorter = head.number < window[0].number and head.timestamp > window[0].timestamp
        self._shorter_seen = self._shorter_seen + 1 if is_shorter else 0
        if self._shorter_seen >= SHORTER_POLLS:
            raise self.reset(
                f"the endpoint's chain ends at block {head.number} and goes on from there, below block "
                f"{window[0].number}, which was final: it was reset"
            )

    def reset(self, reason: str) -> FatalError:
        """The error for a chain that is not the one that was followed; the alarm is raised."""
        self._watch.alarm(Alarm.CHAIN_RESET, reason, self._clock())
        return FatalError(f"{reason}; check chain.rpc_urls, or begin anew with: insula bridge rebuild")

    def confirmed(self, poll: Poll, window: Window) -> int:
        """Requests up to this block may run: deep enough, and not above the tag where one is waited for."""
        tip = window[-1].number
        if self._chain.optimistic:
            return tip
        limit = tip - self._chain.confirmation_depth
        if self._chain.confirmation_tag:
            tagged = poll.tagged.get(self._chain.confirmation_tag)
            limit = min(limit, -1 if tagged is None else tagged.number)
        return limit

    def tagged_final(self, poll: Poll, window: Window) -> int:
        """The number that the endpoint calls final, if that is sane, else 0."""
        tag = self._chain.finality_tag
        if not tag:
            return 0
        block = poll.tagged.get(tag)
        odd = self._oddity(block, poll.head, window)
        if odd and odd != self._odd_tag:
            log.warning("finality tag not used", tag=tag, reason=odd)
        self._odd_tag = odd
        if block is None or odd:
            return 0
        if block.number < self._highest_final:
            detail = f"the endpoint's {tag} block went back from {self._highest_final} to {block.number}; ours did not"
            self._watch.alarm(Alarm.FINALITY_REGRESSED, detail, self._clock())
        elif self._highest_final:
            self._watch.over(Alarm.FINALITY_REGRESSED, self._clock())
        self._highest_final = max(self._highest_final, block.number)
        return block.number

    @staticmethod
    def _oddity(block: Block | None, head: Block, window: Window) -> str:
        if block is None:
            return "the endpoint does not give it; finality_depth alone counts"
        if block.number >= head.number:
            return "it is the newest block, which is never final; finality_depth alone counts"
        ours = next((known for known in window if known.number == block.number), None)
        if ours is not None and ours.hash != block.hash:
            return "it is not on the chain that was followed; finality_depth alone counts"
        return ""

    def moved(self, window: Window, step: Advance) -> None:
        """Blocks came, and perhaps went."""
        self._watch.set("head", window[-1].number)
        parent = window[: len(window) - len(step.new)][-1:]
        gaps = sum(b.number - a.number - 1 for a, b in pairwise((*parent, *step.new)))
        if gaps:
            self._watch.count("null_rounds", gaps)
        if step.orphaned:
            self._watch.count("reorgs")
            self._watch.count("reorged_blocks", len(step.orphaned))
            self._watch.set("reorg_depth", len(step.orphaned))

    def caught_up(self, last: Block) -> None:
        """A range of final blocks was read."""
        self._watch.set("head", last.number)
        self._watch.set("finalized", last.number)
