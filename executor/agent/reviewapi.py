"""The node's HTTP API for its reviewers: what is held, its bytes, and their decisions. On the loopback interface only.

GET  /v1/node                     whom to sign calls for; the only call that anybody may make
GET  /v1/holds                    what the caller may decide on
GET  /v1/holds/ID                 one of them: manifest, findings, votes, what is to be signed
GET  /v1/holds/ID/file?path=PATH  the bytes of one file, never to be rendered; &redaction=ID: of that form of it
POST /v1/holds/ID/redactions      {"without": [PATH ...], "replace": {PATH: BASE64 ...}}
POST /v1/holds/ID/decision        {"approve": ..., "reason": ..., "signature": "0x...", "redaction": ID or ""}

What is not held, and what is not the caller's to see, are answered alike.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Send

from executor.agent.review import Review
from executor.agent.reviewgate import Gate, Refusal
from executor.errors import ContentError, InsulaError, InvalidInput
from executor.holds import Hold
from executor.ledger import LedgerError
from executor.protocol.canonical import sha256
from executor.protocol.leases import parse_body
from executor.protocol.nodeauth import BODY

log = structlog.get_logger("insula.node")
M = TypeVar("M", bound=BaseModel)

MAX_BODY_BYTES = 4096
MAX_REDACTION_BYTES = 4 * 2**20  # of a proposal's body; larger ones are made in the node's folder
BODY_SECONDS = 10.0  # for a whole body
MAX_FILE_BYTES = 2**30  # a larger one is saved on the node itself
#: one call per connection: nothing to guard between two
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Connection": "close"}


class Decision(BaseModel):
    """The body of a decision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    approve: StrictBool
    reason: Annotated[StrictInt, Field(ge=0, le=65535)]
    signature: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{130}$")]
    redaction: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] = ""


class Proposal(BaseModel):
    """The body of a redaction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    without: tuple[StrictStr, ...] = ()
    replace: dict[str, StrictStr] = {}

    def replacements(self) -> dict[str, bytes]:
        """The bytes by path. InvalidInput("replace")."""
        try:
            return {path: base64.b64decode(text, validate=True) for path, text in self.replace.items()}
        except ValueError as exc:
            raise InvalidInput("replace", "is not base64") from exc


class _Bytes(StreamingResponse):
    """The bytes of a file. Damage in the middle of it ends the connection before all of them were sent."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except ContentError as exc:
            log.warning("a held file is damaged", error=str(exc))


def create_app(review: Review, gate: Gate) -> FastAPI:
    """The application."""
    app = FastAPI(title="Insula node, for its reviewers", docs_url=None, redoc_url=None, openapi_url=None)
    _install_problems(app)
    _install_reads(app, review, gate)

    _install_acts(app, review, gate)
    return app


def _install_acts(app: FastAPI, review: Review, gate: Gate) -> None:
    @app.post("/v1/holds/{hold_id}/decision")
    async def decide(request: Request, hold_id: str) -> Response:
        """One reviewer's signed decision on a held output, counted as on the node's command line."""
        caller, asked = await _asked(gate, request, Decision, MAX_BODY_BYTES)

        def act() -> dict[str, Any]:
            hold = _found(review, hold_id, caller)
            signature = bytes.fromhex(asked.signature[2:])
            made = review.decide(hold, asked.approve, asked.reason, signature, asked.redaction)
            log.info("a reviewer's decision", execution=hold_id, by=caller, signer=made["signer"], new=made["new"])
            return made

        return _json(await run_in_threadpool(act))

    @app.post("/v1/holds/{hold_id}/redactions")
    async def redact(request: Request, hold_id: str) -> Response:
        """One reviewer's wish to let out less than the whole; nothing leaves by it."""
        caller, asked = await _asked(gate, request, Proposal, MAX_REDACTION_BYTES)

        def act() -> dict[str, Any]:
            hold = _found(review, hold_id, caller)
            made = review.redact(hold, asked.without, asked.replacements(), caller)
            log.info("a redaction", execution=hold_id, by=caller, redaction=made["id"], new=made["new"])
            return made

        return _json(await run_in_threadpool(act))


