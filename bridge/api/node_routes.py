"""The node API: leases, and the content that goes with them. Paths and messages: `executor.protocol.leases`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import IO, Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from bridge.api.auth import Gate, claimed_key, require_body
from bridge.api.body import pieces_of, read_car, read_json
from bridge.api.places import KeyTurns, UploadPlaces
from bridge.api.problems import not_here
from bridge.api.waiting import Waiting, wait
from bridge.dispatcher import Dispatcher
from bridge.outputs import Allowance
from bridge.settlement import root_label
from bridge.store.content import brought_for, slot_owner
from bridge.store.engine import reading, transaction
from bridge.store.jobs import Job
from bridge.store.leases import LeaseRow, note_upload
from bridge.uploads import store_car
from executor.content.car import MEDIA_TYPE as CAR_TYPE
from executor.content.car import export_car
from executor.content.gateway import CutStream
from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.leases import (
    Advert,
    Attested,
    Heartbeat,
    HeartbeatAnswer,
    Lease,
    LeaseReturn,
    Missing,
    parse_body,
)

LOOK_AGAIN_SECONDS = 5.0  # a waiting node is looked at again even if nothing seems to have changed

Root = Annotated[str, Query(max_length=100)]
Token = Annotated[int, Query(ge=1, lt=2**63)]


Signed = Callable[[Request], Awaitable[tuple[str, bytes]]]  # who signed a call with a JSON body, and the body


def router(dispatcher: Dispatcher, gate: Gate, waiting: Waiting, wake: Callable[[], None]) -> APIRouter:
    """The routes. wake: called after a call that gave the loops something to do."""
    routes = APIRouter(prefix="/v1/leases", tags=["node API"])

    async def signed(request: Request) -> tuple[str, bytes]:
        gate.require_headers(request)
        body = await read_json(request)
        return await gate.node(request, hashlib.sha256(body).digest()), body

    _add_leases(routes, dispatcher, signed, waiting, wake)
    _add_content(routes, dispatcher, signed, gate)
    return routes


def _add_leases(
    routes: APIRouter, dispatcher: Dispatcher, signed: Signed, waiting: Waiting, wake: Callable[[], None]
) -> None:
    @routes.post(
        "", response_model=Lease, responses={204: {"description": "nothing to do"}}, openapi_extra=_body(Advert)
    )
    async def ask(request: Request) -> Response:
        """Ask for work; waits up to `wait_seconds` for some."""
        key, body = await signed(request)
        lease = await _ask(dispatcher, waiting, request, key, parse_body(Advert, body))
        if lease is None:
            return Response(status_code=204)
        return Response(lease.model_dump_json(), media_type="application/json")

    @routes.post("/{lease_id}/heartbeat", openapi_extra=_body(Heartbeat))
    async def heartbeat(lease_id: str, request: Request) -> HeartbeatAnswer:
        """Renew a lease, or hear why to stop."""
        key, body = await signed(request)
        return await run_in_threadpool(dispatcher.heartbeat, key, lease_id, parse_body(Heartbeat, body))

    @routes.post("/{lease_id}/return", status_code=204, openapi_extra=_body(LeaseReturn))
    async def give_back(lease_id: str, request: Request) -> None:
        """Give a lease back for a reason of the node's own."""
        key, body = await signed(request)
        await run_in_threadpool(dispatcher.give_back, key, lease_id, parse_body(LeaseReturn, body))
        waiting.changed()

    @routes.post("/{lease_id}/attestation", status_code=204, openapi_extra=_body(Attested))
    async def attest(lease_id: str, request: Request) -> None:
        """Hand in a signed outcome; the same bytes again are fine."""
        key, body = await signed(request)
        await run_in_threadpool(dispatcher.accept_attestation, key, lease_id, parse_body(Attested, body))
        wake()


def _add_content(routes: APIRouter, dispatcher: Dispatcher, signed: Signed, gate: Gate) -> None:
    places, turns = UploadPlaces(), KeyTurns()

    @routes.get("/{lease_id}/car/{cid}", response_class=StreamingResponse)
    async def content(lease_id: str, cid: str, request: Request) -> Response:
        """An input of the leased job, or any block below one, as CAR."""
        key, _ = await signed(request)
        root = Cid.parse(cid)
        await run_in_threadpool(_require_input, dispatcher, key, lease_id, root)
        return CutStream(export_car(dispatcher.store, root), {"Content-Type": CAR_TYPE})

    @routes.get("/{lease_id}/missing")
    async def lacks(lease_id: str, root: Root, token: Token, request: Request) -> Missing:
        """Which blocks of an output this node has not uploaded yet."""
        key, _ = await signed(request)
        return await run_in_threadpool(_missing, dispatcher, key, lease_id, token, Cid.parse(root, "root"))

    @routes.put("/{lease_id}/content", openapi_extra=CAR_BODY)
    async def upload(lease_id: str, root: Root, token: Token, request: Request) -> Missing:
        """Upload blocks of a released output; says what is missing then."""
        gate.require_headers(request)
        await run_in_threadpool(dispatcher.active_lease, claimed_key(request), lease_id, token)
        key, declared = await gate.node_before_body(request)
        with places.taken(key):
            async with read_car(request) as (file, digest):
                require_body(digest, declared)
                act = partial(_upload, dispatcher, key, lease_id, token, Cid.parse(root, "root"), file)
                return await turns.run(key, act)


