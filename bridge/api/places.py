"""How many uploads a bridge takes in at once. Nobody waits for a place: who gets none is told when to come again.

Those of one key are stored one after the other: what it may still store is looked at first, and counted last.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool

from bridge.api.problems import Problem

UPLOADS_AT_ONCE = 16  # each may keep a body of MAX_CAR_BYTES on disk
UPLOADS_PER_KEY = 4
AGAIN_SECONDS = 5
TURN_SECONDS = 60.0

T = TypeVar("T")


class UploadPlaces:
    """Places for bodies of keys that have proved to be who they are. Used by the server's one thread."""

    def __init__(self, most: int = UPLOADS_AT_ONCE, per_key: int = UPLOADS_PER_KEY) -> None:
        self._most = most
        self._per_key = per_key
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, key: str) -> Iterator[None]:
        """A place while inside. Problem 429 where the key has its share, 503 where none is left; never a wait."""
        if self._taken[key] >= self._per_key:
            raise _later(429, f"{key} has {self._per_key} uploads under way, and that is its share")
        if self._taken.total() >= self._most:
            raise _later(503, f"{self._most} uploads are under way, and no more are taken in at once")
        self._taken[key] += 1
        try:
            yield
        finally:
            self._taken[key] -= 1
            self._taken += Counter()  # drops those that have none


class KeyTurns:
    """What changes how much a key has stored, one call at a time. Who waits takes no thread. For one event loop."""

    def __init__(self, wait_seconds: float = TURN_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, key: str, act: Callable[[], T]) -> T:
        """`act` in a thread, when no other one of this key is under way. Problem 429 where that takes too long."""
        turn = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn.acquire()
        except TimeoutError as exc:
            raise _later(429, f"what {key} sent before is still being stored") from exc
        try:
            return await run_in_threadpool(act)
        finally:
            turn.release()


def _later(status: int, why: str) -> Problem:
    problem = Problem(status, "too-many-uploads", "too many uploads", f"{why}; try again in {AGAIN_SECONDS} s")
    problem.headers.update({"Retry-After": str(AGAIN_SECONDS), "Connection": "close"})
    return problem
