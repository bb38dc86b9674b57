"""Who calls: the four headers of `executor.protocol.nodeauth`, a nonce that counts once, and what the key may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from bridge.api.problems import Problem
from bridge.config import ContentConfig
from bridge.dispatcher import Dispatcher
from bridge.store.content import use_nonce
from bridge.store.engine import Engine
from executor.errors import InvalidInput
from executor.protocol.nodeauth import (
    BODY,
    KEY,
    NONCE,
    SIGNATURE,
    TIME,
    Audience,
    SignedCall,
    check_call,
    declared_body,
)
from executor.protocol.wire import checksum_address


@dataclass(frozen=True)
class Gate:
    """Checks signed calls to one bridge. clock: seconds since 1970."""

    dispatcher: Dispatcher
    engine: Engine
    content: ContentConfig
    audience: Audience
    clock: Callable[[], float]

    def require_headers(self, request: Request) -> None:
        """Turn away what is not even signed, before its body is read."""
        absent = [name for name in (KEY, TIME, NONCE, SIGNATURE) if name not in request.headers]
        if absent:
            raise _not_signed(InvalidInput(absent[0], "is missing; calls to this path are signed (docs/spec.md)"))

    async def node(self, request: Request, body_hash: bytes) -> str:
        """The key of the active node that signed this call."""
        return await run_in_threadpool(self._admit, request, body_hash, self.dispatcher.is_node)

    async def uploader(self, request: Request, body_hash: bytes) -> str:
        """The account that signed this upload, one of those that the configuration allows."""
        return await run_in_threadpool(self._admit, request, body_hash, self.require_uploader)

    async def node_before_body(self, request: Request) -> tuple[str, bytes]:
        """As `node`, before the body comes: the key, and the SHA-256 that the body must have (`require_body`)."""
        return await self._before_body(request, self.dispatcher.is_node)

    async def uploader_before_body(self, request: Request) -> tuple[str, bytes]:
        """As `uploader`, before the body comes: the account, and the SHA-256 that the body must have."""
        return await self._before_body(request, self.require_uploader)

    async def _before_body(self, request: Request, allow: Callable[[str], None]) -> tuple[str, bytes]:
        try:
            declared = declared_body(request.headers)
        except InvalidInput as exc:
            raise _not_signed(exc) from exc
        return await run_in_threadpool(self._admit, request, declared, allow), declared

    def _admit(self, request: Request, body_hash: bytes, allow: Callable[[str], None]) -> str:
        now = self.clock()
        call = self._signed(request, body_hash, now)
        allow(call.key)
        if not use_nonce(self.engine, call.key, call.nonce, now):
            raise Problem(401, "replayed", "replayed call", f"{NONCE}: this key has used it before; take a new one")
        return call.key

    def _signed(self, request: Request, body_hash: bytes, now: float) -> SignedCall:
        try:
            return check_call(
                request.headers,
                self.audience,
                method=request.method,
                path=path_as_sent(request),
                body_hash=body_hash,
                now=now,
            )
        except InvalidInput as exc:
            raise _not_signed(exc) from exc

    def require_uploader(self, account: str) -> None:
        """Refuse any account but those that the configuration allows."""
        if account not in self.content.upload_accounts or self.content.upload_quota_bytes == 0:
            raise Problem(
                403,
                "may-not-upload",
                "may not upload",
                f"{account} is none of this bridge's content.upload_accounts; ask its operator",
            )


def claimed_key(request: Request) -> str:
    """Whom a call says that it is from, before anything about it is checked."""
    try:
        return checksum_address(request.headers.get(KEY), KEY)
    except InvalidInput as exc:
        raise _not_signed(exc) from exc


def require_body(digest: bytes, declared: bytes) -> None:
    """Refuse a body that is not the one that was signed."""
    if digest != declared:
        raise _not_signed(InvalidInput(BODY, "is not the SHA-256 of the body that came"))


def path_as_sent(request: Request) -> str:
    """The raw path with its query, byte for byte as it came: what the caller signed."""
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return (path + b"?" + query if query else path).decode("ascii", "backslashreplace")


def _not_signed(error: InvalidInput) -> Problem:
    return Problem(401, "not-signed", "not signed, or not for this bridge", str(error), field=error.field)
