"""An HTTP transport whose whole calls have a deadline, not only each of their reads.

httpx's timeouts start anew with every byte, so a peer that sends one byte of a header every few seconds holds a caller
for hours. Here `until(seconds)` bounds everything that the calling thread does on the network inside it.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

_WRITE_BYTES = 256 * 1024
_thread = threading.local()


@contextmanager
def until(seconds: float) -> Iterator[None]:
    """Everything on the network inside ends after `seconds` with the timeout of its library."""
    before = getattr(_thread, "deadline", None)
    mine = time.monotonic() + seconds
    _thread.deadline = mine if before is None else min(mine, before)
    try:
        yield
    finally:
        _thread.deadline = before


class DeadlineTransport(httpx.HTTPTransport):
    """httpx's transport over connections that keep to `until`. No proxy from the environment, no HTTP/2.

    SSL_CERT_FILE and SSL_CERT_DIR name other authorities than the usual ones.
    """

    def __init__(self, max_connections: int = 64) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context, trust_env=False)
        self._pool.close()
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=max_connections,
            max_keepalive_connections=16,
            keepalive_expiry=5.0,
            network_backend=_Backend(),
        )


class _Backend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        seconds = _seconds(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, seconds, local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _seconds(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for offset in range(0, len(buffer), _WRITE_BYTES):
            self._inner.write(buffer[offset : offset + _WRITE_BYTES], _seconds(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = _seconds(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, seconds))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def seconds_left(timeout: float | None) -> float | None:
    """What one wait may take inside `until`; TimeoutError when the whole is over."""
    return _seconds(timeout, TimeoutError)


def _seconds(timeout: float | None, late: type[httpcore.TimeoutException | TimeoutError]) -> float | None:
    deadline: float | None = getattr(_thread, "deadline", None)
    if deadline is None:
        return timeout
    left = deadline - time.monotonic()
    if left <= 0:
        raise late("the whole call took too long")
    return left if timeout is None else min(left, timeout)
