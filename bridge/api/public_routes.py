"""What anybody may read: status, jobs, explanations, bundles, nodes. Nothing here changes anything."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from bridge.api.problems import Problem
from bridge.api.status import Status
from bridge.api.views import evidence_view, explanation_view, job_view, node_view
from bridge.bundles import NotSettled, bundle_of
from bridge.contradictions import shown_of
from bridge.dispatcher import Dispatcher
from bridge.explaining import CONNECTED_SECONDS, explain
from bridge.jobs import JobState
from bridge.producers import producers_of
from bridge.settlement import hash_of_label
from bridge.store.engine import reading
from bridge.store.jobs import Job, count_by_state, find_jobs, get_job, latest_jobs
from bridge.store.leases import slots_of
from bridge.store.nodes import nodes_since
from executor.errors import InvalidInput
from executor.protocol.cid import Cid

EXPLAIN_AT_ONCE = 4
LABELS = 64  # of one root, looked at for who produced it; each slot of a request has one, too
EXPLAIN_SECONDS = 5.0
_ID = re.compile(r"[1-9][0-9]{0,17}")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")


def router(dispatcher: Dispatcher, clock: Callable[[], float], status: Status) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["public"])
    explaining = threading.BoundedSemaphore(EXPLAIN_AT_ONCE)

    @routes.get("/healthz")
    def health() -> dict[str, bool]:
        """Whether the process answers and its database can be read."""
        with reading(dispatcher.engine) as connection:
            count_by_state(connection)
        return {"ok": True}

    @routes.get("/v1/status")
    def whole_status() -> dict[str, Any]:
        """Which bridge this is, how it does, and why nothing is happening."""
        return status.view()

    @routes.get("/v1/jobs")
    def jobs(state: JobState | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> dict[str, Any]:
        """The newest requests, of one state or of any."""
        with reading(dispatcher.engine) as connection:
            return {"jobs": [job_view(job) for job in latest_jobs(connection, state, limit)]}

    @routes.get("/v1/jobs/{ref}")
    def job(ref: str) -> dict[str, Any]:
        """One request, by id or by 0x and request hash; until when its output is served, where that is public."""
        found = _find(dispatcher, ref)
        return {**job_view(found), "output_public_until": _public_until(dispatcher, found, clock())}

    @routes.get("/v1/jobs/{ref}/explain")
    def why(ref: str) -> dict[str, Any]:
        """Why a job is where it is, node by node, and what it waits for."""
        found = _find(dispatcher, ref)
        # It asks the chain about nodes' labels: a crowd that asks must not use up the endpoint's patience.
        if not explaining.acquire(timeout=EXPLAIN_SECONDS):
            raise Problem(503, "busy", "busy", "too many ask for explanations now; try again in a moment")
        try:
            return explanation_view(explain(dispatcher, found, clock()))
        finally:
            explaining.release()

    _add_proofs(routes, dispatcher, clock)
    _add_nodes(routes, dispatcher, clock)
    return routes


def _add_proofs(routes: APIRouter, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
    @routes.get("/v1/jobs/{ref}/bundle")
    def bundle(ref: str) -> Response:
        """Everything that `insula job verify` needs, once an outcome stands on-chain."""
        found = _find(dispatcher, ref)
        with reading(dispatcher.engine) as connection:
            slots = slots_of(connection, found.request_hash)
        try:
            text = bundle_of(found, slots).model_dump_json()
        except NotSettled as exc:
            raise Problem(409, "not-settled", "not settled yet", str(exc)) from exc
        return Response(text, media_type="application/json")

    @routes.get("/v1/outputs/{cid}")
    def producers(cid: str) -> Response:
        """Which settled requests have this output, and whose attestations say so; at most four, or none."""
        root = Cid.parse(cid)
        labels = dispatcher.roots.labels(root, clock(), LABELS)
        hashes = [found for label in labels if (found := hash_of_label(label)) is not None]
        text = producers_of(dispatcher.engine, root, hashes).model_dump_json(by_alias=True)
        return Response(text, media_type="application/json")


def _add_nodes(routes: APIRouter, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
    @routes.get("/v1/nodes")
    def nodes() -> dict[str, Any]:
        """The nodes that asked for work lately, with what they said of themselves."""
        with reading(dispatcher.engine) as connection:
            return {"nodes": [node_view(node) for node in nodes_since(connection, clock() - CONNECTED_SECONDS)]}

    @routes.get("/v1/nodes/{node_id}/evidence")
    def evidence(node_id: Annotated[int, Path(ge=1, lt=2**63)]) -> dict[str, Any]:
        """What proves that a node signed two outcomes of one request; anybody can have its stake slashed with it."""
        with reading(dispatcher.engine) as connection:
            return evidence_view(node_id, shown_of(connection, node_id, clock()))


def _public_until(dispatcher: Dispatcher, job: Job, now: float) -> float | None:
    """Seconds since 1970; None where the output is not public here, or for as long as nobody drops it."""
    if job.outcome is None or not job.outcome.output_cid:
        return None
    try:
        until = dispatcher.roots.public_until(Cid.from_binary(job.outcome.output_cid), now)
    except InvalidInput:  # whoever relays may write any bytes there
        return None
    return until if until is not None and math.isfinite(until) else None


def _find(dispatcher: Dispatcher, ref: str) -> Job:
    """The job of a reference. Of an id that a reorg gave to several requests: the one that is on the chain."""
    with reading(dispatcher.engine) as connection:
        if _HASH.fullmatch(ref):
            found = get_job(connection, bytes.fromhex(ref[2:]))
        elif _ID.fullmatch(ref):
            candidates = find_jobs(connection, int(ref))
            live = [job for job in candidates if job.state is not JobState.ORPHANED]
            found = next(iter(live or candidates), None)
        else:
            raise InvalidInput("ref", f"{ref!r:.80} is neither a request id nor 0x and a request hash")
    if found is None:
        raise Problem(404, "unknown-job", "no such job", f"this bridge has not seen request {ref:.80}")
    return found
