"""Retries: bounded in number and in time, jittered, and only for the exceptions that the caller names.

The only importer of tenacity. A loop that polls needs no retry of its own; this is for one-off calls at start-up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import tenacity

T = TypeVar("T")


def retry_call(
    fn: Callable[[], T],
    *,
    on: tuple[type[Exception], ...],
    attempts: int,
    deadline_seconds: float,
    first_wait_seconds: float = 0.25,
    longest_wait_seconds: float = 10.0,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """`fn()`, tried up to `attempts` times within `deadline_seconds` while it raises one of `on`.

    Waits grow exponentially with full jitter. The last error is raised as it is. Tests hand in their own `sleep`.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(on),
        stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_before_delay(deadline_seconds),
        wait=tenacity.wait_random_exponential(multiplier=first_wait_seconds, max=longest_wait_seconds),
        sleep=sleep,
        reraise=True,
    )
    return retrying(fn)
