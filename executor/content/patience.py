"""How long to keep trying: one deadline, growing pauses, and only for errors that a later try can mend."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from executor.errors import PeerUnavailable

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True)
class Patience:
    """Until when to try. `deadline` is a time of `clock`; `pause` waits (and may raise to end everything).

    stubborn: seconds after which nothing is tried again that has brought nothing forward meanwhile.
    """

    deadline: float
    clock: Callable[[], float] = time.time
    pause: Callable[[float], object] = time.sleep
    stubborn: float = math.inf

    @property
    def left(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.deadline - self.clock())

    def rest(self, tries: int, at_least: float = 0.0) -> bool:
        """Pause after the `tries`-th failure in a row (from 1), `at_least` so many seconds.

        False, without a pause, when the time would be over.
        """
        seconds = max(at_least, min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (min(tries, 10) - 1)))
        if self.left <= seconds:
            return False
        self.pause(seconds)
        return True

    def persist(self, call: Callable[[], T]) -> T:
        """Call until it does not raise PeerUnavailable, no sooner than the peer asks to be called again.

        The last one when the time is over, or `stubborn` is; at once where the peer asks for longer than that.
        """
        tries, began = 0, self.clock()
        while True:
            try:
                return call()
            except PeerUnavailable as exc:
                tries += 1
                if self.clock() - began + exc.retry_after >= self.stubborn or not self.rest(tries, exc.retry_after):
                    raise
