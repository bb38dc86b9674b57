"""Why a job is where it is: for people, and for programs that show it to people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.agreement import agreement
from bridge.bundles import SHOWN
from bridge.causes import CONNECTED_SECONDS, Scene, node_reasons, scene_of
from bridge.dispatcher import LEASABLE, Dispatcher
from bridge.errors import RpcError
from bridge.jobs import OPEN_STATES, JobState
from bridge.matching import LASTING, are_exhausted, reason_name, standing_reason, why_ended
from bridge.routing import NodeReason, summary, weightier
from bridge.store import leases as rows
from bridge.store.contradictions import contradictions_about
from bridge.store.endings import block_time, refundable_at
from bridge.store.engine import reading
from bridge.store.jobs import Job, running_by_requester, scanned_number
from bridge.store.leases import LeaseRow, Slot
from executor.protocol.reasons import Reason
from executor.protocol.wire import OnChainState, Outcome, Status

__all__ = ["CONNECTED_SECONDS", "Ended", "Explanation", "Outvoted", "explain"]


@dataclass(frozen=True, kw_only=True)
class Outvoted:
    """A node that answered otherwise than what stands on-chain: what it said.

    may_be_paid: it signed what stands on-chain as well; for the other outcome alone the contract pays nothing.
    """

    node_id: int
    key: str
    operator: str
    outcome_hash: bytes
    status: int
    reason: int
    exit_code: int
    may_be_paid: bool


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a job ended. nodes: ids of those whose answer stands on-chain; at: its block's time, None once forgotten.

    outcome_hash: of what stands on-chain; outvoted: who said something else; contradicted: ids of nodes that signed two
    outcomes.
    """

    how: str
    why: str
    nodes: tuple[int, ...]
    outcome_hash: bytes | None
    outvoted: tuple[Outvoted, ...]
    contradicted: tuple[int, ...]
    block_number: int | None
    at: int | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a job is where it is, and what it waits for. nodes: each connected node's reason while it can be leased.

    refundable_at: from when on a cancelled request can be drawn, seconds since 1970; None if it is not marked.
    """

    job: Job
    reason: Reason
    detail: str
    awaiting: str
    nodes: tuple[NodeReason, ...]
    slots: tuple[Slot, ...]
    leases: tuple[LeaseRow, ...]
    refundable_at: int | None
    ended: Ended | None


def explain(dispatcher: Dispatcher, job: Job, now: float) -> Explanation:
    """Look at everything that concerns a job now. The chain is asked about connected nodes' labels."""
    with reading(dispatcher.engine) as connection:
        scene = scene_of(connection, job, now)
        running = running_by_requester(connection).get(job.request.requester, 0)
        scanned = scanned_number(connection, job.request.chain_id, job.request.contract)
        refundable = refundable_at(connection, job.request_hash) if job.cancel_marked else None
        settled_at = block_time(connection, job.settled_block_hash)
        contradicted = tuple(found.node_id for found in contradictions_about(connection, job.request_hash))
    nodes: tuple[NodeReason, ...] = ()
    reason, detail = _kept_reason(job)
    if job.state in LEASABLE and _has_open_slot(scene.slots):
        seen = node_reasons(
            dispatcher.matcher, job, scene, now, most_leases=dispatcher.config.dispatch.max_leases_per_node
        )
        # an explanation without a node that the chain cannot say anything about is better than none
        nodes = tuple(item for item in seen if not isinstance(item, RpcError))
        if reason is Reason.NONE or reason in LASTING:
            reason, detail = _why_waiting(dispatcher, job, scene.slots, nodes, running, now)
    is_too_late = job.state is JobState.STORED and refundable is None and now >= job.request.deadline
    return Explanation(
        job=job,
        reason=reason,
        detail=detail,
        awaiting=_TOO_LATE if is_too_late else _awaiting(dispatcher, job, scene, scanned, refundable),
        nodes=nodes,
        slots=scene.slots,
        leases=scene.leases,
        refundable_at=refundable,
        ended=_ended(job, scene, settled_at, contradicted),
    )


def _kept_reason(job: Job) -> tuple[Reason, str]:
    known = next((reason for reason in Reason if reason == job.reason), Reason.NONE)
    return known, job.detail


def _has_open_slot(slots: tuple[Slot, ...]) -> bool:
    return not slots or any(slot.state == rows.OPEN for slot in slots)


def _why_waiting(
    dispatcher: Dispatcher,
    job: Job,
    slots: tuple[Slot, ...],
    nodes: tuple[NodeReason, ...],
    running: int,
    now: float,
) -> tuple[Reason, str]:
    config = dispatcher.config.dispatch
    found = standing_reason(dispatcher.matcher.plan(job), job.request.deadline, config, now)
    exhausted = Reason.ATTEMPTS_EXHAUSTED, f"each open slot has had its {config.max_attempts} attempts"
    if found is not None and found[0] is Reason.TOO_LATE:
        return weightier(found, exhausted if are_exhausted(slots, config.max_attempts) else summary(nodes))
    if found is not None:
        return found
    if are_exhausted(slots, config.max_attempts):
        return exhausted
    if running >= config.max_running_per_requester:
        share = config.max_running_per_requester
        return Reason.NODES_BUSY, f"its requester has {running} leases, and its share is {share}"
    return summary(nodes)


