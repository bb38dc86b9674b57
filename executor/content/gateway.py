"""A trustless gateway: blocks and CARs by CID, for anybody, of what is public. The bridge and every node serve it.

Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/. Private is the default: what is not reachable from a
public root (quarantine, inputs, secrets, snapshots) is answered exactly as what is not here, and so is a path that
leads nowhere. IPNS is not served. What a request may cost is bounded: names and blocks of a path, seconds until the
head of the answer and for all of it, streams at a time. Who waits is let in by turns of the clients' addresses.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from executor.content.blockstore import BlockStore
from executor.content.car import write_sections
from executor.content.gateway_answer import byte_range, etag, has_it, headers_of
from executor.content.gateway_query import Asked, Unanswerable, understand
from executor.content.roots import RootSet
from executor.content.selection import Known, Located, file_size, locate, sections, select
from executor.errors import (
    BlockMismatch,
    BlockMissing,
    ContentError,
    ContentTooLarge,
    MalformedBlock,
    PathNotFound,
)
from executor.protocol.cid import Cid
from executor.turns import Turns, client_of

log = structlog.get_logger("insula.gateway")

STREAMS_AT_ONCE: Final = 64
PATHS_AT_ONCE: Final = 2
"""Paths that are followed at a time; others wait. Directories are read by one interpreter: more at once are no faster,
and keep the server from its other calls."""
STEPS_AT_ONCE: Final = 2
"""Downloads that read what they send next at a time, for the same reason."""
BLOCKS_AT_ONCE: Final = 16
"""First blocks that are read at a time where there is no path: they do not wait for anybody's."""
HEAD_SECONDS: Final = 10.0
"""For finding what a path leads to, and before that for its turn."""
ANSWER_SECONDS: Final = 3600.0
"""For a whole CAR; who needs longer asks for what is missing then."""
AGAIN_SECONDS: Final = 5
_BATCH_BYTES: Final = 256 * 1024
_TITLES: Final = {
    400: ("bad-request", "not a request that can be answered"),
    404: ("not-here", "not here"),
    406: ("not-acceptable", "this gateway is trustless"),
    412: ("not-cached", "not here now"),
    416: ("bad-range", "no such range"),
    429: ("busy", "too many downloads"),
    500: ("internal", "internal error"),
    501: ("no-ipns", "no IPNS"),
    504: ("too-slow", "too slow"),
}
_NOT_HERE: Final = "it is not here, or not public"


class _Late(ContentError):
    """The time for an answer is over."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """What an answer is made of. end: the block at the end of the path; found: None of an identity CID."""

    found: Located | None
    end: bytes


class _PublicBlocks:
    """The public blocks of a store, until `ends`. To its reader, what is private is missing."""

    def __init__(
        self, store: BlockStore, is_public: Callable[[Cid], bool], monotonic: Callable[[], float], ends: float
    ) -> None:
        self._store = store
        self._is_public = is_public
        self._monotonic = monotonic
        self._ends = ends

    def get(self, cid: Cid) -> bytes:
        if self._monotonic() >= self._ends:
            raise _Late
        if not self._is_public(cid):
            raise BlockMissing(cid)
        return self._store.get(cid)

    def has(self, cid: Cid) -> bool:
        return self._is_public(cid) and self._store.has(cid)


class CutStream(StreamingResponse):
    """A stream that ends without its end mark where a block is missing, so that nobody takes it for complete."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes] | Iterator[bytes],
        headers: dict[str, str],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(pieces, headers=headers)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and say that it has ended, however it did."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()

    async def stream_response(self, send: Send) -> None:
        """Send it as far as it goes."""
        try:
            await super().stream_response(send)
        except (ContentError, OSError) as exc:
            log.warning("a download was cut", error=str(exc))


