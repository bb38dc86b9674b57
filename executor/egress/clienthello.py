"""The host that a TLS client names in its first message, read without a byte of trust. Pure.

Source: RFC 8446 section 4.1.2, RFC 6066 section 3 (server_name), draft-ietf-tls-esni (encrypted_client_hello).
"""

from __future__ import annotations

from typing import Final

MAX_HELLO_BYTES: Final = 16 * 1024
_HANDSHAKE: Final = 0x16
_CLIENT_HELLO: Final = 0x01
_RECORD_HEAD: Final = 5
_MAX_RECORD: Final = 2**14
_SERVER_NAME: Final = 0x0000
_ENCRYPTED_HELLO: Final = 0xFE0D


class NotTls(Exception):
    """The stream does not begin with a ClientHello that names one host openly. The message says what is wrong."""


def server_name(data: bytes) -> str | None:
    """The host that the stream's first message names; None: more bytes are needed. NotTls, at the latest at
    MAX_HELLO_BYTES.
    """
    message = _message(data)
    if message is None:
        if len(data) >= MAX_HELLO_BYTES:
            raise NotTls(f"the ClientHello is longer than {MAX_HELLO_BYTES} bytes")
        return None
    return _named(_Reader(message))


def _message(data: bytes) -> bytes | None:
    """The body of the ClientHello, put together from its records."""
    hello, at = b"", 0
    while len(data) - at >= _RECORD_HEAD:
        kind, major, length = data[at], data[at + 1], int.from_bytes(data[at + 3 : at + 5])
        if kind != _HANDSHAKE or major != 3 or not 0 < length <= _MAX_RECORD:
            raise NotTls("it is no TLS")
        end = at + _RECORD_HEAD + length
        hello += data[at + _RECORD_HEAD : end]
        if hello and hello[0] != _CLIENT_HELLO:
            raise NotTls("it does not begin with a ClientHello")
        if end > len(data):
            return None
        at = end
        if len(hello) >= 4 and len(hello) - 4 >= (size := int.from_bytes(hello[1:4])):
            if at < len(data) or len(hello) - 4 != size:
                raise NotTls("more follows the ClientHello before the server has answered")
            return hello[4:]
    if data[:1] not in (b"", bytes([_HANDSHAKE])):
        raise NotTls("it is no TLS")
    return None


def _named(hello: _Reader) -> str:
    hello.take(2 + 32)  # version, random
    hello.vector(1)  # session
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression
    extensions = _Reader(hello.vector(2))
    hello.end()
    found: dict[int, bytes] = {}
    while extensions.left:
        kind = int.from_bytes(extensions.take(2))
        if kind in found:
            raise NotTls("an extension stands there twice")
        found[kind] = extensions.vector(2)
    if _ENCRYPTED_HELLO in found:
        raise NotTls("it encrypts its ClientHello (ECH), so that the host cannot be checked")
    if _SERVER_NAME not in found:
        raise NotTls("it names no host (SNI)")
    return _host(_Reader(found[_SERVER_NAME]))


def _host(extension: _Reader) -> str:
    names = _Reader(extension.vector(2))
    extension.end()
    kind = names.take(1)
    name = names.vector(2)
    names.end()
    if kind != b"\0" or not name.isascii():
        raise NotTls("its server name is no host name")
    return name.decode("ascii").lower()


class _Reader:
    """Reads fields off the front; NotTls where there are too few bytes or too many."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def left(self) -> int:
        """Bytes that are not read yet."""
        return len(self._data)

    def take(self, count: int) -> bytes:
        if count > len(self._data):
            raise NotTls("its ClientHello is cut")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def vector(self, width: int) -> bytes:
        """What follows a length of `width` bytes: RFC 8446, 3.4."""
        return self.take(int.from_bytes(self.take(width)))

    def end(self) -> None:
        """NotTls unless all was read."""
        if self._data:
            raise NotTls("its ClientHello has bytes too many")
