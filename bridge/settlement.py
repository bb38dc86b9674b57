"""What happens to answers: agreement, reading the output back, handing over to the outbox, making it public.

One pass of `Settlement.step` goes over every job that something can be done for. Each change is one transaction; a job
that somebody else moved meanwhile is simply looked at again in the next pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from bridge.agreement import agreement
from bridge.causes import node_reasons, scene_of
from bridge.config import BridgeConfig
from bridge.errors import RpcError, StaleLease, StaleTransition
from bridge.jobs import JobState
from bridge.matching import LASTING, Matcher, are_exhausted, plan_of, standing_reason
from bridge.outputs import Holdings
from bridge.replicas import Replicas
from bridge.routing import summary, weightier
from bridge.store import leases as rows
from bridge.store.content import drop_old_uploads, forget_nonces, is_meant_for, release_blocks, slot_owner
from bridge.store.engine import Connection, Engine, reading, transaction
from bridge.store.jobs import (
    Job,
    annotate_job,
    answered_jobs,
    forget_published,
    get_job,
    jobs_in,
    move_job,
    scanned_number,
    set_values,
    unpublished_jobs,
    waiting_jobs,
)
from bridge.store.leases import Slot
from bridge.store.mirror import forget_other_copies
from executor.content.blockstore import BlockStore
from executor.content.roots import RootSet
from executor.errors import BlockMismatch, BlockMissing, ContentError, InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.nodeauth import MAX_SKEW_SECONDS
from executor.protocol.reasons import Reason
from executor.protocol.spec import InvalidSpec, spec_cid
from executor.protocol.wire import Attestation, Outcome

log = structlog.get_logger("bridge.settlement")

PAGE = 500  # jobs of one kind looked at in one pass
REVIEW_SECONDS = 5.0  # how often waiting jobs are looked at for why they wait
HOUSEKEEPING_SECONDS = 60.0
OUTPUT_LABEL = "job:"  # of roots that are outputs
_OUTPUT = re.compile(f"{OUTPUT_LABEL}0x([0-9a-f]{{64}})")
#: Why the leases of a job in one of these states have no point any more.
DEAD: dict[JobState, str] = {
    JobState.ATTESTED: "a quorum of nodes has answered",
    JobState.STORED: "a quorum of nodes has answered",
    JobState.POSTING: "a quorum of nodes has answered",
    JobState.POSTED: "an outcome stands on-chain",
    JobState.FINAL: "an outcome stands on-chain",
    JobState.EXPIRED: "the request was refunded after its deadline",
    JobState.CANCELLED: "the request was cancelled",
    JobState.ORPHANED: "the request left the chain",
}


class Enqueue(Protocol):
    """Writes the delivery of an outcome into the outbox, in the transaction of `connection`."""

    def __call__(
        self, connection: Connection, job: Job, outcome: Outcome, attestations: Sequence[Attestation], now: float
    ) -> object:
        """Again for the same request: takes the place of the delivery before."""
        ...


class Settlement:
    """See the module."""

    def __init__(
        self,
        engine: Engine,
        store: BlockStore,
        roots: RootSet,
        holdings: Holdings,
        config: BridgeConfig,
        clock: Callable[[], float],
        *,
        enqueue: Enqueue,
        matcher: Matcher,
        replicas: Replicas,
    ) -> None:
        self._engine = engine
        self._store = store
        self._roots = roots
        self._holdings = holdings
        self._config = config
        self._clock = clock
        self._enqueue = enqueue
        self._matcher = matcher
        self._replicas = replicas
        self._offsets = {"answered": 0, "no spec": 0, "waiting": 0, "stored": 0}
        self._reviewed_at = 0.0
        self._cleaned_at = 0.0

    def step(self, now: float) -> bool:
        """One pass; whether anything changed."""
        changed = self._revoke_dead(now)
        changed = self._agree(now) or changed
        changed = self._read_back(now) or changed
        changed = self._hand_over(now) or changed
        changed = self.publish(now) or changed
        if now - self._reviewed_at >= REVIEW_SECONDS:
            self._reviewed_at = now
            changed = self._review(now) or changed
        if now - self._cleaned_at >= HOUSEKEEPING_SECONDS:
            self._cleaned_at = now
            self._clean(now)
        return changed

    def _revoke_dead(self, now: float) -> bool:
        with transaction(self._engine) as connection:
            found = rows.active_in_states(connection, [state.value for state in DEAD])
            for lease, state in found:
                rows.end(connection, lease, rows.REVOKED, now, detail=DEAD[JobState(state)])
        return bool(found)

    def _agree(self, now: float) -> bool:
        with reading(self._engine) as connection:
            jobs = answered_jobs(connection, PAGE, self._offsets["answered"])
            self._turn("answered", jobs)
        done = [self._agree_on(job, now) for job in jobs]
        return any(done)

    def _agree_on(self, job: Job, now: float) -> bool:
        with reading(self._engine) as connection:
            slots = rows.slots_of(connection, job.request_hash)
            active = rows.active_leases(connection, job.request_hash)
        found = agreement(
            job.request.order, [slot.outcome_hash or b"" for slot in slots if slot.state == rows.ANSWERED]
        )
        if found.agreed is None:
            return not found.possible and self._give_up(job, now)
        if job.wanted_block is not None and not self._came_again(job, slots, found.agreed):
            return False
        waited = job.agreed_at is not None and now >= job.agreed_at + self._config.dispatch.agreement_grace_seconds
        if found.complete or waited or not active or job.wanted_block is not None:
            return self._attest(job, slots, found.agreed, now)
        if job.agreed_at is None:
            return self._try(job, lambda connection: set_values(connection, job.request_hash, job.state, agreed_at=now))
        return False

    def _attest(self, job: Job, slots: Sequence[Slot], agreed: bytes, now: float) -> bool:
        outcome = next(slot.outcome for slot in slots if slot.outcome_hash == agreed)
        values = {
            "outcome": outcome,
            "agreed_at": job.agreed_at or now,
            "reason": 0,
            "detail": "",
            "wanted_block": None,
        }

        def move(connection: Connection) -> None:
            before = job.state
            if before is JobState.READY:
                move_job(connection, job.request_hash, before, JobState.RUNNING, now)
                before = JobState.RUNNING
            move_job(connection, job.request_hash, before, JobState.ATTESTED, now, **values)
            for lease in rows.active_leases(connection, job.request_hash):
                rows.end(connection, lease, rows.REVOKED, now, detail=DEAD[JobState.ATTESTED])

        return self._try(job, move, "quorum agrees")

    def _came_again(self, job: Job, slots: Sequence[Slot], agreed: bytes) -> bool:
        """Whether some node that gave the agreed outcome has brought its whole output again."""
        if job.outcome is None or not job.outcome.output_cid:
            return True
        root = Cid.from_binary(job.outcome.output_cid)
        keys = [slot.key for slot in slots if slot.outcome_hash == agreed and slot.key]
        return any(not self._holdings.missing(slot_owner(job.request_hash, key), root) for key in keys)

    def _give_up(self, job: Job, now: float) -> bool:
        """No quorum can come about: say so, and let the nodes that still work on it stop."""
        if job.reason == Reason.NO_AGREEMENT:
            return False
        detail = "the nodes that answered do not agree, and too few slots are left for a quorum"

        def note(connection: Connection) -> None:
            for lease in rows.active_leases(connection, job.request_hash):
                rows.end(connection, lease, rows.REVOKED, now, detail=detail)
            annotate_job(connection, job.request_hash, Reason.NO_AGREEMENT, detail)

        return self._try(job, note, "no agreement")

    def _read_back(self, now: float) -> bool:
        with reading(self._engine) as connection:
            jobs = jobs_in(connection, [JobState.ATTESTED], limit=1)
        done = [self._read_back_one(job, now) for job in jobs]
        return any(done)

    def _read_back_one(self, job: Job, now: float) -> bool:
        """ATTESTED -> STORED when every block of the output was read from our own disk and re-hashed.

        A block that cannot be read sends the job back to READY. The answers stay: a node's signature never changes.
        `wanted_block` makes `lease_for` offer the answered slots to their own nodes again, which upload the content
        and send the same bytes; then the quorum that is there already moves the job on.
        """
        output = job.outcome.output_cid if job.outcome else b""
        lost = self._holdings.unreadable(Cid.from_binary(output)) if output else None
        if lost is None:
            return self._try(job, lambda connection: _store(connection, job, output, now), "output read back")
        detail = f"block {lost} of the output could not be read back; its nodes are asked to upload it again"
        log.error("output lost", **job.trace, block=str(lost))
        return self._try(
            job,
            lambda connection: move_job(
                connection,
                job.request_hash,
                JobState.ATTESTED,
                JobState.READY,
                now,
                wanted_block=lost.binary,
                detail=detail,
            ),
        )

    def _hand_over(self, now: float) -> bool:
        with reading(self._engine) as connection:
            jobs = jobs_in(connection, [JobState.STORED], PAGE, self._offsets["stored"])
            self._turn("stored", jobs)
            scanned = {
                where: scanned_number(connection, *where)
                for where in {(job.request.chain_id, job.request.contract) for job in jobs}
            }
            lacking = {job.request_hash: self._replicas.lacking(connection, job) for job in jobs}
        changed = False
        for job in jobs:
            head = scanned[job.request.chain_id, job.request.contract]
            if head is None or head - job.block_number < self._config.chain.posting_depth:
                continue
            if lacking[job.request_hash]:
                self._annotate(job, Reason.COPIES_MISSING, lacking[job.request_hash])
            elif now >= job.request.deadline:
                self._annotate(job, Reason.TOO_LATE, "the deadline has passed; the contract takes no result any more")
            else:
                changed = self._post(job, now) or changed
        self._replicas.show(self._engine, now)
        return changed

    def _post(self, job: Job, now: float) -> bool:
        outcome = job.outcome
        if outcome is None:  # pragma: no cover - STORED is reached with an outcome only
            return False

        def post(connection: Connection) -> None:
            slots = rows.slots_of(connection, job.request_hash)
            attestations = [_attestation(slot) for slot in slots if slot.outcome_hash == outcome.hash]
            waited = {"reason": 0, "detail": ""} if job.reason == Reason.COPIES_MISSING else {}
            move_job(connection, job.request_hash, JobState.STORED, JobState.POSTING, now, **waited)
            self._enqueue(connection, job, outcome, attestations, now)

        return self._try(job, post, "handed over to the outbox")

    def publish(self, now: float) -> bool:
        """Make the output of what stands on-chain public, as far as it is here."""
        with reading(self._engine) as connection:
            jobs = unpublished_jobs(connection)
        for job in jobs:
            self._publish_one(job, now)
        return bool(jobs)

    def _publish_one(self, job: Job, now: float) -> None:
        until = now + self._config.content.retention_seconds
        output = job.outcome.output_cid if job.outcome else b""
        with reading(self._engine) as connection:
            slots = rows.slots_of(connection, job.request_hash)
        if output and _was_brought(output, slots):
            try:
                self._roots.publish(Cid.from_binary(output), root_label(job.request_hash), until)
            except (ContentError, InvalidInput) as exc:
                log.warning("output is not here any more", **job.trace, error=str(exc))
        elif output:
            log.warning("no node brought this output", **job.trace, output=f"0x{output.hex()}")

        def note(connection: Connection) -> None:
            set_values(connection, job.request_hash, job.state, published_at=now)
            for slot in slots:
                if slot.key:
                    release_blocks(connection, slot_owner(job.request_hash, slot.key))

        self._try(job, note, "output made public")

    def _review(self, now: float) -> bool:
        """Say of each waiting job why no node at all can get it, and take in specs that have arrived."""
        with transaction(self._engine) as connection:
            forget_published(connection)
        with reading(self._engine) as connection:
            jobs = []
            for name, without_spec in (("no spec", True), ("waiting", False)):
                page = waiting_jobs(connection, PAGE, self._offsets[name], without_spec=without_spec)
                self._turn(name, page)
                jobs += page
            slots = {job.request_hash: rows.slots_of(connection, job.request_hash) for job in jobs}
        changed = False
        for waiting in jobs:
            job = self._with_spec(waiting)
            changed = changed or job.spec is not waiting.spec
            found = standing_reason(plan_of(job), job.request.deadline, self._config.dispatch, now)
            attempts = self._config.dispatch.max_attempts
            if found is None and are_exhausted(slots[job.request_hash], attempts):
                found = Reason.ATTEMPTS_EXHAUSTED, f"each open slot has had its {attempts} attempts"
            is_late = found is not None and found[0] is Reason.TOO_LATE
            if is_late or (found is None and job.cancel_marked):
                found = self._last_cause(job, found, now)
            code, detail = found or (Reason.NONE, job.detail if job.wanted_block else "")
            if (code, detail) != (job.reason, job.detail):
                self._annotate(job, code, detail)
        return changed

    def _last_cause(self, job: Job, late: tuple[Reason, str] | None, now: float) -> tuple[Reason, str] | None:
        """What kept a job waiting that comes to its end: looked up once and kept, because nobody can say it later."""
        if job.reason in LASTING:
            return Reason(job.reason), job.detail
        with reading(self._engine) as connection:
            scene = scene_of(connection, job, now)
        seen = list(node_reasons(self._matcher, job, scene, now, most_leases=self._config.dispatch.max_leases_per_node))
        reasons = [item for item in seen if not isinstance(item, RpcError)]
        if len(reasons) < len(seen):
            return (Reason(job.reason), job.detail) if job.reason else None  # the next look asks the chain again
        cause = summary(reasons)
        return weightier(late, cause) if late else cause if cause[0] is not Reason.NONE else None

    def _turn(self, name: str, page: Sequence[Job]) -> None:
        """The next look begins where this one ended, so that no crowd of jobs hides those behind it."""
        self._offsets[name] = self._offsets[name] + PAGE if len(page) == PAGE else 0

    def _with_spec(self, job: Job) -> Job:
        """The job with its spec, if it names one by CID that has arrived; b"" where that is no CID."""
        if job.spec is not None:
            return job
        try:
            cid = spec_cid(job.request.order)
            if cid is not None and not self._may_read(job, cid):
                return job
            data = job.request.order.spec if cid is None else self._store.get(cid)
        except InvalidSpec:
            data = b""  # there is nothing to wait for: the nodes refuse it
        except (BlockMissing, BlockMismatch):
            return job
        self._try(job, lambda connection: set_values(connection, job.request_hash, job.state, spec=data))
        with reading(self._engine) as connection:
            return get_job(connection, job.request_hash) or job

    def _may_read(self, job: Job, cid: Cid) -> bool:
        """A spec ends up in the public bundle: naming somebody else's private upload as one must not publish it."""
        with reading(self._engine) as connection:
            meant = is_meant_for(connection, cid, job.request.requester)
        return meant or self._roots.is_public(cid, self._clock())

    def _clean(self, now: float) -> None:
        with transaction(self._engine) as connection:
            forget_nonces(connection, now - 2 * MAX_SKEW_SECONDS)
            drop_old_uploads(connection, now - self._config.content.retention_seconds)

    def _annotate(self, job: Job, reason: int, detail: str) -> None:
        if (job.reason, job.detail) != (reason, detail):
            with transaction(self._engine) as connection:
                annotate_job(connection, job.request_hash, reason, detail)

    def _try(self, job: Job, act: Callable[[Connection], object], what: str = "") -> bool:
        """One transaction about a job; False, and nothing done, if somebody else moved it meanwhile."""
        try:
            with transaction(self._engine) as connection:
                act(connection)
        except (StaleTransition, StaleLease) as exc:
            log.debug("moved meanwhile", **job.trace, what=str(exc))
            return False
        if what:
            log.info(what, **job.trace)
        return True


