"""The HTTP server: limits on what one connection may cost, and a start and stop from another thread."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 15.0  # from a connection's start to the end of its headers; KEEP_ALIVE_SECONDS more between calls
KEEP_ALIVE_SECONDS = 10
STALL_SECONDS = 60.0  # without the other side taking any byte of an answer
MAX_HEADER_BYTES = 32 * 1024
MAX_CONNECTIONS = 2000
STOP_SECONDS = 5


class _Protocol(H11Protocol):
    """uvicorn's protocol, with deadlines for whole headers and for an answer that nobody takes (slowloris)."""

    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._cancel()
            self._deadline = self.loop.call_later(KEEP_ALIVE_SECONDS + HEADER_SECONDS, self._too_slow)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self.transport.close()


def run_server(app: FastAPI, host: str, port: int) -> uvicorn.Server:
    """A server that is not started yet: `server.run()` in a thread of its own; `server.should_exit = True` stops it.

    Once `server.started` is true, `port_of(server)` is its port (port 0 takes a free one).
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        limit_concurrency=MAX_CONNECTIONS,
    )
    return uvicorn.Server(config)


def port_of(server: uvicorn.Server) -> int:
    """The port that a started server listens on."""
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port
