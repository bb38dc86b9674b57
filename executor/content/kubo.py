"""An operator's Kubo daemon: publish a DAG there, fetch one from there. The only importer of ipfshttpclient.

Kubo's RPC API: https://docs.ipfs.tech/reference/kubo/rpc/ (all POST, below /api/v0). ipfshttpclient knows versions
before 0.8 only, so its version check is not used, and of its calls only the request layer. That layer has a timeout for
each read but none for a call, follows redirects, unpacks compression and reads answers without end: `_Client` closes
these four. A failed stream is noticed by completeness, since the client hides the trailer in which Kubo says so.

Errors: PeerUnavailable (a later try may work), PeerRefused (Kubo said no; 404: it has not got the content).
"""

from __future__ import annotations

import itertools
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import urllib3.exceptions
from ipfshttpclient import exceptions, http_requests, multipart, requests_wrapper

from executor.content.blocks import BlockSource
from executor.content.cancel import cancellable
from executor.content.car import export_car
from executor.content.kuboaddress import rpc_address
from executor.content.transport import NO_COOKIES, is_over, seconds_left, until
from executor.errors import InvalidInput, PeerRefused, PeerUnavailable
from executor.protocol.canonical import DepthError, strict_json
from executor.protocol.cid import Cid

OLDEST: Final = (0, 30, 0)
"""Older daemons lack parameters that are used here."""
CALL_SECONDS: Final = 20.0
HEAD_SECONDS: Final = 60.0
SILENCE_SECONDS: Final = 10.0
"""No byte for this long ends a try."""
PUBLISH_SECONDS: Final = 3600.0
EXPORT_SECONDS: Final = 24 * 3600.0
MAX_ANSWER_BYTES: Final = 2**20
MAX_ROWS: Final = 10_000
_PIECE: Final = 64 * 1024
_PROVIDER: Final = 4
"""A row of a search that names providers: routing.Provider."""
_NOT_FOUND: Final = re.compile(r"not found|could not find|not pinned", re.IGNORECASE)
_Shape = TypeVar("_Shape", list[Any], dict[str, Any])
_thread = threading.local()


@dataclass(frozen=True, slots=True)
class KuboFacts:
    """What a daemon is. peer_id: its name among peers; addresses: where others reach it."""

    version: str
    peer_id: str
    addresses: tuple[str, ...]

    @property
    def problem(self) -> str:
        """Why it cannot be used, and what to do; empty if it can."""
        numbers = tuple(int(part) for part in re.findall(r"\d+", self.version)[:3])
        if numbers < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            return f"Kubo {self.version or 'of an unknown version'} is too old; install {oldest} or newer"
        return ""


@dataclass(frozen=True, slots=True)
class Providers:
    """Ids of peers: hints, most often stale. is_cut: the time ran out before the search did."""

    peers: tuple[str, ...]
    is_cut: bool = False


