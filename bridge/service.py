"""The bridge's loops: a thread for each, when it steps, waits, backs off and stops. Decisions are elsewhere."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from bridge.errors import BridgeError, FatalError, RpcUnavailable
from bridge.repeats import Repeats
from executor.errors import InsulaError

log = structlog.get_logger("bridge.service")

BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
MAX_UNEXPECTED = 20  # failures in a row that nobody foresaw (a full disk is foreseen); then the process ends


def collect_seldom() -> None:
    """Have Python's garbage collector look seldom. For a process of its own: all threads share the collector.

    A range of history is some hundred thousand small objects that are all needed until it is stored; by default they
    are looked at again and again, a seventh of the time that reading takes. What is here at the start stays.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class Steps(Protocol):
    """A loop's body: does one piece of work, says whether there was any."""

    def step(self) -> bool:
        """Do one piece of work."""
        ...


@dataclass
class LoopState:
    """What `/v1/status` tells of a loop. Times are seconds since 1970."""

    name: str
    last_step_at: float = 0.0
    failing_since: float | None = None
    last_error: str = ""
    failures_in_a_row: int = 0


@dataclass
class Loop:
    """One thread that steps until it is told to stop."""

    name: str
    body: Steps
    idle_seconds: float
    stop: threading.Event
    on_fatal: Callable[[str, BaseException], None]
    on_busy: Callable[[], None] = lambda: None  # what one loop did is work for the others
    wake: threading.Event = field(default_factory=threading.Event)
    state: LoopState = field(init=False)

    def __post_init__(self) -> None:
        self.state = LoopState(self.name)
        self._unforeseen = 0  # in a row
        self._repeats = Repeats()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait for the thread's end; whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self.stop.is_set():
            pause = self._step()
            if pause > 0:
                self.wake.wait(pause)
            self.wake.clear()

    def _step(self) -> float:
        """One step; how many seconds to wait before the next."""
        try:
            busy = self.body.step()
        except FatalError as exc:
            self.on_fatal(self.name, exc)
            return 0.0
        except (
            RpcUnavailable,
            BridgeError,
            InsulaError,
            OSError,
        ) as exc:  # OSError: no disk, descriptor or memory left
            return self._failed(exc, expected=True)
        except Exception as exc:  # noqa: BLE001 - the top of a loop: a fault in one job must not stop the others
            return self._failed(exc, expected=False)
        self.state.last_step_at = time.time()
        self.state.failures_in_a_row = self._unforeseen = 0
        self.state.failing_since = None
        if busy:
            self.on_busy()
        return 0.0 if busy else self.idle_seconds

    def _failed(self, exc: Exception, *, expected: bool) -> float:
        self.state.failures_in_a_row += 1
        self.state.failing_since = self.state.failing_since or time.time()
        self.state.last_error = f"{type(exc).__name__}: {exc}"[:500]
        count = self.state.failures_in_a_row
        self._unforeseen = 0 if expected else self._unforeseen + 1
        log.warning(
            "step failed",
            loop=self.name,
            error=self.state.last_error,
            failures_in_a_row=count,
            exc_info=None if expected or self._repeats.count(exc) > 1 else exc,
        )
        if self._unforeseen >= MAX_UNEXPECTED:
            self.on_fatal(self.name, exc)
            return 0.0
        return BACKOFF_SECONDS[min(count, len(BACKOFF_SECONDS)) - 1]


class Threads:
    """The loops of one process. `run` returns when `stop` is set; it raises what ended a loop for good."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.loops: list[Loop] = []
        self._fatal: tuple[str, BaseException] | None = None

    def add(self, name: str, body: Steps, idle_seconds: float) -> Loop:
        """Add a loop; it starts with `run`."""
        loop = Loop(name, body, idle_seconds, self.stop, self._on_fatal, self.wake)
        self.loops.append(loop)
        return loop

    def wake(self) -> None:
        """Let every waiting loop look again now."""
        for loop in self.loops:
            loop.wake.set()

    def run(self) -> None:
        """Start all loops and wait for the end."""
        for loop in self.loops:
            loop.start()
        self.stop.wait()
        self.wake()
        for loop in self.loops:
            if not loop.join(10.0):
                log.warning("loop did not end in time", loop=loop.name)
        if self._fatal is not None:
            name, error = self._fatal
            raise FatalError(f"{name}: {error}") from error

    def states(self) -> list[dict[str, Any]]:
        """What each loop last did."""
        return [vars(loop.state) for loop in self.loops]

    def fail(self, name: str, error: BaseException) -> None:
        """End everything because of a part that is no loop."""
        self._on_fatal(name, error)

    def _on_fatal(self, name: str, error: BaseException) -> None:
        log.error("stopping: a human is needed", loop=name, error=str(error))
        self._fatal = (name, error)
        self.stop.set()
