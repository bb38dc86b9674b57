"""HTTP: calls to a bridge, signed or not, and DAGs over it. The only opener of URLs for content.

Whatever comes back is untrusted: every body has a byte limit and a deadline, compression is refused, redirects are not
followed, a peer's words are cut before they are shown. Errors: PeerUnavailable (a later try may work: no answer, 408,
425, 429, 500, 502, 503, 504, 507) and PeerRefused (any other status from 300 up).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from executor.content.car import MEDIA_TYPE
from executor.content.transport import NO_COOKIES, DeadlineTransport, until
from executor.content.weburl import shown
from executor.errors import InvalidInput, PeerRefused, PeerUnavailable
from executor.protocol.canonical import sha256
from executor.protocol.cid import Cid
from executor.protocol.leases import MAX_JSON_BYTES, Missing, Withdrawn
from executor.protocol.nodeauth import Audience, sign_call
from executor.protocol.signing import Key

CALL_SECONDS: Final = 20.0
HEAD_SECONDS: Final = 60.0
"""From a call to the head of a streamed answer."""
SILENCE_SECONDS: Final = 10.0
"""No byte for this long ends a try."""
UPLOAD_SECONDS: Final = 300.0
STREAM_SECONDS: Final = 24 * 3600.0
_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
_PROBLEM: Final = "urn:insula:problem:"
_MAX_PROBLEM_BYTES: Final = 16 * 1024


@dataclass(frozen=True)
class Signer:
    """Who signs calls: a key and the bridge that they are for. `clock` gives seconds since 1970."""

    key: Key
    audience: Audience
    clock: Callable[[], float] = time.time
    nonce: Callable[[], bytes] = lambda: secrets.token_bytes(32)


@dataclass(frozen=True)
class Reply:
    """A successful answer."""

    status: int
    body: bytes


class Http:
    """One long-lived client for one base URL. With a signer, every call is signed (`executor.protocol.nodeauth`).

    dial_seconds: until there is a connection, and again until it is encrypted; as long as silence where it is None.
    """

    def __init__(
        self,
        base_url: str,
        signer: Signer | None = None,
        silence_seconds: float = SILENCE_SECONDS,
        dial_seconds: float | None = None,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._name = shown(self._base)
        self._signer = signer
        self._silence = silence_seconds
        self._dial = dial_seconds
        self._client = httpx.Client(
            transport=DeadlineTransport(),
            timeout=httpx.Timeout(silence_seconds),
            follow_redirects=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "insula"},
            cookies=CookieJar(NO_COOKIES),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        content_type: str = "application/json",
        seconds: float = CALL_SECONDS,
        silence_seconds: float | None = None,
        max_bytes: int = MAX_JSON_BYTES,
    ) -> Reply:
        """One call, with its whole answer. `path` has its query."""
        with (
            until(seconds),
            self._answer(method, path, body, content_type, silence_seconds) as response,
        ):
            return Reply(response.status_code, self._read(response, max_bytes))

    @contextmanager
    def stream(self, path: str, accept: str, seconds: float = STREAM_SECONDS) -> Iterator[Iterator[bytes]]:
        """GET, with the answer's body piece by piece as it comes. Leaving it early closes the connection."""
        with until(seconds), self._answer("GET", path, b"", None, None, accept) as response:
            yield self._pieces(response)

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        body: bytes,
        content_type: str | None,
        silence_seconds: float | None,
        accept: str = "*/*",
    ) -> Iterator[httpx.Response]:
        headers = {"Accept": accept, **self._signature(method, path, body)}
        if body and content_type:
            headers["Content-Type"] = content_type
        silence = silence_seconds or self._silence
        timeout = httpx.Timeout(silence, connect=self._dial or silence)
        try:
            request = self._client.build_request(
                method, self._base + path, content=body, headers=headers, timeout=timeout
            )
            with until(max(HEAD_SECONDS, silence_seconds or 0)):
                response = self._client.send(request, stream=True)
        except (httpx.TransportError, httpx.InvalidURL, UnicodeError) as exc:  # UnicodeError: a host such as xn--a
            raise self._unavailable(exc) from exc
        try:
            self._check(response)
            yield response
        finally:
            response.close()

    def _signature(self, method: str, path: str, body: bytes) -> dict[str, str]:
        if self._signer is None:
            return {}
        return sign_call(
            self._signer.key,
            self._signer.audience,
            method=method,
            path=path,
            body_hash=sha256(body),
            time=int(self._signer.clock()),
            nonce=self._signer.nonce(),
        )

    def _check(self, response: httpx.Response) -> None:
        if response.status_code < 300:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise PeerRefused(response.status_code, f"{self._name} compresses, which was not asked for")
            return
        problem, name = _problem(self._read(response, _MAX_PROBLEM_BYTES, cut=True))
        if response.status_code in _LATER:
            wait = _seconds(response.headers.get("Retry-After", ""))
            raise PeerUnavailable(f"{self._name} says {response.status_code}: {problem}", wait)
        raise PeerRefused(response.status_code, problem, name)

    def _read(self, response: httpx.Response, max_bytes: int, *, cut: bool = False) -> bytes:
        body = bytearray()
        for piece in self._pieces(response):
            body += piece
            if len(body) > max_bytes:
                if cut:
                    break
                raise PeerRefused(response.status_code, f"{self._name} answers with more than {max_bytes} bytes")
        return bytes(body[:max_bytes])

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_raw()
        except (httpx.TransportError, httpx.StreamError) as exc:
            raise self._unavailable(exc) from exc

    def _unavailable(self, exc: Exception) -> PeerUnavailable:
        words = "" if isinstance(exc, httpx.InvalidURL) else f" {exc!s:.200}"  # such words quote the URL
        return PeerUnavailable(f"{self._name} does not answer: {type(exc).__name__}{words}".rstrip())


