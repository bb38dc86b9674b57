"""The HTTP servers of bridge and node: what one connection may cost, how many there are, a stop from another thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from executor.crowd import Crowd, open_door
from executor.errors import InvalidInput

log = structlog.get_logger("insula.http")

STOP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """header_seconds: from a connection's start to the end of its headers; keep_alive_seconds more between two calls.
    stall_seconds: without the other side taking any byte of an answer. connection_seconds: for all calls of one
    connection; None: no limit. backlog: connections that wait to be accepted.
    """

    header_seconds: float = 15.0
    keep_alive_seconds: int = 10
    stall_seconds: float = 60.0
    connection_seconds: float | None = None
    header_bytes: int = 32 * 1024
    backlog: int = 256


class Server(uvicorn.Server):
    """uvicorn's server behind a door that bounds the crowd."""

    def __init__(self, config: uvicorn.Config, crowd: Crowd) -> None:
        super().__init__(config)
        self.crowd = crowd

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit`. SystemExit where the address cannot be had."""
        super().run([open_door(found, self.crowd) for found in sockets or [self.config.bind_socket()]])


def make_server(app: Any, crowd: Crowd, limits: Limits, host: str = "127.0.0.1", port: int = 0) -> Server:
    """A server that is not started yet: `server.run()` in a thread of its own; `server.should_exit = True` stops it.

    Once `server.started` is true, `port_of(server)` is its port (port 0 takes a free one).
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=partial(_Protocol, crowd=crowd, limits=limits),  # type: ignore[arg-type]  # it is called, as a class is
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.keep_alive_seconds,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=limits.header_bytes,
        backlog=limits.backlog,
    )
    return Server(config, crowd)


def port_of(server: uvicorn.Server) -> int:
    """The port that a started server listens on."""
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def listen(host: str, port: int, field: str, backlog: int) -> socket.socket:
    """A socket that listens there. InvalidInput(field) where the address cannot be had."""
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        door = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as exc:
        raise InvalidInput(field, f"{host!r} is no address of this machine ({exc})") from exc
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
        door.listen(backlog)  # at once: until then another process could still take the port
    except OSError as exc:
        door.close()
        problem = f"{host}:{port} cannot be had ({exc.strerror}); choose another port, or 0 for none"
        raise InvalidInput(field, problem) from exc
    return door


class ThreadServer:
    """Serves `app` on a listening socket in a thread of its own, to at most `most` connections.

    Nothing that happens there ends the program: the thread ends with a warning that names the server.
    """

    def __init__(self, name: str, app: Any, door: socket.socket, most: int, limits: Limits) -> None:
        self._name = name
        self._door = door
        self._server = make_server(app, Crowd(most), limits)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

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
            log.warning("a server has ended; the program goes on", server=self._name, error=what)


class _Protocol(H11Protocol):
    """uvicorn's protocol, with deadlines for whole headers and for an answer that nobody takes (slowloris)."""

    def __init__(self, *, crowd: Crowd, limits: Limits, **rest: Any) -> None:
        super().__init__(**rest)
        self._crowd = crowd
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._whole: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self._limits.header_seconds, self._too_slow)
        if self._limits.connection_seconds is not None:
            self._whole = self.loop.call_later(self._limits.connection_seconds, transport.abort)
        self._crowd.idle(self, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.lost(self)
        for timer in (self._deadline, self._stalled, self._whole):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._cancel()
            self._mark()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._cancel()
            seconds = self._limits.keep_alive_seconds + self._limits.header_seconds
            self._deadline = self.loop.call_later(seconds, self._too_slow)
            self._mark()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self._limits.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _mark(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._crowd.idle(self, self.transport.abort)
        else:
            self._crowd.busy(self)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self.transport.close()
