"""Uploads of requesters' inputs, by accounts that the configuration allows, within a quota and a retention."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import IO, Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from bridge.api.auth import Gate, require_body
from bridge.api.body import pieces_of, read_car, read_json
from bridge.api.node_routes import CAR_BODY, Root
from bridge.api.places import KeyTurns, UploadPlaces
from bridge.dispatcher import Dispatcher
from bridge.store.content import (
    BLOCK_OVERHEAD_BYTES,
    Upload,
    account_owner,
    begin_account_upload,
    drop_account_upload,
    held_bytes,
    note_account_upload,
)
from bridge.store.engine import transaction
from bridge.uploads import store_car
from executor.protocol.cid import Cid
from executor.protocol.leases import Missing, Withdrawn
from executor.protocol.wire import checksum_address

Public = Annotated[int, Query(ge=0, le=1)]
Requester = Annotated[str, Query(max_length=42)]


def router(dispatcher: Dispatcher, gate: Gate, wake: Callable[[], None]) -> APIRouter:
    """The routes. wake: called when content has arrived for which a job may wait."""
    routes = APIRouter(prefix="/v1/content", tags=["uploads"])
    places, turns = UploadPlaces(), KeyTurns()
    # Each block is counted with more than what a CAR adds to it: a longer body cannot fit.
    longest = dispatcher.config.content.upload_quota_bytes + BLOCK_OVERHEAD_BYTES

    @routes.get("/missing")
    async def lacks(root: Root, request: Request) -> Missing:
        """Which blocks below a root this account has not uploaded yet."""
        gate.require_headers(request)
        body = await read_json(request)
        account = await gate.uploader(request, hashlib.sha256(body).digest())
        return await run_in_threadpool(_missing, dispatcher, account, Cid.parse(root, "root"))

    @routes.put("", openapi_extra=CAR_BODY)
    async def upload(root: Root, request: Request, public: Public = 0, requester: Requester = "") -> Missing:
        """Upload blocks below a root; says what is missing then.

        While it is private, only nodes that run a job of `requester` (empty: the account itself) may read it.
        """
        meant_for = checksum_address(requester, "requester") if requester else ""
        gate.require_headers(request)
        account, declared = await gate.uploader_before_body(request)
        with places.taken(account):
            async with read_car(request, longest) as (file, digest):
                require_body(digest, declared)
                cid = Cid.parse(root, "root")
                act = partial(_upload, dispatcher, account, cid, bool(public), meant_for or account, file)
                found = await turns.run(account, act)
        wake()
        return found

    @routes.delete("")
    async def withdraw(root: Root, request: Request) -> Withdrawn:
        """Take back what this account uploaded of a root: it counts and is served no longer, unless others keep it.

        Again, or of what was never uploaded: nothing is freed. A job that still needs it will not find it.
        """
        gate.require_headers(request)
        body = await read_json(request)
        account = await gate.uploader(request, hashlib.sha256(body).digest())
        return await turns.run(account, partial(_withdraw, dispatcher, account, Cid.parse(root, "root")))

    return routes


def _missing(dispatcher: Dispatcher, account: str, root: Cid) -> Missing:
    absent = dispatcher.holdings.missing(account_owner(account, root), root, who=account, verify=True)
    return Missing(missing=tuple(map(str, absent)))


def _upload(dispatcher: Dispatcher, account: str, root: Cid, public: bool, requester: str, file: IO[bytes]) -> Missing:
    now = dispatcher.clock()
    content = dispatcher.config.content
    until = now + content.retention_seconds
    label, private_label = _labels(account)
    upload = Upload(account=account, root=root.binary, public=public, requester=requester, complete=False)
    with transaction(dispatcher.engine) as connection:
        begin_account_upload(connection, upload, now)
    allowance = dispatcher.holdings.account_allowance(account, root, content.upload_quota_bytes)
    try:
        store_car(dispatcher.holdings, allowance, pieces_of(file))
    finally:
        if allowance.holds:
            dispatcher.roots.keep(root, private_label, until)
        absent = dispatcher.holdings.missing(allowance.owner, root, who=account, brought=allowance)
        with transaction(dispatcher.engine) as connection:
            stored = held_bytes(connection, allowance.owner)
            note_account_upload(connection, replace(upload, complete=not absent), stored, now)
    found = Missing(missing=tuple(map(str, absent)))
    if public and not found.missing and not dispatcher.roots.prolong(root, label, until):
        dispatcher.roots.publish(root, label, until)
    return found


def _withdraw(dispatcher: Dispatcher, account: str, root: Cid) -> Withdrawn:
    """Each part does nothing the second time, so that a call which was cut short is simply made again."""
    for label in _labels(account):
        dispatcher.roots.drop(root, label)
    with transaction(dispatcher.engine) as connection:
        return Withdrawn(freed_bytes=drop_account_upload(connection, account, root))


def _labels(account: str) -> tuple[str, str]:
    """Under which an account's uploads are kept: what it made public, and what is private."""
    return f"upload:{account}", f"upload:{account}:private"
