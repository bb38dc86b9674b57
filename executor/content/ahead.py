"""Long work on a stream of things in a few threads: hashing and reading let go of Python's lock meanwhile."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

THREADS: Final = max(1, min(4, os.cpu_count() or 1))
LONG_BYTES: Final = 256 * 1024
"""To hash fewer bytes than this takes less time than to hand them to a thread and back."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(act: Callable[[Item], Result], items: Iterable[Item], is_long: Callable[[Item], bool]) -> Iterator[Result]:
    """`act` of each item, in their order; an error of `act` comes in its place. Takes up to THREADS items ahead.

    One that comes alone, or is not long, is done by the caller's own thread, so that a small file starts no thread.
    """
    begun: deque[Callable[[], Result]] = deque()
    pool: ThreadPoolExecutor | None = None
    try:
        for item in items:
            if begun and is_long(item):
                pool = pool or ThreadPoolExecutor(THREADS, thread_name_prefix="blocks")
                begun.append(pool.submit(act, item).result)
            else:
                begun.append(partial(act, item))
            if len(begun) > THREADS:
                yield begun.popleft()()
        while begun:
            yield begun.popleft()()
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