class Kubo:
    """One daemon, one long-lived client, for one thread at a time.

    address: http://HOST:PORT of its RPC API, an administrative interface that must not be reachable for anybody else:
    no TLS here, take loopback or a tunnel.
    """

    def __init__(
        self, address: str, silence_seconds: float = SILENCE_SECONDS, head_seconds: float = HEAD_SECONDS
    ) -> None:
        self.address = rpc_address(address)
        self._head_seconds = head_seconds
        self._client = _Client(_multiaddr(self.address), "api/v0", timeout=silence_seconds)
        self._client.open_session()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._client.close_session()

    def facts(self) -> KuboFacts:
        """What the daemon says of itself."""
        who = self._one("/id")
        addresses = self._shaped(who.get("Addresses"), list)
        version = str(self._one("/version").get("Version", ""))[:64]
        return KuboFacts(version, str(who.get("ID", ""))[:128], tuple(str(item)[:256] for item in addresses[:32]))

    def peer_id(self) -> str:
        """Its name among peers."""
        return self.facts().peer_id

    def setting(self, name: str) -> Any:
        """One value of its configuration, such as "Provide.Strategy"; None where it is not set."""
        try:
            return self._one("/config", name).get("Value")
        except PeerRefused as exc:
            if "not found" in exc.problem:
                return None
            raise

    def publish(self, store: BlockSource, root: Cid, seconds: float = PUBLISH_SECONDS) -> None:
        """Give the daemon all blocks below `root` and have it keep and provide them; returns when it says that it does.

        PeerRefused where it does not pin, or names another root. Given again, it is kept once.
        """
        pieces = _Pieces(export_car(store, root))
        body, headers = multipart.stream_files(pieces, chunk_size=_PIECE)
        options = {"pin-roots": "true", "stats": "true", "allow-big-block": "false"}
        rows = self._rows("/dag/import", options=options, data=body, headers=headers, seconds=seconds)
        named = [row["Root"] for row in rows if isinstance(row.get("Root"), dict)]
        problem = next((str(item["PinErrorMsg"]) for item in named if item.get("PinErrorMsg")), "")
        if problem:
            raise PeerRefused(200, f"{self.address} does not pin {root}: {_line(problem)}")
        if [_cid_of(item.get("Cid")) for item in named] != [root]:
            raise PeerRefused(200, f"{self.address} took another root than {root}")
        if not self.is_pinned(root):
            raise PeerRefused(200, f"{self.address} took {root} and does not keep it")

    def is_pinned(self, root: Cid) -> bool:
        """Whether the daemon keeps the whole DAG below `root`."""
        try:
            rows = self._rows("/pin/ls", str(root), options={"type": "recursive"})
        except PeerRefused as exc:
            if exc.status == 404:
                return False
            raise
        return any(str(root) in self._shaped(row.get("Keys"), dict) for row in rows)

    def unpin(self, root: Cid) -> None:
        """Have the daemon keep it no longer; nothing where it does not."""
        try:
            self._rows("/pin/rm", str(root))
        except PeerRefused as exc:
            if exc.status != 404:
                raise

    def has(self, cid: Cid) -> bool:
        """Whether the daemon has this block itself; it asks nobody."""
        try:
            self._rows("/block/stat", str(cid), options={"offline": "true"})
        except PeerRefused as exc:
            if exc.status == 404:
                return False
            raise
        return True

    @contextmanager
    def get_car(self, cid: Cid, *, offline: bool = False) -> Iterator[Iterator[bytes]]:
        """The DAG below a CID as a CAR stream; see `executor.content.transfer.CarSource`.

        The daemon looks for it among its peers unless `offline`. A stream that ends early looks like one that does not.
        """
        options = {"progress": "false", **({"offline": "true"} if offline else {})}
        with self._answer("/dag/export", (str(cid),), options, seconds=EXPORT_SECONDS) as pieces:
            yield pieces

    def peer_with(self, *addresses: str) -> None:
        """Have it keep a connection to a peer, whose addresses end with /p2p/ID, and make it anew whenever it breaks.

        All addresses of one peer at once: they take the place of those that it was told before. It does so until it
        ends; its configuration is not changed. Whether the peer is there now is not waited for.
        """
        self._rows("/swarm/peering/add", *addresses)

    def peers(self) -> tuple[str, ...]:
        """Ids of the peers that it is connected to."""
        found = self._shaped(self._one("/swarm/peers").get("Peers"), list)
        return tuple(str(item.get("Peer", "")) for item in found[:1000] if isinstance(item, dict))

    def providers(self, cid: Cid, limit: int, seconds: float = CALL_SECONDS) -> Providers:
        """At most `limit` peers that are said to have it, and at most `seconds` of a search for them.

        PeerRefused where the daemon asks nobody: it is offline, or has no routing.
        """
        found: dict[str, None] = {}
        options = {"num-providers": str(limit)}
        with until(seconds):
            try:
                with self._answer("/routing/findprovs", (str(cid),), options, seconds=seconds) as pieces:
                    for row in _json_rows(_bounded(pieces, MAX_ANSWER_BYTES)):
                        found.update(dict.fromkeys(self._providers_in(row)))
                        if len(found) >= limit:
                            break
            except PeerUnavailable:
                if not is_over():
                    raise
                return Providers(tuple(found), is_cut=True)
            except PeerRefused as exc:
                if "online mode" in exc.problem:
                    raise PeerRefused(exc.status, f"{self.address} asks nobody: it is offline") from exc
                raise
        if not found and self.setting("Routing.Type") == "none":
            raise PeerRefused(200, f"{self.address} asks nobody: its Routing.Type is none")
        return Providers(tuple(itertools.islice(found, limit)))

    def _providers_in(self, row: dict[str, Any]) -> list[str]:
        if row.get("Type") != _PROVIDER:
            return []
        peers = [self._shaped(item, dict) for item in self._shaped(row.get("Responses"), list)]
        return [str(item.get("ID", ""))[:128] for item in peers]

    def _shaped(self, value: Any, kind: type[_Shape]) -> _Shape:
        """A part of an answer, empty where it is null; PeerRefused where it is of another kind."""
        if value is None:
            return kind()
        if not isinstance(value, kind):
            raise PeerRefused(200, f"{self.address} does not answer as Kubo does")
        return value

    def _one(self, path: str, *args: str) -> dict[str, Any]:
        rows = self._rows(path, *args)
        return rows[0] if rows else {}

    def _rows(
        self,
        path: str,
        *args: str,
        options: Mapping[str, str] | None = None,
        data: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = CALL_SECONDS,
    ) -> list[dict[str, Any]]:
        """A call with its whole answer: JSON objects, one after the other."""
        with self._answer(path, args, options or {}, data=data, headers=headers, seconds=seconds) as pieces:
            return list(_json_rows(_bounded(pieces, MAX_ANSWER_BYTES)))

    @contextmanager
    def _answer(
        self,
        path: str,
        args: tuple[str, ...],
        options: Mapping[str, str],
        *,
        data: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float,
    ) -> Iterator[Iterator[bytes]]:
        """A call whose answer is read piece by piece. Whatever the libraries raise is one of the two errors."""
        try:
            with until(seconds):
                with until(seconds if data else self._head_seconds), _head_limit(), _well_formed():
                    stream = self._client.request(
                        path, args, opts=dict(options), data=data, headers=headers, decoder="none", stream=True
                    )
                with closing(stream):
                    yield _well_formed_pieces(stream)
        except exceptions.ErrorResponse as exc:
            problem = _line(str(exc))
            raise PeerRefused(404 if _NOT_FOUND.search(problem) else 500, f"{self.address}: {problem}") from exc
        except exceptions.StatusError as exc:
            response = getattr(exc.original, "response", None)
            status = getattr(response, "status_code", 0)
            if status >= 500:
                raise PeerUnavailable(f"{self.address} says {status}") from exc
            raise PeerRefused(status, f"{self.address} says {status}; is this the RPC API of Kubo?") from exc
        except _Unwanted as exc:
            raise PeerRefused(200, f"{self.address} {exc}") from exc
        except requests_wrapper.TooManyRedirects as exc:
            raise PeerRefused(300, f"{self.address} redirects; name the address itself") from exc
        except (
            exceptions.CommunicationError,
            requests_wrapper.RequestException,
            urllib3.exceptions.HTTPError,
            TimeoutError,
            ConnectionError,
        ) as exc:
            raise PeerUnavailable(f"{self.address} does not answer: {type(exc).__name__} {_line(str(exc))}") from exc