def _store(connection: Connection, job: Job, output: bytes, now: float) -> None:
    forget_other_copies(connection, job.request_hash, output)
    move_job(connection, job.request_hash, JobState.ATTESTED, JobState.STORED, now, wanted_block=None)


def root_label(request_hash: bytes) -> str:
    """The label under which a job's output is kept."""
    return f"{OUTPUT_LABEL}0x{request_hash.hex()}"


def hash_of_label(label: str) -> bytes | None:
    """The request hash of such a label; None of any other, that of what a slot's node brought (`.../SLOT`) too."""
    found = _OUTPUT.fullmatch(label)
    return None if found is None else bytes.fromhex(found[1])


def _was_brought(output: bytes, slots: Sequence[Slot]) -> bool:
    """Whether a node answered with this output: an answer is taken only when its node has brought all of it.

    An outcome on-chain opens nothing by itself: whoever is his own curator can have any CID settled, that of somebody's
    private input too.
    """
    outcomes = [Outcome.decode(slot.outcome) for slot in slots if slot.state == rows.ANSWERED and slot.outcome]
    return any(outcome.output_cid == output for outcome in outcomes)


def _attestation(slot: Slot) -> Attestation:
    return Attestation(
        receipt_hash=slot.receipt_hash or b"",
        log_root=slot.log_root or b"",
        log_size=slot.log_size or 0,
        relayer=slot.relayer or "",
        signature=slot.signature or b"",
    )