class HttpPeer:
    """A DAG's peer over HTTP: see `executor.content.transfer.Peer`. The paths are templates with {cid}.

    upload_seconds: for one CAR on its way there, and for the answer to it.
    """

    def __init__(
        self, http: Http, *, car: str, missing: str = "", content: str = "", upload_seconds: float = UPLOAD_SECONDS
    ) -> None:
        self._http = http
        self._car = car
        self._missing = missing
        self._content = content
        self._upload_seconds = upload_seconds

    @contextmanager
    def get_car(self, cid: Cid) -> Iterator[Iterator[bytes]]:
        """The DAG below a CID as a CAR stream."""
        with self._http.stream(self._car.format(cid=cid), f"{MEDIA_TYPE}; version=1; order=dfs; dups=n") as pieces:
            yield pieces

    def missing(self, root: Cid) -> tuple[Cid, ...]:
        """What the peer lacks below `root`."""
        return _missing(self._http.call("GET", self._missing.format(cid=root)))

    def put_car(self, root: Cid, car: bytes) -> tuple[Cid, ...]:
        """Give the peer blocks below `root`; what it lacks then."""
        path, seconds = self._content.format(cid=root), self._upload_seconds
        reply = self._http.call("PUT", path, car, content_type=MEDIA_TYPE, seconds=seconds, silence_seconds=seconds)
        return _missing(reply)


def lease_peer(http: Http, lease_id: str, token: int, *, upload_seconds: float = UPLOAD_SECONDS) -> HttpPeer:
    """The content of one lease: its inputs come from there, its output goes there."""
    base = f"/v1/leases/{quote(lease_id, safe='').replace('{', '').replace('}', '')}"
    return HttpPeer(
        http,
        car=f"{base}/car/{{cid}}",
        missing=f"{base}/missing?root={{cid}}&token={token}",
        content=f"{base}/content?root={{cid}}&token={token}",
        upload_seconds=upload_seconds,
    )


def upload_peer(http: Http, *, public: bool, requester: str = "") -> HttpPeer:
    """Where an account puts inputs. `http` must sign. While private, only jobs of `requester` (empty: of the account
    itself) may read them.
    """
    return HttpPeer(
        http,
        car="/ipfs/{cid}?format=car",
        missing="/v1/content/missing?root={cid}",
        content=f"/v1/content?root={{cid}}&public={int(public)}" + (f"&requester={requester}" if requester else ""),
    )


def withdraw_upload(http: Http, root: Cid) -> int:
    """Have a bridge forget what this account uploaded of a root; the bytes of its quota that this gave back.

    `http` must sign. 0 where there was nothing: it may be called again.
    """
    reply = http.call("DELETE", f"/v1/content?root={root}")
    try:
        return Withdrawn.model_validate_json(reply.body).freed_bytes
    except ValidationError as exc:
        raise PeerRefused(reply.status, "the answer to a withdrawal is not understood") from exc


def gateway_peer(http: Http) -> HttpPeer:
    """A trustless gateway: public content, for anyone. Only `get_car`."""
    return HttpPeer(http, car="/ipfs/{cid}?format=car")


def _missing(reply: Reply) -> tuple[Cid, ...]:
    try:
        return tuple(Cid.parse(text) for text in Missing.model_validate_json(reply.body).missing)
    except (ValidationError, InvalidInput) as exc:
        raise PeerRefused(reply.status, "the list of missing blocks is not understood") from exc


def _seconds(retry_after: str) -> float:
    """Of a Retry-After in seconds; 0 of anything else, such as a date."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdecimal() and len(retry_after) < 10 else 0.0


def _problem(body: bytes) -> tuple[str, str]:
    """What a problem document (RFC 9457) says, or the body itself, cut and on one line; and the problem's name."""
    text = body.decode("utf-8", "replace")
    name = ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        words = [str(value[key]) for key in ("title", "detail") if value.get(key)]
        text = ": ".join(words) or text
        kind = str(value.get("type", ""))
        name = kind.removeprefix(_PROBLEM)[:64] if kind.startswith(_PROBLEM) else ""
    shown = "".join(char if char.isprintable() else " " for char in text).strip()[:500]
    return shown or "no explanation", name