class _Unwanted(Exception):
    """An answer of a form that was not asked for."""


class _Client(http_requests.ClientSync):  # type: ignore[misc]
    """ipfshttpclient's request layer with deadlines; no redirects, no compression, no proxies of the environment."""

    def _make_session(self) -> Any:
        session = super()._make_session()
        session.trust_env = False
        session.cookies.set_policy(NO_COOKIES)
        session.max_redirects = 0
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": "insula"})
        session.hooks["response"].append(_check_encoding)
        for prefix in list(session.adapters):
            session.mount(prefix, _Adapter())
        return session

    def _do_raise_for_status(self, response: Any) -> None:
        """As the client's own, whose JSON parser nests as deep as it is told to, until the process has no stack."""
        try:
            response.raise_for_status()
        except requests_wrapper.HTTPError as exc:
            try:
                said = _object(b"".join(response.iter_content(_PIECE)))
            except _Unwanted:
                said = {}
            if "Message" in said:
                raise exceptions.ErrorResponse(str(said["Message"]), exc) from exc
            raise exceptions.StatusError(exc) from exc

    def _request(self, *args: Any, **kwargs: Any) -> Any:
        # The client asks for pieces as they come, and gets the whole answer in one where it is not sent in chunks.
        return super()._request(*args, **{**kwargs, "chunk_size": _PIECE})


