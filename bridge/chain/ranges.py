"""How many blocks one eth_getLogs asks for: learned from what endpoints refuse, forgotten slowly. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST = 500  # epochs in the first range
LARGEST = 2880  # what Lotus takes; others take less
SMALLEST_UNANSWERED = 16  # when so few blocks get no answer, it is not for their number
ENOUGH_LOGS = 1000  # of one answer: what is far larger no longer fits a processor's cache, and takes twice as long
PATIENCE = 50  # so many ranges in a row pass before a learned limit is tried again a tenth higher


@dataclass(frozen=True)
class RangeSize:
    """`size`: blocks of the next range; `limit`: what it may grow to; `calm`: ranges that passed at the limit.

    `full`: it is so small because it holds many logs, and not because more would be refused.
    """

    size: int = FIRST
    limit: int = LARGEST
    calm: int = 0
    full: bool = False

    def passed(self, logs: int = 0) -> RangeSize:
        """A range was answered with so many logs: the next one is a tenth larger, or smaller where they are many."""
        full = 2 * logs > ENOUGH_LOGS
        if logs > ENOUGH_LOGS:
            return replace(self, size=max(1, self.size * ENOUGH_LOGS // logs), full=full)
        if self.size < self.limit:
            return replace(self, size=min(self.limit, self.size + self.size // 10 + 1), calm=0, full=full)
        if self.limit < LARGEST and self.calm + 1 >= PATIENCE:
            return replace(self, limit=min(LARGEST, self.limit + self.limit // 10 + 1), calm=0, full=full)
        return replace(self, calm=self.calm + 1, full=full)

    def refused(self, blocks: int, suggested: int | None = None) -> RangeSize:
        """A range of so many blocks was too much. `suggested`: blocks that the endpoint says would do."""
        if suggested is not None and 0 < suggested < blocks:
            # Each time by an eighth at least: an endpoint that always names one block less would be asked without end.
            size = min(suggested, max(1, blocks - blocks // 8 - 1))
            return RangeSize(size, size)
        size = max(1, blocks // 2)
        return RangeSize(size, max(size, blocks * 3 // 4))

    def unanswered(self, blocks: int) -> RangeSize:
        """A range of so many blocks got no answer: it may have taken too long, so the next one is smaller."""
        if blocks <= SMALLEST_UNANSWERED:
            return self
        return replace(self, size=min(self.size, max(SMALLEST_UNANSWERED, blocks // 2)), calm=0, full=False)
