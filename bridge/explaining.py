"""Why a job is where it is: for people, and for programs that show it to people."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.agreement import agreement
from bridge.dispatcher import LEASABLE, Dispatcher
from bridge.errors import RpcError
from bridge.jobs import JobState
from bridge.matching import are_exhausted, standing_reason, taken_of
from bridge.routing import NodeReason, check_node, free_of, summary
from bridge.store import leases as rows
from bridge.store.engine import reading
from bridge.store.jobs import Job, running_by_requester, scanned_number
from bridge.store.leases import LeaseRow, Slot
from bridge.store.nodes import KnownNode, nodes_since
from executor.errors import InvalidInput
from executor.protocol.leases import Capacity
from executor.protocol.reasons import Reason

MAX_NODES = 200  # explained one by one
CONNECTED_SECONDS = 90.0  # a node that asked for work within this time counts as connected


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a job is where it is, and what it waits for. nodes: each connected node's reason while it can be leased."""

    job: Job
    reason: Reason
    detail: str
    awaiting: str
    nodes: tuple[NodeReason, ...]
    slots: tuple[Slot, ...]
    leases: tuple[LeaseRow, ...]


def explain(dispatcher: Dispatcher, job: Job, now: float) -> Explanation:
    """Look at everything that concerns a job now. The chain is asked about connected nodes' labels."""
    with reading(dispatcher.engine) as connection:
        slots = rows.slots_of(connection, job.request_hash)
        leases = rows.leases_of(connection, job.request_hash)
        known = nodes_since(connection, now - CONNECTED_SECONDS)
        reserved = rows.reserved(connection)
        counts = rows.active_counts(connection)
        running = running_by_requester(connection).get(job.request.requester, 0)
        scanned = scanned_number(connection, job.request.chain_id, job.request.contract)
    nodes: tuple[NodeReason, ...] = ()
    reason, detail = _kept_reason(job)
    if job.state in LEASABLE and _has_open_slot(slots):
        nodes = _node_reasons(dispatcher, job, slots, leases, known, (reserved, counts), now)
        if reason is Reason.NONE:
            reason, detail = _why_waiting(dispatcher, job, slots, nodes, running, now)
    return Explanation(
        job=job,
        reason=reason,
        detail=detail,
        awaiting=_awaiting(dispatcher, job, slots, leases, scanned),
        nodes=nodes,
        slots=tuple(slots),
        leases=tuple(leases),
    )


def _kept_reason(job: Job) -> tuple[Reason, str]:
    known = next((reason for reason in Reason if reason == job.reason), Reason.NONE)
    return known, job.detail


def _has_open_slot(slots: list[Slot]) -> bool:
    return not slots or any(slot.state == rows.OPEN for slot in slots)


def _node_reasons(
    dispatcher: Dispatcher,
    job: Job,
    slots: list[Slot],
    leases: list[LeaseRow],
    known: list[KnownNode],
    used: tuple[dict[int, Capacity], dict[int, int]],
    now: float,
) -> tuple[NodeReason, ...]:
    plan = dispatcher.matcher.plan(job)
    if plan.is_absent:
        return ()
    taken = taken_of(slots, leases, now)
    found = []
    reserved, counts = used
    most = dispatcher.config.dispatch.max_leases_per_node
    for node in known[:MAX_NODES]:
        free = free_of(node.advert, reserved.get(node.node_id, rows.NOTHING), most - counts.get(node.node_id, 0))
        try:
            snapshot = dispatcher.matcher.snapshot(node, plan.need, free, now)
        except (RpcError, InvalidInput):
            continue  # an explanation without this node is better than none
        found.append(check_node(plan.need, snapshot, taken))
    return tuple(found)


def _why_waiting(
    dispatcher: Dispatcher, job: Job, slots: list[Slot], nodes: tuple[NodeReason, ...], running: int, now: float
) -> tuple[Reason, str]:
    config = dispatcher.config.dispatch
    found = standing_reason(dispatcher.matcher.plan(job), job.request.deadline, config, now)
    if found is not None:
        return found
    if are_exhausted(slots, config.max_attempts):
        return Reason.ATTEMPTS_EXHAUSTED, f"each open slot has had its {config.max_attempts} attempts"
    if running >= config.max_running_per_requester:
        share = config.max_running_per_requester
        return Reason.NODES_BUSY, f"its requester has {running} leases, and its share is {share}"
    return summary(nodes)


def _awaiting(dispatcher: Dispatcher, job: Job, slots: list[Slot], leases: list[LeaseRow], scanned: int | None) -> str:
    """What has to happen next, in words."""
    depth = max(0, scanned - job.block_number) if scanned is not None else 0
    chain = dispatcher.config.chain
    order = job.request.order
    answers = [slot.outcome_hash or b"" for slot in slots if slot.state == rows.ANSWERED]
    active = [f"node {lease.node_id} ({lease.phase.value})" for lease in leases if lease.state == rows.ACTIVE]
    if job.state in LEASABLE:
        if not agreement(order, answers).possible:
            return f"nothing: no {order.quorum} of {order.nodes} nodes can agree; it expires at its deadline"
        counted = f"{len(answers)} of {order.nodes} nodes have answered, {order.quorum} must agree"
        return f"{', '.join(active) or 'a node that takes it'}; {counted}"
    if job.state is JobState.OBSERVED:
        return f"its block to be {chain.confirmation_depth} deep; it is {depth}"
    if job.state is JobState.STORED:
        return f"its request to be {chain.posting_depth} deep; it is {depth}"
    return _AWAITING[job.state]


_AWAITING = {
    JobState.ATTESTED: "its output to be read back",
    JobState.POSTING: "the delivery to be seen on-chain",
    JobState.POSTED: "its block to be final",
    JobState.EXPIRED: "its block to be final",
    JobState.CANCELLED: "its block to be final",
    JobState.ORPHANED: "its request to come back into the chain; it may never",
    JobState.FINAL: "nothing",
}
