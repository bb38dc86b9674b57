"""What a benchmark is, and how its two sides are timed."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass


class Unavailable(Exception):
    """What a benchmark needs is not on this machine; says how to get it."""


@dataclass(frozen=True)
class Prepared:
    """An action before which something is made ready, which is not timed; `act` takes what `prepare` returns."""

    prepare: Callable[[], object]
    act: Callable[[object], object]


@dataclass(frozen=True)
class Counted:
    """Stands where seconds are measured, for what is counted instead."""

    count: Callable[[], float]


Action = Callable[[], object] | Prepared | Counted


@dataclass(frozen=True)
class Benchmark:
    """Two ways to do the same thing. `set_up` gives (ours, baseline). at_most: the ratio that is aimed at."""

    name: str
    baseline: str
    set_up: Callable[[ExitStack], tuple[Action, Action]]
    at_most: float | None = None
    rounds: int = 5


def seconds_of(action: Action) -> float:
    if isinstance(action, Counted):
        return action.count()
    if isinstance(action, Prepared):
        ready = action.prepare()
        started = time.perf_counter()
        action.act(ready)
        return time.perf_counter() - started
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