_TOO_LATE = "its refund: the deadline has passed, and the contract takes no result any more"


def _awaiting(dispatcher: Dispatcher, job: Job, scene: Scene, scanned: int | None, refundable: int | None) -> str:
    """What has to happen next, in words."""
    depth = max(0, scanned - job.block_number) if scanned is not None else 0
    chain = dispatcher.config.chain
    if refundable is not None and job.state in OPEN_STATES:
        return _awaited_refund(job)
    if job.state in LEASABLE:
        return _awaited_answers(job, scene)
    if job.state is JobState.OBSERVED:
        return f"its block to be {chain.confirmation_depth} deep; it is {depth}"
    if job.state is JobState.STORED:
        return _awaited_delivery(job, depth, chain.posting_depth)
    return _AWAITING[job.state]


def _awaited_delivery(job: Job, depth: int, wanted: int) -> str:
    if depth < wanted:
        return f"its request to be {wanted} deep; it is {depth}"
    if job.reason == Reason.COPIES_MISSING:
        return "copies of its output at other places (content.replicas)"
    return "the delivery to be handed to the relayer"


def _awaited_refund(job: Job) -> str:
    draw = f"insula job cancel {job.request.id} --draw"
    if job.state is JobState.READY and job.wanted_block is None:
        return f"its requester to draw the refund (marked for cancellation, so nothing is begun): {draw}"
    return f"a result, or its requester to draw the refund (marked for cancellation): {draw}"


def _awaited_answers(job: Job, scene: Scene) -> str:
    order = job.request.order
    answers = [slot.outcome_hash or b"" for slot in scene.slots if slot.state == rows.ANSWERED]
    active = [f"node {lease.node_id} ({lease.phase.value})" for lease in scene.leases if lease.state == rows.ACTIVE]
    if not agreement(order, answers).possible:
        return f"nothing: no {order.quorum} of {order.nodes} nodes can agree; it expires at its deadline"
    counted = f"{len(answers)} of {order.nodes} nodes have answered, {order.quorum} must agree"
    return f"{', '.join(active) or 'a node that takes it'}; {counted}"


_AWAITING = {
    JobState.ATTESTED: "its output to be read back",
    JobState.POSTING: "the delivery to be seen on-chain",
    JobState.POSTED: "its block to be final",
    JobState.EXPIRED: "its block to be final",
    JobState.CANCELLED: "its block to be final",
    JobState.ORPHANED: "its request to come back into the chain; it may never",
    JobState.FINAL: "nothing",
}

_ENDINGS = (JobState.POSTED, JobState.EXPIRED, JobState.CANCELLED, JobState.FINAL)


def _ended(job: Job, scene: Scene, settled_at: int | None, contradicted: tuple[int, ...]) -> Ended | None:
    """How it ended, as far as the chain has said so."""
    if job.state not in _ENDINGS:
        return None
    agreed = job.outcome.hash if job.outcome else None
    answers = [slot for slot in scene.slots if slot.state == rows.ANSWERED]
    nodes = [slot.node_id for slot in answers if slot.outcome_hash == agreed and slot.node_id is not None]
    is_result = job.chain_state not in (OnChainState.EXPIRED, OnChainState.CANCELLED)
    return Ended(
        how=OnChainState(job.chain_state).name.lower(),
        why=_why_so(job) if is_result else _why_without_result(job, scene),
        nodes=tuple(nodes) if is_result else (),
        outcome_hash=agreed if is_result and job.state in SHOWN else None,
        outvoted=_outvoted(answers, agreed, contradicted) if is_result and job.state in SHOWN else (),
        contradicted=contradicted,
        block_number=job.settled_block_number,
        at=settled_at,
    )


def _outvoted(answers: Sequence[Slot], agreed: bytes | None, contradicted: Sequence[int]) -> tuple[Outvoted, ...]:
    others = [slot for slot in answers if agreed is not None and slot.outcome_hash != agreed]
    return tuple(
        Outvoted(
            node_id=slot.node_id or 0,
            key=slot.key or "",
            operator=slot.operator or "",
            outcome_hash=outcome.hash,
            status=outcome.status,
            reason=outcome.reason,
            exit_code=outcome.exit_code,
            may_be_paid=slot.node_id in contradicted,
        )
        for slot in others
        for outcome in (Outcome.decode(slot.outcome or b""),)
    )


def _why_so(job: Job) -> str:
    outcome = job.outcome
    if outcome is None or outcome.status == Status.SUCCEEDED:
        return ""
    said = reason_name(outcome.reason)
    return f"{said}, exit code {outcome.exit_code}" if outcome.status == Status.FAILED else said


def _why_without_result(job: Job, scene: Scene) -> str:
    """The last reason that it waited for, else how its last lease ended."""
    if job.detail:
        return job.detail
    ended = [lease for lease in scene.leases if lease.state in (rows.RETURNED, rows.EXPIRED)]
    if ended:
        return f"its last attempt, on node {ended[-1].node_id}, came to nothing: {why_ended(ended[-1])}"
    return ""
