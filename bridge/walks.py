"""How far each unfinished upload has been looked through, and how often one caller may have that begun anew.

To look through a DAG costs what its bytes cost. Each call about an upload would pay that again, for however little it
brings, so what was looked at is remembered between calls; where it is not remembered any more, the walk from the root
on is counted against whoever asks.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from bridge.errors import AskedTooOften
from bridge.store.content import uploader_of
from executor.content.walk import Frontier
from executor.protocol.cid import Cid

AGAIN_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 120.0
MOST_WALKS: Final = 1000
MOST_CIDS: Final = 1_000_000
"""In all walks that are remembered; each takes about 150 bytes."""
BURST_BYTES: Final = 256 * 2**20
"""What one uploader may have walked through anew at any time."""
BYTES_PER_SECOND: Final = 2 * 2**20
"""What he may have walked through anew in the long run."""


@dataclass(slots=True)
class Walk:
    """What is known of one upload.

    frontier: while something is missing. whole: how many blocks its owner had when nothing was. below: the CIDs of the
    whole DAG, where somebody asked for one of them; what is below a root never changes.
    """

    frontier: Frontier | None = None
    whole: int | None = None
    below: Collection[Cid] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def cids(self) -> int:
        """How many it keeps in memory."""
        unfinished = 0 if self.frontier is None else self.frontier.looked_at + self.frontier.waiting
        return unfinished + len(self.below)


class Walks:
    """The walks that were used last. Any thread."""

    def __init__(self, most_cids: int = MOST_CIDS, most_walks: int = MOST_WALKS) -> None:
        self._most_cids = most_cids
        self._most_walks = most_walks
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, Cid], Walk] = OrderedDict()

    @contextmanager
    def of(self, owner: str, root: Cid, *, waits: bool = True) -> Iterator[Walk]:
        """The walk of an upload, or a new one; one thread at a time.

        AskedTooOften where another is at it, at once or, where this one `waits`, for very long.
        """
        with self._lock:
            walk = self._known.setdefault((owner, root), Walk())
            self._known.move_to_end((owner, root))
        if not walk.lock.acquire(timeout=WAIT_SECONDS if waits else 0):
            raise AskedTooOften(AGAIN_SECONDS)
        try:
            yield walk
        finally:
            walk.lock.release()
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        """Where there are too many, of the uploader that has most of them: nobody makes us forget those of others."""
        with self._lock:
            while True:
                cids: Counter[str] = Counter()
                walks: Counter[str] = Counter()
                for (owner, _), walk in self._known.items():
                    cids[uploader_of(owner)] += walk.cids
                    walks[uploader_of(owner)] += 1
                if cids.total() <= self._most_cids and walks.total() <= self._most_walks:
                    return
                [(most, _)] = (cids if cids.total() > self._most_cids else walks).most_common(1)
                del self._known[next(key for key in self._known if uploader_of(key[0]) == most)]


class Budget:
    """Bytes that each uploader may have walked through anew: a debt that time pays off. Any thread."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        burst: int = BURST_BYTES,
        per_second: int = BYTES_PER_SECOND,
    ) -> None:
        self._monotonic = monotonic
        self._burst = burst
        self._per_second = per_second
        self._lock = threading.Lock()
        self._paid_at: dict[str, float] = {}

    def wait(self, who: str) -> float:
        """Seconds until one more walk may begin; 0: now."""
        with self._lock:
            return self._wait(who, self._monotonic())

    def take(self, who: str, size: int) -> float:
        """Count a walk over so many bytes: 0. Or seconds until one may begin, and nothing is counted.

        A walk larger than the burst may begin too, where little is owed; one over nothing always.
        """
        with self._lock:
            now = self._monotonic()
            self._paid_at = {key: at for key, at in self._paid_at.items() if at > now}
            later = self._wait(who, now) if size else 0.0
            if not later:
                self._paid_at[who] = self._paid_at.get(who, now) + size / self._per_second
            return later

    def _wait(self, who: str, now: float) -> float:
        return max(0.0, self._paid_at.get(who, now) - now - self._burst / self._per_second)
