"""Sockets that can neither hang nor pass more than they may."""

from __future__ import annotations

import hashlib
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

CHUNK: Final = 64 * 1024
SILENCE_SECONDS: Final = 15.0
"""No byte for this long ends an exchange."""
_TICK: Final = 0.05
"""Timers end a little early now and then."""


class Cut(Exception):
    """The exchange ends here. The message says why."""


@dataclass
class Budget:
    """The bytes that one execution may still pass, both ways; shared by all its connections."""

    out: int
    into: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def spend_out(self, count: int) -> None:
        """Bytes are about to leave. Cut where they are too many."""
        with self._lock:
            if count > self.out:
                raise Cut("the job's bytes out are used up")
            self.out -= count

    def spend_in(self, count: int) -> None:
        """Bytes came in. Cut where they are too many."""
        with self._lock:
            if count > self.into:
                raise Cut("the job's bytes in are used up")
            self.into -= count


@dataclass
class Deadline:
    """When an exchange has to be over, whatever drips. clock: seconds, monotonic."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    _end: float = 0.0

    def __post_init__(self) -> None:
        self._end = self.clock() + self.seconds

    def left(self, most: float = SILENCE_SECONDS) -> float:
        """Seconds for the next wait, at most `most`. Cut where none is left."""
        left = self._end - self.clock()
        if left <= 0:
            raise self.over("")
        return min(left, most)

    def over(self, problem: str) -> Cut:
        """What ended a wait that was in vain: the deadline, or `problem`."""
        if self._end - self.clock() <= _TICK:
            return Cut(f"still open after {self.seconds:g} s")
        return Cut(problem)


@dataclass
class Line:
    """One connection, with the exchange's deadline on every wait."""

    socket: socket.socket
    deadline: Deadline

    def receive(self, most: int = CHUNK) -> bytes:
        """The next bytes, b"" at the end. Cut where none come in time, or the connection breaks."""
        try:
            self.socket.settimeout(self.deadline.left())
            return self.socket.recv(most)
        except TimeoutError as exc:
            raise self.deadline.over("silent for too long") from exc
        except OSError as exc:
            raise Cut("the connection broke") from exc

    def send(self, data: bytes) -> None:
        """All of it. Cut."""
        try:
            self.socket.settimeout(self.deadline.left())
            self.socket.sendall(data)
        except TimeoutError as exc:
            raise self.deadline.over("takes nothing for too long") from exc
        except OSError as exc:
            raise Cut("the connection broke") from exc


class Flow:
    """One direction of a tunnel: at most CHUNK bytes are on their way."""

    def __init__(self, source: socket.socket, sink: socket.socket, spend: Callable[[int], None]) -> None:
        self.source = source
        self.sink = sink
        self.count = 0
        self.digest = hashlib.sha256()
        self._spend = spend
        self._pending = b""
        self._ended = False
        self._closed = False

    @property
    def is_over(self) -> bool:
        """Whether it has ended and all has arrived."""
        return self._closed

    @property
    def wants(self) -> tuple[socket.socket | None, socket.socket | None]:
        """What it waits for: a source to read from, a sink to write to."""
        if self._pending:
            return None, self.sink
        return (None if self._ended else self.source), None

    def passed(self, data: bytes) -> bytes:
        """Count bytes of the source that go their way; the same bytes. Cut."""
        self._spend(len(data))
        self.count += len(data)
        self.digest.update(data)
        return data

    def take(self, data: bytes) -> None:
        """Bytes of the source to pass on, b"" at its end. Cut."""
        self._pending = self.passed(data)
        if not data:
            self._ended = True
            self._close()

    def move(self, readable: list[socket.socket], writable: list[socket.socket]) -> None:
        """Read or write what can be without waiting. OSError."""
        if self._pending and self.sink in writable:
            self._pending = self._pending[self.sink.send(self._pending) :]
        elif not self._pending and not self._ended and self.source in readable:
            self.take(self.source.recv(CHUNK))

    def _close(self) -> None:
        self._closed = True
        try:
            self.sink.shutdown(socket.SHUT_WR)
        except OSError:  # the other side went first
            return


def pump(out: Flow, into: Flow, deadline: Deadline) -> None:
    """Pass bytes both ways until both have ended. Cut."""
    for end in (out.source, out.sink):
        end.setblocking(False)
    while not (out.is_over and into.is_over):
        wanted = [flow.wants for flow in (out, into)]
        reads = [source for source, _ in wanted if source is not None]
        writes = [sink for _, sink in wanted if sink is not None]
        readable, writable, _ = select.select(reads, writes, [], deadline.left())
        if not readable and not writable:
            raise deadline.over("silent for too long")
        try:
            out.move(readable, writable)
            into.move(readable, writable)
        except BlockingIOError:
            continue
        except OSError as exc:
            raise Cut("the connection broke") from exc