class Gateway:
    """Answers of one store. `answer` is for the server's one thread.

    clock: seconds since 1970. publish: makes outputs public whose outcome stands on-chain by now; called before
    "not here", whatever the reason, so that the time it takes tells nothing.
    """

    def __init__(
        self,
        store: BlockStore,
        roots: RootSet,
        clock: Callable[[], float],
        publish: Callable[[], object] = lambda: None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        streams: int = STREAMS_AT_ONCE,
        paths: int = PATHS_AT_ONCE,
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        self._store = store
        self._roots = roots
        self._clock = clock
        self._publish = publish
        self._monotonic = monotonic
        self._streams = streams
        self._streams_each = max(1, streams * 3 // 4)
        self._running: Counter[str] = Counter()
        self._head_seconds = head_seconds
        self._paths = Turns(paths)
        self._blocks = Turns(BLOCKS_AT_ONCE)
        self._steps = Turns(STEPS_AT_ONCE)
        self._known = Known()

    async def answer(self, request: Request) -> Response:
        """What a GET or HEAD of /ipfs/... gets."""
        who = client_of(request.client.host if request.client else "")
        try:
            asked = _understood(request)
            async with self._turn(asked, who):
                opened = await run_in_threadpool(self._open, asked)
        except Unanswerable as exc:
            is_conditional = exc.status == 404 and "only-if-cached" in request.headers.get("cache-control", "")
            return problem(412 if is_conditional else exc.status, exc.detail)
        except _Late:
            return problem(504, f"the path could not be followed within {self._head_seconds:g} s; try again")
        except (ContentError, OSError) as exc:
            log.warning("call failed", path=request.url.path, error=f"{type(exc).__name__}: {exc}")
            return problem(500, "the store failed at this call; its log says why")
        headers = headers_of(asked, opened.found)
        if has_it(asked, _all_of(request, "if-none-match")):
            kept = ("ETag", "Cache-Control", "Content-Location", "Vary")
            return Response(status_code=304, headers={name: headers[name] for name in kept})
        if asked.form == "raw":
            return _block(request, asked, opened.end, headers)
        return self._car(request, asked, opened, headers, who)

    @asynccontextmanager
    async def _turn(self, asked: Asked, who: str) -> AsyncIterator[None]:
        """A place among those whose answers are looked for. _Late."""
        places = self._paths if asked.names else self._blocks
        try:
            await places.enter(who, self._head_seconds)
        except TimeoutError as exc:
            raise _Late from exc
        try:
            yield
        finally:
            places.leave()

    def _open(self, asked: Asked) -> _Opened:
        """Follow the path. Unanswerable."""
        named = asked.named
        if named.inline is not None and not asked.names:
            return _Opened(None, named.inline)
        if named.cid is None:
            raise Unanswerable(404, _NOT_HERE)
        with self._roots.public_view(self._clock) as is_public:
            if not is_public(named.cid):
                self._publish()  # who has just seen a result on-chain asks for it before the next housekeeping
            source = _PublicBlocks(self._store, is_public, self._monotonic, self._monotonic() + self._head_seconds)
            try:
                found = locate(source, named.cid, asked.names, self._known)
                end = source.get(found.end)
            except (BlockMissing, BlockMismatch, MalformedBlock, PathNotFound) as exc:
                raise Unanswerable(404, _NOT_HERE) from exc
            except ContentTooLarge as exc:
                raise Unanswerable(400, f"path: {exc}") from exc
        size = file_size(found.end, end) if asked.span else None
        if asked.span and size is not None and asked.span.is_outside(size):
            raise Unanswerable(400, f"entity-bytes: lies outside of the file, which has {size} bytes")
        return _Opened(found, end)

    def _car(self, request: Request, asked: Asked, opened: _Opened, headers: dict[str, str], who: str) -> Response:
        if request.method == "HEAD":
            response = Response(headers=headers)
            del response.headers["content-length"]
            return response
        if self._running.total() >= self._streams or self._running[who] >= self._streams_each:
            return problem(429, f"too many downloads are under way, or too many of yours; again in {AGAIN_SECONDS} s")
        self._running[who] += 1
        return CutStream(self._stepped(_batched(self._pieces(asked, opened)), who), headers, partial(self._ended, who))

    def _ended(self, who: str) -> None:
        self._running[who] -= 1
        self._running += Counter()  # drops those that have none

    async def _stepped(self, pieces: Iterator[bytes], who: str) -> AsyncIterator[bytes]:
        """Read each piece in its client's turn."""
        piece: bytes | None = b""
        while piece is not None:
            await self._steps.enter(who, ANSWER_SECONDS)
            try:
                piece = await run_in_threadpool(next, pieces, None)
            finally:
                self._steps.leave()
            if piece:
                yield piece

    def _pieces(self, asked: Asked, opened: _Opened) -> Iterator[bytes]:
        roots = [asked.named.binary]
        if opened.found is None:  # an identity CID's block is in its CID, and never in a CAR
            yield from write_sections(roots, ())
            return
        with self._roots.public_view(self._clock) as is_public:
            source = _PublicBlocks(self._store, is_public, self._monotonic, self._monotonic() + ANSWER_SECONDS)
            blocks = select(source, opened.found, asked.scope, asked.span, dups=asked.dups)
            yield from write_sections(roots, sections(blocks, is_old=asked.named.is_old))


def create_app(gateway: Gateway) -> FastAPI:
    """An application that is a gateway and nothing else."""
    app = FastAPI(title="Insula gateway", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router(gateway))
    return app


def router(gateway: Gateway) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["gateway"])

    @routes.get("/ipfs/{cid}", response_class=StreamingResponse)
    @routes.head("/ipfs/{cid}", include_in_schema=False)
    async def get(request: Request) -> Response:
        """A public block (format=raw) or the DAG below it (format=car)."""
        return await gateway.answer(request)

    @routes.get("/ipfs/{cid}/{path:path}", response_class=StreamingResponse)
    @routes.head("/ipfs/{cid}/{path:path}", include_in_schema=False)
    async def get_below(request: Request) -> Response:
        """What stands at a path below a public root, with the blocks that prove it (format=car)."""
        return await gateway.answer(request)

    @routes.get("/ipns/{rest:path}", include_in_schema=False)
    @routes.head("/ipns/{rest:path}", include_in_schema=False)
    async def ipns(request: Request) -> Response:
        del request
        return problem(501, "this gateway serves /ipfs/CID only")

    return routes


def problem(status: int, detail: str) -> Response:
    """An error as a problem document (RFC 9457). Nothing in it depends on why something is not here."""
    name, title = _TITLES[status]
    body = {"type": f"urn:insula:problem:{name}", "title": title, "status": status, "detail": detail}
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if status in (429, 504):
        headers["Retry-After"] = str(AGAIN_SECONDS)
    return JSONResponse(body, status, headers, "application/problem+json")


def _understood(request: Request) -> Asked:
    if request.headers.get("service-worker") == "script":
        raise Unanswerable(400, "there is no service worker here")
    return understand(
        request.scope["raw_path"].decode("latin-1"), request.query_params.multi_items(), _all_of(request, "accept")
    )


def _block(request: Request, asked: Asked, block: bytes, headers: dict[str, str]) -> Response:
    condition = request.headers.get("if-range")
    asks_range = request.headers.get("range") if condition in (None, etag(asked)) else None
    try:
        part = byte_range(asks_range, len(block)) if request.method == "GET" else None
    except ValueError as exc:
        response = problem(416, f"Range: {exc}")
        response.headers["Content-Range"] = f"bytes */{len(block)}"
        return response
    if part is None:
        return Response(block, headers=headers)
    first, last = part
    return Response(block[first : last + 1], 206, {**headers, "Content-Range": f"bytes {first}-{last}/{len(block)}"})


def _all_of(request: Request, name: str) -> str | None:
    """A header that may come in several lines."""
    lines = request.headers.getlist(name)
    return ",".join(lines) if lines else None


def _batched(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces, each of which costs a change of threads; none is held back by an error."""
    held: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= _BATCH_BYTES:
                yield b"".join(held)
                held, size = [], 0
    except ContentError:
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)
