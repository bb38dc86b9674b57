"""Whether a source at work is far slower than another may be, and which of those at work goes on. Pure.

Silence alone says too little: whoever brings a block each time just before others would be asked holds a transfer for
hours. What counts here are verified bytes that were not in the store. Times are handed in, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

WINDOW_SECONDS: Final = 8.0
"""For which a rate is measured: at those that are too slow for a source of which nothing is known, up to four blocks of
1 MiB fall into it."""
LEAST_SHARE: Final = 0.125
"""Of a window: whoever has been at work for less is rated as over so long, or one block at once would win any race."""
SLOW_SHARE: Final = 0.25
"""Who brings less than this share of what another may bring is raced; for less of a gain no block is brought twice."""
UNKNOWN_HOPE: Final = 2.0 * 2**20
"""Bytes a second that a source may bring of which nothing is known: a line of 16 Mbit/s, as most have."""
LEAST_HOPE: Final = 256.0 * 2**10
"""The same of one that is known, however slow it was: it may have been busy. So whoever brings less than 64 KiB/s, at
which a GiB takes nearly five hours, is raced with all that are listed."""


@dataclass(slots=True)
class Measured:
    """Bytes a second, `rate`, in the last whole window; None where none has passed. since: when this one began, and
    before: the bytes until then.
    """

    since: float
    before: int = 0
    rate: float | None = None

    def look(self, now: float, total: int, window: float) -> bool:
        """Take note of all bytes until now; whether a window has just ended."""
        if now - self.since < window:
            return False
        self.rate = (total - self.before) / (now - self.since)
        self.since, self.before = now, total
        return True


@dataclass(frozen=True, slots=True)
class Runner:
    """One of those at work. overall: its bytes a second since it began, the wait for a connection included. rate: of
    its last window. is_slow: another is asked because of it. leads: it brought a block since then.
    """

    overall: float
    rate: float | None
    is_slow: bool
    leads: bool


def overall(size: int, seconds: float, window: float) -> float:
    """Bytes a second of one that brought `size` bytes in `seconds` since it began."""
    return size / max(seconds, LEAST_SHARE * window)


def hope(known: float | None) -> float:
    """Bytes a second that a source may bring, of which this is known."""
    return UNKNOWN_HOPE if known is None else max(known, LEAST_HOPE)


def is_slow(rate: float | None, hopes: Iterable[float]) -> bool:
    """Whether one of the others may be so much faster that it is worth a race."""
    return rate is not None and any(rate < SLOW_SHARE * other for other in hopes)


def winner(runners: Sequence[Runner]) -> int | None:
    """Which of several goes on where one of them is slow; None while that is open.

    A block that a slow one brings meanwhile decides nothing. Another must have been faster, all in all; where none was
    and each was measured, the fastest goes on, slow as it is.
    """
    to_beat = max((one.rate or 0.0 for one in runners if one.is_slow), default=0.0)
    faster = [n for n, one in enumerate(runners) if one.leads and not one.is_slow and one.overall > to_beat]
    if faster:
        return max(faster, key=lambda n: runners[n].overall)
    rates = [one.rate for one in runners if one.rate is not None]
    return rates.index(max(rates)) if len(rates) == len(runners) > 1 else None
