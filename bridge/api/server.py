"""The bridge's HTTP server: as many connections as the process has descriptors for."""

from __future__ import annotations

import logging

import structlog
from fastapi import FastAPI

from bridge.repeats import TellOnce
from executor.crowd import Crowd, connections_within, raise_file_limit
from executor.httpserver import Limits, Server, make_server, port_of

__all__ = ["Server", "port_of", "run_server"]

log = structlog.get_logger("bridge.api")

_told_once = TellOnce()


def run_server(app: FastAPI, host: str, port: int) -> Server:
    """A server as of `make_server`. Raises this process's limit of open files, and holds what that leaves room for."""
    files = raise_file_limit()
    crowd = Crowd(connections_within(files))
    log.info("connections bounded", most=crowd.most, open_files=files)
    for name in ("asyncio", "uvicorn.error"):
        logging.getLogger(name).addFilter(_told_once)
    return make_server(app, crowd, Limits(), host, port)
