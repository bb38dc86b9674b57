"""Measures a fetch while it runs, by what its attempts tell. Used by the threads of a retriever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from bridge.canary.records import Fault
from executor.content.attempt import STALLED, Attempt

_NEARLY: Final = 0.9
"""Of the time after which a source is dropped: it may notice its own silence a little earlier."""
_SHOWN: Final = 200


class Stopwatch:
    """Starts when it is made. patience: seconds without a block after which a source is dropped. See `Watcher`.

    first_seconds, stall_seconds, stall_at, bytes, attempts: as of a `Fetch`, up to now.
    """

    def __init__(self, patience: float, timer: Callable[[], float] = time.monotonic) -> None:
        self.first_seconds: float | None = None
        self.stall_seconds = 0.0
        self.stall_at = 0
        self.bytes = 0
        self.attempts = 0
        self._patience = patience
        self._timer = timer
        self._lock = threading.Lock()
        self._started = self._last = timer()
        self._brought: dict[Attempt, int] = {}
        self._lie = ""
        self._end: Attempt | None = None
        self._silence = 0.0

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return self._timer() - self._started

    def began(self, attempt: Attempt) -> None:
        """See `Watcher`."""
        with self._lock:
            self.attempts += 1
            self._brought[attempt] = 0

    def brought(self, attempt: Attempt, total: int) -> None:
        """See `Watcher`."""
        with self._lock:
            now = self._timer()
            if self.first_seconds is None:
                self.first_seconds = now - self._started
            else:
                self._stood(now)
            self.bytes += total - self._brought[attempt]
            self._brought[attempt] = total
            self._last = now

    def ended(self, attempt: Attempt) -> None:
        """See `Watcher`."""
        with self._lock:
            if attempt.failure is None:
                return
            if attempt.has_lied:
                self._lie = _said(attempt)
            self._silence = time.monotonic() - attempt.last_progress
            self._end = attempt

    def gave_up(self) -> None:
        """The content did not come whole: the time since the last block counts as well."""
        with self._lock:
            if self.first_seconds is not None:
                self._stood(self._timer())

    def shares(self) -> tuple[tuple[str, int], ...]:
        """Verified bytes by source."""
        with self._lock:
            shares: dict[str, int] = {}
            for attempt, size in self._brought.items():
                shares[attempt.source.name] = shares.get(attempt.source.name, 0) + size
        return tuple(shares.items())

    def fault(self, otherwise: str) -> tuple[Fault, str]:
        """What was wrong with the source, or with the last of several, and in which words."""
        if self._lie:
            return Fault.WRONG_BYTES, self._lie
        if self._end is None:
            return Fault.FAILED, otherwise[:_SHOWN]
        if self._end.has_it_not:
            return Fault.LACKS, ""
        if self._silence >= _NEARLY * self._patience:
            return Fault.STALLED, ""
        if self._end.ended_for not in ("", STALLED):
            return Fault.FAILED, f"not whole in {self.seconds:.0f} s"
        return Fault.FAILED, _said(self._end)

    def _stood(self, now: float) -> None:
        if now - self._last > self.stall_seconds:
            self.stall_seconds, self.stall_at = now - self._last, self.bytes


def _said(attempt: Attempt) -> str:
    """The words of a failure, on one line, without the source's name, which the line has already."""
    words = attempt.ended_for or " ".join(str(attempt.failure).split())
    return words.removeprefix(f"{attempt.source.name} ")[:_SHOWN]
