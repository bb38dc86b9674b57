"""A real HTTP server in a thread, in front of `tests.bridge_kit.Bridge`, and callers that sign."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx

from bridge.api.app import create_app
from bridge.api.server import port_of, run_server
from bridge.api.status import Loops
from executor.protocol.leases import Message
from executor.protocol.nodeauth import Audience, sign_call
from executor.protocol.signing import Key
from tests.bridge_kit import SCOPE, Bridge

AUDIENCE = Audience(SCOPE, "http://bridge.test")


class Api:
    """The API of a bridge: `call` signs like a node or an uploader."""

    def __init__(self, bridge: Bridge, base: str) -> None:
        self.bridge = bridge
        self.base = base
        self.http = httpx.Client(base_url=base, timeout=30)

    def headers(
        self, key: Key, method: str, path: str, body: bytes = b"", changed: dict[str, Any] | None = None
    ) -> dict[str, str]:
        """The headers of a call; `changed` alters what is signed, not what is sent."""
        signed = changed or {}
        return sign_call(
            key,
            signed.get("audience", AUDIENCE),
            method=signed.get("method", method),
            path=signed.get("path", path),
            body_hash=hashlib.sha256(signed.get("body", body)).digest(),
            time=int(self.bridge.clock.now + signed.get("skew", 0)),
            nonce=signed.get("nonce", secrets.token_bytes(32)),
        )

    def call(
        self, key: Key, method: str, path: str, body: bytes | Message = b"", signed: dict[str, Any] | None = None
    ) -> httpx.Response:
        """A signed call; `signed` alters what is signed, not what is sent."""
        data = body.model_dump_json().encode() if isinstance(body, Message) else body
        headers = self.headers(key, method, path, data, signed)
        return self.http.request(method, path, content=data, headers=headers)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=headers)


@contextlib.contextmanager
def serving(bridge: Bridge, loops: Loops = list) -> Iterator[Api]:
    """The bridge's API on a free port of the loopback."""
    app = create_app(
        bridge.dispatcher,
        bridge.engine,
        AUDIENCE,
        bridge.clock,
        loops=loops,
        watch=bridge.watch,
    )
    server = run_server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 10
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < end
            threading.Event().wait(0.005)
        api = Api(bridge, f"http://127.0.0.1:{port_of(server)}")
        with api.http:
            yield api
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
