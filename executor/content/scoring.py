"""What is known of a content source, and what follows: its place in the order, how long to wait, when to leave it.

Pure: every time is handed in, in seconds of whatever clock the caller uses. A `Score` is a value; each observation
gives the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

WEIGHT: Final = 0.3
"""Of the newest observation, in each average."""
OPEN_AFTER: Final = 5
"""Failures in a row that open the circuit."""
OPEN_SECONDS: Final = 60.0
SHORTEST_HEDGE_SECONDS: Final = 0.2
LONGEST_HEDGE: Final = 2.0
"""How much longer than an unknown source a slow one is waited for at most: its own waits raise what is usual for it,
and one that means ill lets each be a little longer than the last."""
LONGER_WAIT: Final = 1.5
"""How much longer than its longest wait so far a source may be silent."""
TYPICAL_BYTES: Final = 2**20
"""Sources are ordered by how long they take for so much."""
RATED_BYTES: Final = 256 * 2**10
RATED_SECONDS: Final = 1.0
"""A try that brought less and took less time says something of the wait, and nothing of the rate."""
UNKNOWN_WAIT: Final = 1.0
UNKNOWN_RATE: Final = float(2**20)
"""What a source is taken for until it is tried: better than one that is known to be slow, worse than a good one."""


@dataclass(frozen=True, slots=True)
class Score:
    """A source's record.

    wait, spread: moving averages of the longest wait for a verified block in a try, and of its deviation, in seconds.
    rate: moving average of verified bytes per second. failures: tries in a row that brought nothing. open_until: the
    circuit is open until then. lie: what it did where it sent wrong bytes; never asked again then.
    """

    wait: float | None = None
    spread: float = 0.0
    rate: float | None = None
    failures: int = 0
    open_until: float | None = None
    lie: str = ""

    def brought(self, size: int, seconds: float, wait: float) -> Score:
        """A try that brought `size` verified bytes in `seconds`, of which `wait` passed at most between two blocks."""
        known = replace(self._waited(wait), failures=0, open_until=None)
        if size < RATED_BYTES and seconds < RATED_SECONDS:
            return known
        rate = size / max(seconds, 1e-3)
        return replace(known, rate=rate if self.rate is None else _mix(self.rate, rate))

    def silent(self, seconds: float) -> Score:
        """A try that was ended after `seconds` without a block, because another source was faster; no failure."""
        return self._waited(seconds)

    def failed(self, now: float) -> Score:
        """A try that brought nothing, by the source's fault."""
        failures = self.failures + 1
        return replace(self, failures=failures, open_until=now + OPEN_SECONDS if failures >= OPEN_AFTER else None)

    def lied(self, what: str) -> Score:
        """It sent bytes that nobody asked for, or that are not what they are called."""
        return replace(self, lie=what)

    def may_try(self, now: float) -> bool:
        """Whether to ask it. After an open circuit's time the next try is the probe: one failure opens it again."""
        return not self.lie and (self.open_until is None or now >= self.open_until)

    def order(self) -> tuple[int, float]:
        """Smaller is better: those that failed lately last, then by the seconds that a typical DAG would take."""
        wait = UNKNOWN_WAIT if self.wait is None else self.wait
        rate = UNKNOWN_RATE if self.rate is None else self.rate
        return self.failures, wait + TYPICAL_BYTES / max(rate, 1.0)

    def hedge_after(self, default: float, longest_wait: float = 0.0) -> float:
        """Seconds without a block after which another source is asked too: nearly all its waits (p95) were shorter.

        default: those of an unknown source. longest_wait: of the try that is under way.
        """
        usual = default if self.wait is None else max(SHORTEST_HEDGE_SECONDS, self.wait + 2 * self.spread)
        return min(max(usual, LONGER_WAIT * longest_wait), max(SHORTEST_HEDGE_SECONDS, LONGEST_HEDGE * default))

    def _waited(self, seconds: float) -> Score:
        if self.wait is None:
            return replace(self, wait=seconds, spread=seconds / 2)
        return replace(self, wait=_mix(self.wait, seconds), spread=_mix(self.spread, abs(seconds - self.wait)))


def _mix(average: float, newest: float) -> float:
    return (1 - WEIGHT) * average + WEIGHT * newest
