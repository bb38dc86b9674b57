"""The head of a request to the proxy: what is asked of whom, and nothing that two readers could read differently. Pure.

HTTP/1.1 as in RFC 9112, and stricter: one spelling of everything that decides where a request goes and where it ends.
h11 parses; the refusals before and after it are ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import h11

from executor.protocol.network import is_host

MAX_HEAD_BYTES: Final = 16 * 1024
HEAD_END: Final = b"\r\n\r\n"
METHODS: Final = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))
_HTTP_PORT: Final = 80
#: about one connection, or the proxy's own to say
_HOP_BY_HOP: Final = frozenset(
    b"connection expect host keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade via forwarded x-forwarded-for".split()
)
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]{1,8192}) HTTP/1\.1")
_FIELD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_CHUNKED: Final = (b"transfer-encoding", b"chunked")
_ABSOLUTE: Final = re.compile(r"http://([^/?#:@\[\]]+)(?::([0-9]{1,5}))?(/[^#]*|\?[^#]*)?", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"([^/?#:@\[\]]+):([0-9]{1,5})")

Headers = list[tuple[bytes, bytes]]


class BadRequest(Exception):
    """A request that is not carried on. status: what the job is told; host, port: whom it was for, as far as known."""

    def __init__(self, status: int, problem: str, host: str = "", port: int = 0) -> None:
        super().__init__(status, problem)
        self.status = status
        self.problem = problem
        self.host = host
        self.port = port


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's head. path: what the server is asked for, empty of a CONNECT. headers: those to carry on."""

    method: str
    host: str
    port: int
    path: str
    headers: Headers

    @property
    def is_tunnel(self) -> bool:
        """Whether it asks for a connection as such."""
        return self.method == "CONNECT"

    @property
    def authority(self) -> str:
        """As the Host header says it."""
        return self.host if self.port == _HTTP_PORT else f"{self.host}:{self.port}"

    def upstream(self) -> h11.Request:
        """The request as the server gets it."""
        headers = [(b"Host", self.authority.encode()), *self.headers, (b"Connection", b"close")]
        return h11.Request(method=self.method, target=self.path, headers=headers)


def check_head(head: bytes) -> None:
    """Refuse bytes of a head, with the empty line at its end, that readers take for different requests. BadRequest.

    To be asked before h11 reads them: it joins folded lines, and lengths that stand twice.
    """
    without_ends = head.replace(b"\r\n", b"")
    if any(mark in without_ends for mark in (b"\0", b"\r", b"\n")):
        raise BadRequest(400, "a NUL, or a line that does not end in CR LF")
    line, *fields = head.removesuffix(HEAD_END).split(b"\r\n")
    if not _REQUEST_LINE.fullmatch(line):
        raise BadRequest(400, "the request line is not `METHOD TARGET HTTP/1.1`")
    framing = []
    for field in fields:
        if field[:1] in (b" ", b"\t"):
            raise BadRequest(400, "a header that goes on in a second line")
        if not _FIELD.fullmatch(field):
            raise BadRequest(400, "a header that is not `Name: value`")
        name, _, value = field.lower().partition(b":")
        if name in (b"content-length", b"transfer-encoding"):
            framing.append((name, value.strip(b" \t")))
    if len(framing) > 1:
        raise BadRequest(400, "more than one word on where the body ends")
    for name, value in framing:
        if name == b"content-length" and not _LENGTH.fullmatch(value):
            raise BadRequest(400, "a Content-Length that is no number")
        if name == b"transfer-encoding" and value != b"chunked":
            raise BadRequest(501, "a transfer coding other than chunked")


def asked(request: h11.Request) -> Asked:
    """What a parsed request asks for. BadRequest where it is ambiguous, or for no host by name."""
    method = request.method.decode("ascii")
    if method not in METHODS:
        raise BadRequest(501, "a method that is not carried on")
    host, port, path = _target(method, request.target.decode("ascii"))
    headers = list(request.headers)
    _check_host(headers, method, host, port)
    has_body = any(
        name == b"transfer-encoding" or (name == b"content-length" and int(value)) for name, value in headers
    )
    if method == "CONNECT" and has_body:
        raise BadRequest(400, "a CONNECT with a body", host, port)
    return Asked(method, host, port, path, carried(headers))


def carried(headers: Headers) -> Headers:
    """The headers that are carried on: none that is about one connection, or that Connection names."""
    named = {word.strip().lower() for name, value in headers if name == b"connection" for word in value.split(b",")}
    dropped = (named | _HOP_BY_HOP) - {b"content-length"}
    if any(name == b"transfer-encoding" for name, _ in headers):
        return [(name, value) for name, value in headers if name not in dropped | {b"content-length"}] + [_CHUNKED]
    return [(name, value) for name, value in headers if name not in dropped]


def _target(method: str, target: str) -> tuple[str, int, str]:
    if method == "CONNECT":
        found = _AUTHORITY.fullmatch(target)
        path = ""
    else:
        found = _ABSOLUTE.fullmatch(target)
        path = (found[3] or "/") if found else ""
    if found is None:
        raise BadRequest(400, "the target is neither http://HOST/PATH nor, of a CONNECT, HOST:PORT")
    host, port = found[1].lower(), int(found[2] or _HTTP_PORT)
    if not is_host(host):
        raise BadRequest(403, "the target is no host by name: addresses are refused in every spelling")
    if not 1 <= port <= 65535:
        raise BadRequest(400, "the target's port is none")
    return host, port, path if path.startswith("/") or method == "CONNECT" else f"/{path}"


def _check_host(headers: Headers, method: str, host: str, port: int) -> None:
    said = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    # clients leave the port out of a CONNECT's Host, which decides nothing
    bare = {host} if port == _HTTP_PORT or method == "CONNECT" else set()
    if len(said) != 1 or said[0] not in bare | {f"{host}:{port}"}:
        raise BadRequest(400, "the Host header is not the target's", host, port)
