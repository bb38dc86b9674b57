"""The HTTP server of a node's review API: 127.0.0.1, few connections, a deadline for each, a thread of its own.

Nothing that happens here ends the node: its loop goes on, and reviewers can still work in its folder.
"""

from __future__ import annotations

import socket
from typing import Any

from executor.httpserver import Limits, ThreadServer
from executor.httpserver import listen as listen_at

HOST = "127.0.0.1"
MOST_CONNECTIONS = 32
LIMITS = Limits(
    header_seconds=10.0,
    stall_seconds=30.0,
    connection_seconds=900.0,  # for a whole call, the bytes of a file among them: there is one a connection
    header_bytes=16 * 1024,
    backlog=64,
)


def listen(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1. InvalidInput("review_port")."""
    return listen_at(HOST, port, "review_port", LIMITS.backlog)


def review_server(app: Any, door: socket.socket) -> ThreadServer:
    """Serves `app` on a listening socket, which is the server's once it is started."""
    return ThreadServer("review-api", app, door, MOST_CONNECTIONS, LIMITS)