def _check_encoding(response: Any, **_: Any) -> None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        response.close()
        raise _Unwanted("compresses, which was not asked for")


class _Adapter(requests_wrapper.HTTPAdapter):  # type: ignore[misc]
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.connection_pool_kw.pop("strict", None)  # urllib3 knows it no longer, and says so each time
        classes = self.poolmanager.pool_classes_by_scheme
        classes.update({scheme: _Pool for scheme in classes if scheme.startswith("http") and "https" not in scheme})


class _Connection(requests_wrapper.HTTPConnection):  # type: ignore[misc]
    def _new_conn(self) -> socket.socket:
        return _Socket.of(super()._new_conn())


class _Pool(requests_wrapper.HTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Connection


class _Socket(socket.socket):
    """Each wait takes at most what is left of the call, and a head has an end."""

    patience: float | None = None

    @classmethod
    def of(cls, plain: socket.socket) -> _Socket:
        timeout = plain.gettimeout()
        made = cls(plain.family, plain.type, plain.proto, fileno=plain.detach())
        made.settimeout(timeout)
        return made

    def settimeout(self, value: float | None) -> None:
        self.patience = value
        super().settimeout(value)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        super().settimeout(seconds_left(self.patience))
        with cancellable(self):
            count = super().recv_into(*args, **kwargs)
        left = getattr(_thread, "head_bytes", None)
        if left is not None:
            if count > left:
                raise ConnectionError("the head of the answer does not end")
            _thread.head_bytes = left - count
        return count

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        super().settimeout(seconds_left(self.patience))
        with cancellable(self):
            super().sendall(*args, **kwargs)


@contextmanager
def _head_limit() -> Iterator[None]:
    """Until the head is read, and of an error its text, this thread receives at most MAX_ANSWER_BYTES."""
    _thread.head_bytes = MAX_ANSWER_BYTES
    try:
        yield
    finally:
        _thread.head_bytes = None


@contextmanager
def _well_formed() -> Iterator[None]:
    """What the libraries raise by mistake: for a chunk of a negative size, say."""
    try:
        yield
    except ValueError as exc:
        raise _Unwanted("does not speak HTTP; is this the RPC API of Kubo?") from exc


def _well_formed_pieces(pieces: Iterator[bytes]) -> Iterator[bytes]:
    while True:
        with _well_formed():
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


class _Pieces:
    """A stream of pieces as the file that the client's multipart encoder reads."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        taken, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return taken


def _bounded(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise _Unwanted(f"answers with more than {limit} bytes")
        yield piece


def _json_rows(pieces: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """JSON objects, a line each. Kubo reports what fails after the head inside the answer: PeerRefused."""
    rest, count = b"", 0
    for piece in itertools.chain(pieces, [b"\n"]):
        *lines, rest = (rest + piece).split(b"\n")
        for line in filter(None, map(bytes.strip, lines)):
            row, count = _object(line), count + 1
            if count > MAX_ROWS:
                raise _Unwanted(f"answers with more than {MAX_ROWS} rows")
            if row.get("Type") == "error" and "Message" in row:
                raise PeerRefused(200, _line(str(row["Message"])))
            yield row


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = strict_json(line.decode(), max_depth=16)
    except (ValueError, DepthError) as exc:
        raise _Unwanted("does not speak JSON; is this the RPC API of Kubo?") from exc
    if not isinstance(row, dict):
        raise _Unwanted("does not answer as Kubo does")
    return row


def _cid_of(value: object) -> Cid | None:
    text = value.get("/") if isinstance(value, dict) else None
    try:
        return Cid.parse(text) if isinstance(text, str) else None
    except InvalidInput:
        return None


def _multiaddr(address: str) -> str:
    """Such an address as the client takes it."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    kind = "ip6" if ":" in host else "ip4" if re.fullmatch(r"[\d.]+", host) else "dns"
    return f"/{kind}/{host}/tcp/{parts.port}/http"


def _line(text: str) -> str:
    """A peer's words, cut and on one line."""
    return "".join(char if char.isprintable() else " " for char in text).strip()[:300] or "no explanation"
