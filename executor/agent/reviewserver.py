"""The HTTP server of a node's review API: 127.0.0.1, few connections, a deadline for each, a thread of its own.

Nothing that happens here ends the node: its loop goes on, and reviewers can still work in its folder.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from functools import partial
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from executor.errors import InvalidInput

log = structlog.get_logger("insula.node")

HOST = "127.0.0.1"
MOST_CONNECTIONS = 32
HEADER_SECONDS = 10.0  # from a connection's start to the end of its headers
STALL_SECONDS = 30.0  # without the other side taking any byte of an answer
CONNECTION_SECONDS = 900.0  # for a whole call, the bytes of a file among them
MAX_HEADER_BYTES = 16 * 1024
BACKLOG = 64  # connections that wait to be accepted
STOP_SECONDS = 5


def listen(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1. InvalidInput("review_port")."""
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((HOST, port))
        door.listen(BACKLOG)  # at once: until then another process could still take the port
    except OSError as exc:
        door.close()
        problem = f"{HOST}:{port} cannot be had ({exc.strerror}); choose another port, or 0 for none"
        raise InvalidInput("review_port", problem) from exc
    return door


class ReviewServer:
    """Serves `app` on a listening socket, which stays the caller's to close."""

    def __init__(self, app: Any, door: socket.socket) -> None:
        self._door = door
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=partial(_Protocol, waiting={}),  # type: ignore[arg-type]  # it is called, as a class is
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=STOP_SECONDS,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                backlog=BACKLOG,
            )
        )
        self._thread = threading.Thread(target=self._run, name="review-api", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more, and wait a few seconds for what is being answered."""
        self._server.should_exit = True
        self._thread.join(2 * STOP_SECONDS)

    def _run(self) -> None:
        try:
            self._server.run([self._door])
        except (SystemExit, OSError, RuntimeError) as exc:
            what = f"{type(exc).__name__}: {exc}"
            log.warning("the review API has ended; the node goes on", error=what)


class _Protocol(H11Protocol):
    """uvicorn's protocol for one call per connection, with its deadlines.

    waiting: the connections that have not asked for anything yet, oldest first; where there are too many connections
    the oldest of these makes room.
    """

    def __init__(self, *, waiting: dict[object, asyncio.Transport], **rest: Any) -> None:
        super().__init__(**rest)
        self._waiting = waiting
        self._timers: list[asyncio.TimerHandle] = []
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._waiting[self] = transport
        self._timers = [
            self.loop.call_later(HEADER_SECONDS, self._too_slow),
            self.loop.call_later(CONNECTION_SECONDS, transport.abort),
        ]
        if len(self.connections) > MOST_CONNECTIONS:
            oldest = next(iter(self._waiting))
            self._waiting.pop(oldest).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.pop(self, None)
        for timer in [*self._timers, *([self._stalled] if self._stalled else [])]:
            timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None:
            self._waiting.pop(self, None)
            self._timers[0].cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _too_slow(self) -> None:
        self.transport.abort()
