"""Ending what another thread does on the network, at once, also while it waits for a peer that is silent.

`cancel.now()` shuts down the socket that the thread waits on, which wakes it, and whatever it begins afterwards inside
the scope fails. The thread itself then closes its sockets, as after any other failure. The look-up of a host's name
cannot be ended; it takes as long as the system's resolver lets it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_thread = threading.local()


class Cancelled(ConnectionError):
    """The work that this connection was for is not wanted any longer."""


class Cancel:
    """For one thread at a time: it works inside `scope()`, and any other thread ends that by `now()`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = False
        self._waits_on: socket.socket | None = None

    @property
    def done(self) -> bool:
        """Whether it was cancelled."""
        return self._done

    def now(self) -> None:
        """End it. The lock keeps the socket open meanwhile, so that no other one with its number is meant."""
        with self._lock:
            self._done = True
            if self._waits_on is not None:
                with suppress(OSError):
                    socket.socket.shutdown(self._waits_on, socket.SHUT_RDWR)  # an SSLSocket's own drops its TLS state

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What this thread does on the network inside can be cancelled."""
        before = getattr(_thread, "cancel", None)
        _thread.cancel = self
        try:
            yield
        finally:
            _thread.cancel = before

    @contextmanager
    def waiting(self, on: socket.socket) -> Iterator[None]:
        """Around each wait on a socket; Cancelled where it is too late for that."""
        with self._lock:
            if self._done:
                raise Cancelled("cancelled")
            self._waits_on = on
        try:
            yield
        finally:
            with self._lock:
                self._waits_on = None


@contextmanager
def cancellable(on: socket.socket) -> Iterator[None]:
    """A wait on a socket that ends when this thread's scope, if it is in one, is cancelled."""
    cancel: Cancel | None = getattr(_thread, "cancel", None)
    if cancel is None:
        yield
        return
    with cancel.waiting(on):
        yield
