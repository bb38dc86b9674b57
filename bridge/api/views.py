"""Jobs, explanations and nodes as JSON. Nothing of an output or an attestation shows before it stands on-chain."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bridge.bundles import SHOWN
from bridge.contradictions import Shown
from bridge.explaining import Ended, Explanation
from bridge.matching import reason_name
from bridge.store.jobs import Job
from bridge.store.leases import LeaseRow, Slot
from bridge.store.nodes import KnownNode
from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.conversions import conversion_report
from executor.protocol.wire import OnChainState, Outcome, Status


def job_view(job: Job) -> dict[str, Any]:
    """A job: bytes in 0x-hex, amounts as decimal strings, times in seconds since 1970."""
    order = job.request.order
    return {
        "request_id": job.request.id,
        "request_hash": hexed(job.request_hash),
        "state": job.state.value,
        "reason": reason_name(job.reason),
        "detail": job.detail,
        "chain_state": OnChainState(job.chain_state).name,
        "chain_id": job.request.chain_id,
        "contract": job.request.contract,
        "requester": job.request.requester,
        "deadline": job.request.deadline,
        "nodes": order.nodes,
        "quorum": order.quorum,
        "curator": order.curator,
        "callback": order.callback,
        "token": order.token,
        "unit_price": str(order.unit_price),
        "fail_price": str(order.fail_price),
        "delivery_fee": str(order.delivery_fee),
        "order": hexed(order.encode()),
        "block_number": job.block_number,
        "block_hash": hexed(job.block_hash),
        "tx_hash": hexed(job.tx_hash),
        "observed_at": job.observed_at,
        "changed_at": job.changed_at,
        "cancel_marked": job.cancel_marked,
        "settled_tx": hexed(job.settled_tx) if job.settled_tx else None,
        "settled_block_number": job.settled_block_number,
        "callback_ok": job.callback_ok,
        "outcome": _outcome(job.outcome) if job.outcome and job.state in SHOWN else None,
    }


def explanation_view(found: Explanation) -> dict[str, Any]:
    """An explanation."""
    return {
        "request_id": found.job.request.id,
        "request_hash": hexed(found.job.request_hash),
        "state": found.job.state.value,
        "reason": found.reason.name,
        "code": found.reason.value,
        "detail": found.detail,
        "awaiting": found.awaiting,
        "refundable_at": found.refundable_at,
        "ended": _ended(found.ended) if found.ended else None,
        "nodes": [{"node_id": n.node_id, "key": n.key, "code": n.code.value, "text": n.text} for n in found.nodes],
        "slots": [_slot(slot) for slot in found.slots],
        "leases": [_lease(lease) for lease in found.leases],
        "conversion": _conversion(found.job),
    }


def node_view(node: KnownNode) -> dict[str, Any]:
    """A node, with what it said of itself."""
    return {
        "node_id": node.node_id,
        "key": node.key,
        "operator": node.operator,
        "seen_at": node.seen_at,
        **node.advert.model_dump(mode="json", exclude={"wait_seconds"}),
    }


def evidence_view(node_id: int, shown: Shown) -> dict[str, Any]:
    """The evidence against a node, each as `insula node slash` takes it, in the order of `Shown`.

    held: how much more there is that is shown once its request is over.
    """
    return {
        "node_id": node_id,
        "found": [{"found_at": one.found_at, "evidence": one.evidence.model_dump(mode="json")} for one in shown.found],
        "held": shown.held,
    }


def hexed(data: bytes) -> str:
    """Bytes in 0x-hex."""
    return f"0x{data.hex()}"


def _ended(ended: Ended) -> dict[str, Any]:
    return {
        **asdict(ended),
        "outcome_hash": hexed(ended.outcome_hash) if ended.outcome_hash else None,
        "outvoted": [
            {
                **asdict(one),
                "outcome_hash": hexed(one.outcome_hash),
                "status_name": _status_name(one.status),
                "reason": reason_name(one.reason),
            }
            for one in ended.outvoted
        ],
    }


def _status_name(number: int) -> str:
    return next((status.name for status in Status if status == number), str(number))


def _conversion(job: Job) -> dict[str, Any] | None:
    """How a spec of another dialect is read; None for one that is not converted, or not here."""
    order = job.request.order
    spec = job.spec if order.spec_is_cid else order.spec
    found = None if spec is None else conversion_report(order, spec)
    if found is None:
        return None
    return {"dialect": order.dialect, "refused": found.get("reason"), "report_sha256": found["reportSha256"]}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "status": outcome.status,
        "status_name": _status_name(outcome.status),
        "reason": reason_name(outcome.reason),
        "exit_code": outcome.exit_code,
        "output_cid": _cid(outcome.output_cid),
        "payload": hexed(outcome.payload),
        "outcome_hash": hexed(outcome.hash),
    }


def _cid(binary: bytes) -> str | None:
    """A CID as text; the contract takes any bytes from whoever relays, so they may be none."""
    if not binary:
        return None
    try:
        return str(Cid.from_binary(binary))
    except InvalidInput:
        return hexed(binary)


def _slot(slot: Slot) -> dict[str, Any]:
    return {
        "slot": slot.slot,
        "state": slot.state,
        "attempts": slot.attempts,
        "node_id": slot.node_id,
        "operator": slot.operator,
        "answered_at": slot.answered_at,
    }


def _lease(lease: LeaseRow) -> dict[str, Any]:
    return {
        "slot": lease.slot,
        "attempt": lease.attempt,
        "node_id": lease.node_id,
        "state": lease.state,
        "phase": lease.phase.value,
        "granted_at": lease.granted_at,
        "expires_at": lease.expires_at,
        "ended_at": lease.ended_at,
        "reason": reason_name(lease.reason),
        "detail": lease.detail,
    }