def _body(model: type) -> dict[str, object]:
    """The body's schema for OpenAPI: it is read and checked by hand, within limits."""
    schema = {"schema": model.model_json_schema()} if hasattr(model, "model_json_schema") else {}
    return {"requestBody": {"required": True, "content": {"application/json": schema}}}


CAR_BODY: dict[str, object] = {
    "requestBody": {"required": True, "content": {CAR_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


async def _ask(dispatcher: Dispatcher, waiting: Waiting, request: Request, key: str, advert: Advert) -> Lease | None:
    end = time.monotonic() + advert.wait_seconds
    event = waiting.enter()
    try:
        while True:
            lease = await run_in_threadpool(dispatcher.lease_for, key, advert)
            left = end - time.monotonic()
            if lease is not None or left <= 0:
                return lease
            await wait(event, min(left, LOOK_AGAIN_SECONDS))
            if await request.is_disconnected():
                return None
    finally:
        waiting.leave(event)


def _require_input(dispatcher: Dispatcher, key: str, lease_id: str, wanted: Cid) -> None:
    """Where a block below is lost, the stream is cut there, and the next call, for that block, is told so."""
    _, job = dispatcher.active_lease(key, lease_id, None)
    if not (_may_read(dispatcher, key, job, wanted) and dispatcher.store.has(wanted)):
        raise not_here(str(wanted))


def _may_read(dispatcher: Dispatcher, key: str, job: Job, wanted: Cid) -> bool:
    """Whether a job may read a DAG: it is public, or below what the job names and was uploaded for its requester.

    A CID is no secret (orders are public), and anybody can order a job and register a node for it: naming somebody
    else's private input must open nothing. Each of the two opens a DAG as a whole.
    """
    if dispatcher.roots.is_public(wanted, dispatcher.clock()):
        return True
    named = dispatcher.matcher.plan(job).content
    with reading(dispatcher.engine) as connection:
        owners = {root: brought_for(connection, root, job.request.requester) for root in named}
    if owners.get(wanted):
        return True
    return any(owner and dispatcher.holdings.is_below(owner, root, wanted, who=key) for root, owner in owners.items())


def _missing(
    dispatcher: Dispatcher, key: str, lease_id: str, token: int, root: Cid, brought: Allowance | None = None
) -> Missing:
    lease, _ = dispatcher.active_lease(key, lease_id, token)
    owner = slot_owner(lease.request_hash, key)
    absent = dispatcher.holdings.missing(owner, root, who=key, brought=brought)
    return Missing(missing=tuple(map(str, absent)))


def _upload(dispatcher: Dispatcher, key: str, lease_id: str, token: int, root: Cid, file: IO[bytes]) -> Missing:
    lease, job = dispatcher.active_lease(key, lease_id, token)
    plan = dispatcher.matcher.plan(job)
    if plan.spec is None:
        raise InvalidInput("lease_id", "is of a job whose spec can never run; its outcome has no output")
    limit = min(plan.need.output_bytes, dispatcher.config.content.max_output_bytes)
    allowance = dispatcher.holdings.allowance(slot_owner(lease.request_hash, key), limit)
    try:
        store_car(dispatcher.holdings, allowance, pieces_of(file))
    finally:
        if allowance.holds:
            _keep(dispatcher, lease, job, root)
        with transaction(dispatcher.engine) as connection:
            note_upload(connection, lease, root.binary, file.tell())
    return _missing(dispatcher, key, lease_id, token, root, allowance)


def _keep(dispatcher: Dispatcher, lease: LeaseRow, job: Job, root: Cid) -> None:
    """Garbage collection leaves an output alone until it is of no use to anybody; a lease keeps one root at a time."""
    label = f"{root_label(job.request_hash)}/{lease.slot}"
    until = job.request.deadline + dispatcher.config.content.retention_seconds
    if lease.output_root == root.binary:
        return
    dispatcher.roots.keep(root, label, until)
    if lease.output_root is not None:
        dispatcher.roots.drop(Cid.from_binary(lease.output_root), label)
