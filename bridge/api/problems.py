"""Errors as RFC 9457 problem documents: what is wrong, with which field, and what to do. Never a traceback."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from bridge.dispatcher import OutputIncomplete, UnknownLease
from bridge.errors import AskedTooOften, RpcError, StaleLease, StaleTransition, StoreFull, StoreUnavailable
from bridge.registry import NotRegistered
from bridge.repeats import Repeats
from executor.content.disk import is_disk_full
from executor.errors import (
    BlockMismatch,
    BlockMissing,
    CarError,
    ContentTooLarge,
    DiskFull,
    InsulaError,
    InvalidInput,
    MalformedBlock,
)

log = structlog.get_logger("bridge.api")

MEDIA_TYPE = "application/problem+json"


class Problem(InsulaError):
    """An answer that is an error. name: of its type, `urn:insula:problem:NAME`."""

    def __init__(self, status: int, name: str, title: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.title = title
        self.detail = detail
        self.more = more
        self.headers: dict[str, str] = {}

    def response(self) -> Response:
        """The problem as a response."""
        body = {
            "type": f"urn:insula:problem:{self.name}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return JSONResponse(body, status_code=self.status, media_type=MEDIA_TYPE, headers=self.headers)


def not_here(what: str) -> Problem:
    """Absent, or private: the two look the same on purpose."""
    return Problem(404, "not-here", "not here", f"{what} is not here, or not public")


#: error -> (status, name, title); the first that matches counts
_TABLE: tuple[tuple[type[InsulaError], int, str, str], ...] = (
    (NotRegistered, 403, "not-registered", "not an active node's key"),
    (UnknownLease, 404, "unknown-lease", "no such lease"),
    (StaleLease, 409, "stale-lease", "stale fencing token"),
    (StaleTransition, 409, "conflict", "already answered"),
    (AskedTooOften, 429, "too-often", "asked too often"),
    (OutputIncomplete, 409, "output-incomplete", "the output is not here in full"),
    (InvalidInput, 422, "invalid-input", "not valid"),
    (ContentTooLarge, 413, "too-large", "too large"),
    (CarError, 422, "bad-car", "not a good CAR"),
    (MalformedBlock, 422, "bad-content", "not a file or directory"),
    (BlockMismatch, 422, "bad-content", "bytes that do not hash to their CID"),
    (BlockMissing, 404, "not-here", "not here"),
    (DiskFull, 507, "disk-full", "no space left"),
    (StoreFull, 507, "disk-full", "no space left for the bridge's database; its operator must make room"),
    (StoreUnavailable, 503, "store-unavailable", "the bridge's database cannot be used now; try again"),
    (RpcError, 503, "chain-unavailable", "the chain does not answer; try again"),
    (InsulaError, 500, "internal", "internal error"),
)


def problem_of(error: InsulaError) -> Problem:
    """The problem that an error of ours becomes."""
    if isinstance(error, Problem):
        return error
    status, name, title = next(row[1:] for row in _TABLE if isinstance(error, row[0]))
    more = {"field": error.field} if isinstance(error, InvalidInput) else {}
    # What the chain's endpoint or the disk says may name hosts, keys and folders of ours: it stays in our log.
    problem = _retriable(Problem(status, name, title, title if status >= 500 else str(error), **more))
    if isinstance(error, AskedTooOften):
        problem.headers["Retry-After"] = str(error.seconds)
    return problem


def problem_of_system(error: OSError) -> Problem:
    """The problem that an error of the operating system becomes: it is not the caller's, and may pass."""
    if is_disk_full(error):
        return Problem(507, "disk-full", "no space left", "no space is left on the bridge's disk")
    detail = "the bridge's system refused something; its log says what. Try again"
    return _retriable(Problem(503, "system", "the bridge's system refuses", detail))


def _retriable(problem: Problem) -> Problem:
    if problem.status == 503:
        problem.headers["Retry-After"] = "5"
    return problem


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    repeats = Repeats()

    async def ours(request: Request, error: Exception) -> Response:
        problem = problem_of(error) if isinstance(error, InsulaError) else _internal()
        if problem.status >= 500:
            log.warning("call failed", path=request.url.path, error=f"{type(error).__name__}: {error}")
        return problem.response()

    async def system(request: Request, error: Exception) -> Response:
        full = error if repeats.count(error) == 1 else None
        log.warning("call failed", path=request.url.path, error=f"{type(error).__name__}: {error}", exc_info=full)
        return (problem_of_system(error) if isinstance(error, OSError) else _internal()).response()

    async def http(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = str(error.detail) if isinstance(error, HTTPException) else ""
        problem = Problem(status, "http", detail or "error", f"{detail}; see /openapi.json for the calls there are")
        problem.headers = dict(getattr(error, "headers", None) or {})
        return problem.response()

    async def invalid(_: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
        field = ".".join(str(part) for part in first["loc"][1:]) or "request"
        return problem_of(InvalidInput(field, str(first["msg"]))).response()

    async def unforeseen(request: Request, error: Exception) -> Response:
        times = repeats.count(error)
        what = f"{type(error).__name__}: {error}"
        log.error("call failed", path=request.url.path, error=what, times=times, exc_info=error if times == 1 else None)
        return _internal().response()

    app.add_exception_handler(InsulaError, ours)
    app.add_exception_handler(OSError, system)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unforeseen)


def _internal() -> Problem:
    return Problem(500, "internal", "internal error", "the bridge failed at this call; its log says why")
