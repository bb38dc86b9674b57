"""An HTTP transport whose whole calls have a deadline, not only each of their reads.

httpx's timeouts start anew with every byte, so a peer that sends one byte of a header every few seconds holds a caller
for hours. Here `until(seconds)` bounds everything that the calling thread does on the network inside it, and inside the
scope of a `Cancel` another thread can end it at once.
"""

from __future__ import annotations

import functools
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import httpcore
import httpx
from httpcore._backends.sync import SyncStream

from executor.content.cancel import Cancelled, cancellable

NO_COOKIES: Final = DefaultCookiePolicy(allowed_domains=[])
"""A long-lived client would keep what a peer sets, without end."""
_READ_BYTES = 127 * 1024
"""Of one read, where httpcore asks for 64 KiB; it passes on whatever comes. For 128 KiB and more, malloc would ask the
system each time."""
_WRITE_BYTES = 256 * 1024
_MAX_ADDRESSES = 4
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
        context = _authorities(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        super().__init__(verify=context, trust_env=False)
        self._pool.close()
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=max_connections,
            max_keepalive_connections=16,
            keepalive_expiry=5.0,
            network_backend=_Backend(),
        )


@functools.lru_cache(maxsize=4)
def _authorities(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Whom TLS trusts; to read them takes longer than many a call, so clients share them."""
    return httpx.create_ssl_context()


class _Backend(httpcore.NetworkBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """As httpcore's own, which gives no hold of a socket that is still dialling."""
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:_MAX_ADDRESSES]
            failure: OSError | None = None
            for family, kind, protocol, _, address in addresses:
                dialled = socket.socket(family, kind, protocol)
                for option in socket_options or ():
                    dialled.setsockopt(*option)
                if local_address is not None:
                    dialled.bind((local_address, 0))
                failure = _dial(dialled, address, timeout)
                if failure is None:
                    return _Stream(SyncStream(dialled))
        except (OSError, UnicodeError) as exc:
            raise httpcore.ConnectError(str(exc)) from exc
        late = isinstance(failure, TimeoutError)
        raise (httpcore.ConnectTimeout if late else httpcore.ConnectError)(str(failure)) from failure


def _dial(dialled: socket.socket, address: Any, timeout: float | None) -> OSError | None:
    """Connect it, or close it and say what failed."""
    try:
        dialled.settimeout(seconds_left(timeout))
        with cancellable(dialled):
            dialled.connect(address)
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as exc:
        dialled.close()
        return exc
    return None


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            with cancellable(self._socket()):
                return self._inner.read(max(max_bytes, _READ_BYTES), _seconds(timeout, httpcore.ReadTimeout))
        except Cancelled as exc:
            raise httpcore.ReadError(str(exc)) from exc

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            for offset in range(0, len(buffer), _WRITE_BYTES):
                with cancellable(self._socket()):
                    part = buffer[offset : offset + _WRITE_BYTES]
                    self._inner.write(part, _seconds(timeout, httpcore.WriteTimeout))
        except Cancelled as exc:
            raise httpcore.WriteError(str(exc)) from exc

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = _seconds(timeout, httpcore.ConnectTimeout)
        # The TLS socket takes the connection over from the plain one; a second handle on it serves to cancel.
        with self._socket().dup() as handle:
            try:
                with cancellable(handle):
                    return _Stream(self._inner.start_tls(ssl_context, server_hostname, seconds))
            except Cancelled as exc:
                self._inner.close()
                raise httpcore.ConnectError(str(exc)) from exc

    def _socket(self) -> socket.socket:
        found: socket.socket = self._inner.get_extra_info("socket")
        return found

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def seconds_left(timeout: float | None) -> float | None:
    """What one wait may take inside `until`; TimeoutError when the whole is over."""
    return _seconds(timeout, TimeoutError)


def is_over() -> bool:
    """Whether the time of the `until` around this has run out."""
    deadline: float | None = getattr(_thread, "deadline", None)
    return deadline is not None and deadline <= time.monotonic()


def _seconds(timeout: float | None, late: type[httpcore.TimeoutException | TimeoutError]) -> float | None:
    deadline: float | None = getattr(_thread, "deadline", None)
    if deadline is None:
        return timeout
    left = deadline - time.monotonic()
    if left <= 0:
        raise late("the whole call took too long")
    return left if timeout is None else min(left, timeout)
