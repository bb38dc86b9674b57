"""A node's own gateway: what is public in its block store, for anybody, in threads of its own.

It is off unless `gateway_port` says where. Nothing that happens here ends the node: its loop goes on.
"""

from __future__ import annotations

import socket
import threading

import structlog

from executor.agent.parts import Parts
from executor.agent.publishing import PAUSE_SECONDS, Publisher, settled_by
from executor.content.gateway import Gateway, create_app
from executor.errors import ContentError
from executor.httpserver import Limits, ThreadServer, listen
from executor.ledger import LedgerError

log = structlog.get_logger("insula.node")

MOST_CONNECTIONS = 64
LIMITS = Limits(header_seconds=10.0, stall_seconds=30.0, header_bytes=16 * 1024, backlog=64)


def gateway_door(host: str, port: int) -> socket.socket:
    """A socket that listens there. InvalidInput("gateway_port")."""
    return listen(host, port, "gateway_port", LIMITS.backlog)


class NodeGateway:
    """The server, and a thread that looks for results that may be served by now."""

    def __init__(self, parts: Parts, door: socket.socket) -> None:
        gateway = Gateway(parts.store, parts.roots, parts.clock)
        self._server = ThreadServer("gateway", create_app(gateway), door, MOST_CONNECTIONS, LIMITS)
        settled = settled_by(parts.chain, parts.client)
        seconds = parts.config.public_retention_seconds
        self._publisher = Publisher(parts.roots, parts.ledger, settled, parts.clock, seconds)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish, name="publisher", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._server.start()
        self._thread.start()

    def stop(self) -> None:
        """End both; what is being sent has a few seconds."""
        self._over.set()
        self._server.stop()
        self._thread.join(PAUSE_SECONDS)

    def _publish(self) -> None:
        while not self._over.is_set():
            try:
                self._publisher.step()
            except (ContentError, LedgerError, OSError) as exc:
                log.warning("results cannot be made public now", error=f"{type(exc).__name__}: {exc}")
            self._over.wait(PAUSE_SECONDS)