def _install_reads(app: FastAPI, review: Review, gate: Gate) -> None:
    @app.get("/v1/node")
    async def node() -> Response:
        return _json(gate.public)

    @app.get("/v1/holds")
    async def listing(request: Request) -> Response:
        caller, _ = await _admit(gate, request)
        return _json({"holds": await run_in_threadpool(review.listing_for, caller)})

    @app.get("/v1/holds/{hold_id}")
    async def show(request: Request, hold_id: str) -> Response:
        caller, _ = await _admit(gate, request)

        def look() -> dict[str, Any]:
            hold = _found(review, hold_id, caller)
            return {**review.show(hold), "toSign": review.documents(hold)}

        return _json(await run_in_threadpool(look))

    @app.get("/v1/holds/{hold_id}/file")
    async def file(request: Request, hold_id: str, path: str, redaction: str = "") -> Response:
        caller, _ = await _admit(gate, request)

        def begin() -> tuple[int, Iterator[bytes]]:
            return review.read(_found(review, hold_id, caller), path, redaction)

        size, pieces = await run_in_threadpool(begin)
        if size > MAX_FILE_BYTES:
            problem = f"the file has {size} bytes, this API gives {MAX_FILE_BYTES}; save it on the node, with --dir"
            raise Refusal(413, "too-large", "too large", problem)
        headers = {**HEADERS, "Content-Length": str(size), "Content-Disposition": 'attachment; filename="held.bin"'}
        return _Bytes(pieces, media_type="application/octet-stream", headers=headers)


async def _admit(gate: Gate, request: Request) -> tuple[str, bytes]:
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    sent = (path + b"?" + query if query else path).decode("ascii", "backslashreplace")
    return await run_in_threadpool(gate.admit, request.headers, request.method, sent)


def _found(review: Review, hold_id: str, caller: str) -> Hold:
    hold = review.find_for(hold_id, caller)
    if hold is None:
        raise Refusal(404, "not-held", "not held", "no such output waits for this reviewer")
    return hold


async def _asked(gate: Gate, request: Request, kind: type[M], most: int) -> tuple[str, M]:
    """Who calls, and the body of the call, which is of this kind."""
    caller, declared = await _admit(gate, request)
    body = await _body(request, most)
    if sha256(body) != declared:
        raise Refusal(401, "not-signed", "not signed", f"{BODY}: is not the SHA-256 of the body that came")
    return caller, await run_in_threadpool(parse_body, kind, body)


async def _body(request: Request, most: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise Refusal(413, "too-large", "too large", f"a body has at most {most} bytes")
    except TimeoutError as exc:
        raise Refusal(408, "too-slow", "too slow", f"the body did not arrive within {BODY_SECONDS:g} s") from exc
    except ClientDisconnect as exc:
        raise Refusal(400, "cut", "cut", "the connection ended inside the body") from exc
    return bytes(body)


def _json(value: Mapping[str, Any]) -> Response:
    return JSONResponse(_plain(value), headers=HEADERS)


def _plain(value: Any) -> Any:
    """As JSON types: bytes as 0x-hex, integers beyond 2**53 as text."""
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if abs(value) < 2**53 else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _install_problems(app: FastAPI) -> None:
    """Every error as a problem document (RFC 9457)."""

    async def ours(request: Request, error: Exception) -> Response:
        if isinstance(error, Refusal):
            return _problem(error)
        if isinstance(error, InvalidInput):
            return _problem(Refusal(422, "invalid-input", "not valid", str(error)), field=error.field)
        log.warning("a reviewer's call failed", path=request.url.path, error=f"{type(error).__name__}: {error}")
        if isinstance(error, LedgerError):
            return _problem(
                Refusal(503, "ledger", "the ledger cannot be used now", "try again; the node's log says why")
            )
        return _problem(Refusal(500, "internal", "internal error", "the node's log says why"))

    async def http(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return _problem(Refusal(status, "http", "no such call", "docs/spec.md lists the calls there are"))

    async def invalid(_: Request, error: Exception) -> Response:
        del error  # what it quotes was the caller's
        return _problem(Refusal(422, "invalid-input", "not valid", "path: is needed, once, in the query"))

    app.add_exception_handler(InsulaError, ours)
    app.add_exception_handler(OSError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, ours)


def _problem(refusal: Refusal, **more: Any) -> Response:
    body = {
        "type": f"urn:insula:problem:{refusal.name}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        **more,
    }
    return JSONResponse(body, refusal.status, HEADERS, "application/problem+json")
