"""A personality at a loopback address over HTTP."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bridge.devnet.chaos.faults import Ending, Reply
from bridge.devnet.chaos.personality import Personality

MAX_REQUEST_BYTES = 4 * 2**20
IDLE_SECONDS = 120.0  # a connection that says nothing for so long is closed
DRIP_SECONDS = 0.25  # between two bytes
_LOOK_SECONDS = 0.2
_STOP_SECONDS = 5.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, personality: Personality, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.personality = personality
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what half of the faults lead to."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS

    def do_POST(self) -> None:
        if self.server.closing.is_set():  # a connection that was open: it ends with the server
            self.close_connection = True
            return
        length = self.headers.get("content-length", "")
        if not length.isascii() or not length.isdigit():
            self._plain(411, b"a content-length is needed")
        elif len(length) > len(str(MAX_REQUEST_BYTES)) or int(length) > MAX_REQUEST_BYTES:
            self._plain(413, b"the request is too large")
        else:
            self._give(self.server.personality.exchange(self.rfile.read(int(length))))

    def do_OPTIONS(self) -> None:
        """A page in a browser may talk to the chain, as it may to Hardhat's own node."""
        allowed = (("access-control-allow-methods", "POST"), ("access-control-allow-headers", "content-type"))
        self._head(204, allowed, 0)

    def _give(self, reply: Reply) -> None:
        self.server.closing.wait(reply.delay)
        if reply.ending in (Ending.CLOSE, Ending.RESET, Ending.HANG):
            self.close_connection = True
            if reply.ending is Ending.HANG:
                self._until_gone(reply.seconds)
            if reply.ending is Ending.RESET:  # closed with nothing lingering, TCP says RST
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        self._head(reply.status, reply.headers, len(reply.body))
        if reply.ending is Ending.DRIP:
            self._drip(reply)
        else:
            self.wfile.write(reply.body)

    def _drip(self, reply: Reply) -> None:
        end = time.monotonic() + reply.seconds
        for place in range(len(reply.body)):
            self.wfile.write(reply.body[place : place + 1])
            self.wfile.flush()
            if self.server.closing.wait(DRIP_SECONDS) or time.monotonic() > end:
                self.close_connection = True
                return

    def _until_gone(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.server.closing.is_set():
            if select.select([self.connection], [], [], _LOOK_SECONDS)[0]:
                return

    def _plain(self, status: int, body: bytes) -> None:
        self.close_connection = True
        self._head(status, (("content-type", "text/plain"), ("connection", "close")), len(body))
        self.wfile.write(body)

    def _head(self, status: int, headers: tuple[tuple[str, str], ...], length: int) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("access-control-allow-origin", "*")
        self.send_header("content-length", str(length))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: the personality keeps its own record."""


@contextmanager
def serve(personality: Personality, port: int = 0) -> Iterator[str]:
    """Serve until the context ends; its URL. Port 0: any free one."""
    server = _Server(personality, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="chaos", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        with contextlib.suppress(RuntimeError):
            thread.join(_STOP_SECONDS)
        personality.close()
