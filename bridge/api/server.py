"""The HTTP server: limits on what one connection may cost, and a start and stop from another thread."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from bridge.api.crowd import Crowd, connections_within, open_door, raise_file_limit
from bridge.repeats import TellOnce

log = structlog.get_logger("bridge.api")

HEADER_SECONDS = 15.0  # from a connection's start to the end of its headers; KEEP_ALIVE_SECONDS more between calls
KEEP_ALIVE_SECONDS = 10
STALL_SECONDS = 60.0  # without the other side taking any byte of an answer
MAX_HEADER_BYTES = 32 * 1024
BACKLOG = 256  # connections that wait to be accepted
STOP_SECONDS = 5
_told_once = TellOnce()


class _Protocol(H11Protocol):
    """uvicorn's protocol, with deadlines for whole headers and for an answer that nobody takes (slowloris)."""

    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def __init__(self, *, crowd: Crowd, **rest: Any) -> None:
        super().__init__(**rest)
        self._crowd = crowd

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)
        self._crowd.idle(self, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        self._crowd.lost(self)
        if self._stalled is not None:
            self._stalled.cancel()
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
            self._deadline = self.loop.call_later(KEEP_ALIVE_SECONDS + HEADER_SECONDS, self._too_slow)
            self._mark()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

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


class Server(uvicorn.Server):
    """uvicorn's server behind a door that bounds the crowd."""

    def __init__(self, config: uvicorn.Config, crowd: Crowd) -> None:
        super().__init__(config)
        self.crowd = crowd

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit`. SystemExit where the address cannot be had."""
        super().run(sockets or [open_door(self.config.bind_socket(), self.crowd)])


def run_server(app: FastAPI, host: str, port: int) -> Server:
    """A server that is not started yet: `server.run()` in a thread of its own; `server.should_exit = True` stops it.

    Raises this process's limit of open files, and holds as many connections as that leaves room for.

    Once `server.started` is true, `port_of(server)` is its port (port 0 takes a free one).
    """
    files = raise_file_limit()
    crowd = Crowd(connections_within(files))
    log.info("connections bounded", most=crowd.most, open_files=files)
    for name in ("asyncio", "uvicorn.error"):
        logging.getLogger(name).addFilter(_told_once)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=partial(_Protocol, crowd=crowd),  # type: ignore[arg-type]  # it is called, as a class is
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        backlog=BACKLOG,
    )
    return Server(config, crowd)


def port_of(server: uvicorn.Server) -> int:
    """The port that a started server listens on."""
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port
