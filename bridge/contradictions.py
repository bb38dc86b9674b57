"""A node that signs two outcomes of one request: what proves it is kept, an alarm says so, anybody may have it.

Nobody gets it while another node may still be at work on the request: an outcome's hash may be enough to guess a small
outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from bridge.jobs import JobState
from bridge.store import leases as rows
from bridge.store.alarms import add_raised
from bridge.store.contradictions import Contradiction, contradictions_of, keep_contradiction
from bridge.store.engine import Connection, Engine, transaction
from bridge.store.jobs import Job, get_job
from bridge.store.leases import LeaseRow, Slot
from bridge.watch import Alarm, Raised
from executor.errors import InvalidInput
from executor.protocol.evidence import Evidence, SignedOutcome, check_evidence
from executor.protocol.keccak import keccak
from executor.protocol.leases import Attested
from executor.protocol.receipt import receipt_hash

log = structlog.get_logger("bridge.contradictions")

MOST_SHOWN = 64  # at once: an answer that a node can make larger and larger would be read by nobody
_OVER = frozenset({JobState.POSTED, JobState.FINAL, JobState.EXPIRED, JobState.CANCELLED})


def evidence_of(job: Job, slot: Slot, attested: Attested, key: str) -> Evidence | None:
    """What proves that `key` signed `attested` after the other outcome that its slot holds; None where nothing does.

    The second outcome need not be one that could ever be delivered: it is signed.
    """
    if slot.state != rows.ANSWERED or slot.key != key:
        return None
    evidence = Evidence(
        chain_id=job.request.chain_id,
        contract=job.request.contract,
        request_hash=job.request_hash,
        key=key,
        first=SignedOutcome.model_validate(
            {
                "outcome_hash": slot.outcome_hash,
                "receipt_hash": slot.receipt_hash,
                "log_root": slot.log_root,
                "log_size": slot.log_size,
                "relayer": slot.relayer,
                "signature": slot.signature,
            }
        ),
        second=SignedOutcome(
            outcome_hash=keccak(attested.outcome),
            receipt_hash=receipt_hash(attested.receipt),
            log_root=attested.log_root,
            log_size=attested.log_size,
            relayer=attested.relayer,
            signature=attested.signature,
        ),
    )
    try:
        check_evidence(evidence)
    except InvalidInput:
        return None
    return evidence


def note_contradiction(engine: Engine, job: Job, lease: LeaseRow, evidence: Evidence, now: float) -> None:
    """Keep the evidence and raise the alarm, in one transaction; once for each request and key."""
    request = job.request.id
    detail = f"node {lease.node_id} (key {lease.key}) signed two outcomes of request {request}"
    raised = Raised(Alarm.NODE_CONTRADICTION, detail, now, now, 1)
    with transaction(engine) as connection:
        is_new = keep_contradiction(connection, Contradiction(lease.node_id, evidence, now))
        if is_new:
            add_raised(connection, [raised])
    if is_new:
        log.error("a node signed two outcomes of one request", **job.trace, node=lease.node_id, key=lease.key)


@dataclass(frozen=True)
class Shown:
    """What anybody may have now, one of each key first, the newest keys first; `held` is how many more there are that
    wait for their request's end.
    """

    found: tuple[Contradiction, ...]
    held: int


def shown_of(connection: Connection, node_id: int, now: float) -> Shown:
    """The evidence against a node."""
    kept = contradictions_of(connection, node_id)
    shown = [one for one in kept if is_shown(get_job(connection, one.evidence.request_hash), now)]
    return Shown(tuple(_one_of_each_key_first(shown)[:MOST_SHOWN]), len(kept) - len(shown))


def _one_of_each_key_first(found: Sequence[Contradiction]) -> list[Contradiction]:
    """A key is slashed once: its second proof is of less use than the first one of any other key."""
    turns: Counter[str] = Counter()
    turn_of = []
    for one in found:
        turn_of.append(turns[one.evidence.key])
        turns[one.evidence.key] += 1
    return [one for _, one in sorted(zip(turn_of, found, strict=True), key=lambda pair: pair[0])]


def is_shown(job: Job | None, now: float) -> bool:
    """Whether nobody works on the request any more."""
    return job is not None and (job.state in _OVER or now > job.request.deadline)
