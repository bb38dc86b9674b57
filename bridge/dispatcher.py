"""Gives leases, takes answers, and moves jobs from READY to POSTING.

Every public method may be called by any thread; `step` by one loop. No database transaction is open while the chain is
asked or content is read: what was decided outside is checked again by the guard of the update that acts on it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import structlog

from bridge.agreement import resting_state
from bridge.answers import CheckedAnswer, check_answer
from bridge.config import BridgeConfig
from bridge.contradictions import evidence_of, note_contradiction
from bridge.errors import StaleLease, StaleTransition
from bridge.jobs import JobState, is_allowed
from bridge.matching import (
    Matcher,
    Plan,
    keep,
    lease_ends_at,
    open_slot,
    slot_to_bring_again,
    standing_reason,
    taken_of,
)
from bridge.outputs import Holdings
from bridge.registry import ActiveNode, ChainView, NotRegistered
from bridge.replicas import Replicas
from bridge.routing import Fit, check_node, could_fit, free_of, label_words
from bridge.settlement import Enqueue, Settlement
from bridge.store import leases as rows
from bridge.store.content import slot_owner
from bridge.store.engine import Connection, Engine, reading, transaction
from bridge.store.jobs import Job, get_job, leasable, leasable_mark, move_job, running_by_requester
from bridge.store.leases import Holder, LeaseRow, Slot
from bridge.store.nodes import KnownNode, remember_node
from executor.content.blockstore import BlockStore
from executor.content.roots import RootSet
from executor.errors import InvalidInput, MalformedBlock
from executor.protocol.cid import Cid
from executor.protocol.leases import (
    Advert,
    Attested,
    Capacity,
    Heartbeat,
    HeartbeatAnswer,
    Lease,
    LeaseReturn,
    Phase,
    RequestMessage,
)
from executor.protocol.reasons import Reason

log = structlog.get_logger("bridge.dispatcher")

LEASABLE = (JobState.READY, JobState.RUNNING, JobState.HELD)
CANDIDATES = 2000  # jobs looked at for one call of a node
PER_REQUESTER = 64  # of them, at most so many of one requester
KEY_FRESH_SECONDS = 5.0
KEYS_KEPT = 4096  # answers of the registry that are used again: nodes, and keys that are none, each
_KEPT_TOO_LONG = "kept longer than its fetch allowance, wall limit and upload margin"


class UnknownLease(InvalidInput):
    """There is no such lease, or it is another key's: the two look the same."""

    def __init__(self, lease_id: str) -> None:
        super().__init__("lease_id", f"{lease_id!r:.40} is no lease of this key")


class OutputIncomplete(InvalidInput):
    """The answer names an output of which blocks are missing here."""

    def __init__(self, root: Cid, absent: Sequence[Cid]) -> None:
        super().__init__(
            "outcome.outputCid",
            f"{root} is not here in full, {absent[0]} is missing; upload it first: PUT /v1/leases/LEASE/content",
        )


class Dispatcher:
    """See the module.

    relayer: the address that earns the delivery fee. enqueue: writes the delivery of an outcome into the outbox. clock:
    seconds since 1970. `changed` is called when a node that waits may find work. replicas: where results must be before
    they are handed over.
    """

    def __init__(
        self,
        engine: Engine,
        chain: ChainView,
        blockstore: BlockStore,
        config: BridgeConfig,
        clock: Callable[[], float],
        *,
        relayer: str,
        enqueue: Enqueue,
        replicas: Replicas | None = None,
    ) -> None:
        self.engine = engine
        self.config = config
        self.relayer = relayer
        self.clock = clock
        self.store = blockstore
        self.roots = RootSet(blockstore)
        self.holdings = Holdings(engine, blockstore)
        self.matcher = Matcher(chain)
        self.changed: Callable[[], None] = _nobody_waits
        self._chain = chain
        self._known: OrderedDict[str, float] = OrderedDict()  # key of a node -> when the registry said so
        self._strange: OrderedDict[str, float] = OrderedDict()  # likewise, of a key that is no node's
        self._offsets: dict[str, int] = {}  # where each node's next look at the queue begins
        self._seen: tuple[int, float] | None = None
        self._settlement = Settlement(
            engine,
            blockstore,
            self.roots,
            self.holdings,
            config,
            clock,
            enqueue=enqueue,
            matcher=self.matcher,
            replicas=replicas or Replicas(config.content.replicas),
        )

    def node_of(self, key: str) -> ActiveNode:
        """The active node of a key, as the registry says now. NotRegistered, RpcError."""
        node = self._chain.active_node_of_key(key)
        if node is None:
            raise NotRegistered(key)
        return node

    def is_node(self, key: str) -> None:
        """NotRegistered unless this was the key of an active node within the last seconds; for calls that decide
        nothing: a lease and an answer ask the registry anew. RpcError.

        That a key is no node's is believed for as long too: a stranger's calls must not use up the chain's endpoint.
        """
        now = self.clock()
        if _is_fresh(self._known, key, now):
            return
        if _is_fresh(self._strange, key, now):
            raise NotRegistered(key)
        found = self._chain.active_node_of_key(key)
        keep(self._strange if found is None else self._known, key, now, KEYS_KEPT)
        if found is None:
            raise NotRegistered(key)

    def lease_for(self, key: str, advert: Advert) -> Lease | None:
        """The first job in line that this node may run, leased to it; None if there is none now.

        NotRegistered; InvalidInput("labels"); RpcError.
        """
        now = self.clock()
        active = self.node_of(key)
        words = label_words(advert)
        node = KnownNode(node_id=active.node_id, key=key, operator=active.operator, advert=advert, seen_at=now)
        with transaction(self.engine) as connection:
            remember_node(connection, node)
        with reading(self.engine) as connection:
            offset = self._offsets.get(key, 0)
            candidates = leasable(connection, PER_REQUESTER, CANDIDATES, offset)
            reserved = rows.reserved(connection).get(node.node_id, rows.NOTHING)
            left = self.config.dispatch.max_leases_per_node - rows.active_counts(connection).get(node.node_id, 0)
            running = running_by_requester(connection)
        free = free_of(advert, reserved, left)
        net = advert.model_copy(update={"free": free})
        share = self.config.dispatch.max_running_per_requester
        for found in candidates:
            if running.get(found.requester, 0) >= share:
                continue
            plan = self._plan(found.request_hash)
            if plan is None or not could_fit(plan.need, net, words):
                continue
            if standing_reason(plan, found.deadline, self.config.dispatch, now) is not None:
                continue
            lease = self._offer(found.request_hash, plan, node, free, now)
            if lease is not None:
                return lease
        # Nothing on this page: the next call looks at the next one, so that no crowd of jobs hides those behind it.
        self._offsets[key] = offset + CANDIDATES if len(candidates) == CANDIDATES else 0
        return None

    def heartbeat(self, key: str, lease_id: str, beat: Heartbeat) -> HeartbeatAnswer:
        """Renew a lease, or say why to stop. UnknownLease, StaleLease (another token)."""
        now = self.clock()
        with transaction(self.engine) as connection:
            lease = self._lease(connection, key, lease_id, beat.token)
            if lease.state != rows.ACTIVE:
                return HeartbeatAnswer(go_on=False, reason=lease.detail or f"the lease has ended: {lease.state}")
            job = get_job(connection, lease.request_hash)
            end = now if job is None else self._ends_at(lease, beat.phase, job)
            if now >= end:
                self._end_kept(connection, lease, now)
                return HeartbeatAnswer(go_on=False, reason=_KEPT_TOO_LONG)
            until = min(now + self.config.dispatch.lease_seconds, end)
            rows.renew(connection, lease, beat.phase, until)
            settle_resting(connection, lease.request_hash, now)
        return HeartbeatAnswer(go_on=True, expires_in_seconds=until - now)

    def give_back(self, key: str, lease_id: str, back: LeaseReturn) -> None:
        """End a lease for a reason of the node's own; the same again is fine. UnknownLease, StaleLease."""
        now = self.clock()
        with transaction(self.engine) as connection:
            lease = self._lease(connection, key, lease_id, back.token)
            if lease.state == rows.RETURNED:
                return
            rows.end(connection, lease, rows.RETURNED, now, reason=back.reason, detail=back.detail)
            settle_resting(connection, lease.request_hash, now)
            job = get_job(connection, lease.request_hash)
        if job is not None:
            log.info("lease given back", **job.trace, **_of(lease), reason=back.reason, detail=back.detail)

    def active_lease(self, key: str, lease_id: str, token: int | None) -> tuple[LeaseRow, Job]:
        """An active lease of this key and its job; token None: any. UnknownLease, StaleLease."""
        with reading(self.engine) as connection:
            lease = self._lease(connection, key, lease_id, token)
            job = get_job(connection, lease.request_hash)
        if lease.state != rows.ACTIVE or job is None:
            raise StaleLease(f"lease {lease_id} has ended: {lease.detail or lease.state}")
        return lease, job

    def accept_attestation(self, key: str, lease_id: str, attested: Attested) -> None:
        """Take a node's answer. The same bytes again are fine, as long as the slot holds them.

        UnknownLease, StaleLease; NotRegistered; InvalidInput that names what does not hold (OutputIncomplete among
        them); StaleTransition if the slot has another answer; RpcError.
        """
        active = self.node_of(key)
        with reading(self.engine) as connection:
            lease = self._lease(connection, key, lease_id, attested.token)
            job = get_job(connection, lease.request_hash)
            slot = next((s for s in rows.slots_of(connection, lease.request_hash) if s.slot == lease.slot), None)
        if job is None or slot is None:
            raise StaleLease(f"lease {lease_id} is of a request that is gone")
        if lease.state == rows.ANSWERED and _is_answer(slot, attested):
            return
        evidence = evidence_of(job, slot, attested, key)
        if evidence is not None:  # whatever else it may be refused for
            note_contradiction(self.engine, job, lease, evidence, self.clock())
            raise StaleTransition(
                f"slot {lease.slot} has answered already, with another outcome; an answer never changes"
            )
        if lease.state != rows.ACTIVE:
            raise StaleLease(f"lease {lease_id} has ended: {lease.detail or lease.state}")
        if active.node_id != lease.node_id:
            raise NotRegistered(key)
        checked = check_answer(attested, job.request, key, lease.slot, self.relayer)
        if not self.matcher.carries_now(lease.node_id, self.matcher.plan(job).need):
            raise InvalidInput("labels", f"the order's labels no longer count for node {lease.node_id}")
        self._require_output(lease, checked)
        self._take_answer(job, lease, slot, attested, checked)

    def step(self) -> bool:
        """Expire leases, settle what has been answered, hand over what can be posted; whether anything changed."""
        now = self.clock()
        expired = self._expire_leases(now)
        kept = self._end_kept_leases(now)
        changed = self._settlement.step(now) or expired or kept
        with reading(self.engine) as connection:
            seen = leasable_mark(connection)
        if changed or seen != self._seen:
            self._seen = seen
            self.changed()
        return changed

    def publish(self) -> bool:
        """Make the outputs public whose outcome stands on-chain by now; whether there were any."""
        return self._settlement.publish(self.clock())

    def _plan(self, request_hash: bytes) -> Plan | None:
        known = self.matcher.known_plan(request_hash)
        if known is not None:
            return known
        with reading(self.engine) as connection:
            job = get_job(connection, request_hash)
        return None if job is None else self.matcher.plan(job)

    def _offer(self, request_hash: bytes, plan: Plan, node: KnownNode, free: Capacity, now: float) -> Lease | None:
        """Lease one job to a node that may fit, if it does fit."""
        with reading(self.engine) as connection:
            job = get_job(connection, request_hash)
            slots = rows.slots_of(connection, request_hash)
            history = rows.leases_of(connection, request_hash) if slots else []
        if job is None:
            return None
        taken = taken_of(slots, history, now)
        agreed = job.outcome.hash if job.outcome and job.wanted_block else None
        again = slot_to_bring_again(slots, agreed, node.node_id) if agreed else None
        if again is not None:
            is_free = node.node_id not in taken.resting and all(
                r.state != rows.ACTIVE for r in _of_slot(history, again)
            )
            return self._grant(job, plan, node, again, now) if is_free else None
        if job.agreed_at is not None:
            return None
        attempts = self.config.dispatch.max_attempts
        slot = open_slot(slots, history, node.node_id, attempts) if slots else _first_slot(job)
        if slot is None:
            return None
        reason = check_node(plan.need, self.matcher.snapshot(node, plan.need, free, now), taken)
        if reason.code is not Fit.FITS or not self.matcher.carries_now(node.node_id, plan.need):
            return None
        return self._grant(job, plan, node, slot, now)

    def _grant(self, job: Job, plan: Plan, node: KnownNode, slot: Slot, now: float) -> Lease | None:
        dispatch = self.config.dispatch
        need = plan.need
        try:
            with transaction(self.engine) as connection:
                current = get_job(connection, job.request_hash)
                if current is None or current.state not in LEASABLE or not self._has_room(connection, node, plan):
                    return None
                rows.ensure_slots(connection, job.request_hash, job.request.order.nodes)
                reserve = Capacity(
                    slots=1, cpu_millis=need.cpu_millis, memory_bytes=need.memory_bytes, disk_bytes=need.disk_bytes
                )
                holder = Holder(node_id=node.node_id, operator=node.operator, key=node.key)
                until = now + dispatch.lease_seconds
                lease = rows.grant(connection, job.request_hash, slot, holder, reserve, now, until)
                settle_resting(connection, job.request_hash, now, reason=0, detail="")
        except StaleTransition as exc:
            log.debug("lease not given", **job.trace, why=str(exc))
            return None
        log.info("lease given", **job.trace, **_of(lease))
        return Lease(
            lease_id=lease.lease_id,
            token=lease.token,
            request_hash=job.request_hash,
            slot=lease.slot,
            attempt=lease.attempt,
            request=RequestMessage.of(job.request),
            relayer=self.relayer,
            heartbeat_seconds=dispatch.heartbeat_seconds,
            expires_in_seconds=dispatch.lease_seconds,
        )

    def _has_room(self, connection: Connection, node: KnownNode, plan: Plan) -> bool:
        """Once more inside the transaction: a node may ask from two threads at once."""
        reserved = rows.reserved(connection).get(node.node_id, rows.NOTHING)
        left = self.config.dispatch.max_leases_per_node - rows.active_counts(connection).get(node.node_id, 0)
        net = node.advert.model_copy(update={"free": free_of(node.advert, reserved, left)})
        return could_fit(plan.need, net, label_words(node.advert))

    def _lease(self, connection: Connection, key: str, lease_id: str, token: int | None) -> LeaseRow:
        lease = rows.get_lease(connection, lease_id)
        if lease is None or lease.key != key:
            raise UnknownLease(lease_id)
        if token is not None and token != lease.token:
            raise StaleLease(f"fencing token {token} is not that of lease {lease_id}; ask for a new lease")
        return lease

    def _require_output(self, lease: LeaseRow, checked: CheckedAnswer) -> None:
        if checked.output is None:
            return
        try:
            owner = slot_owner(lease.request_hash, lease.key)
            absent = self.holdings.missing(owner, checked.output, who=lease.key)
        except MalformedBlock as exc:
            raise InvalidInput("outcome.outputCid", f"{checked.output} is no file or directory: {exc}") from exc
        if absent:
            raise OutputIncomplete(checked.output, absent)

    def _take_answer(self, job: Job, lease: LeaseRow, slot: Slot, attested: Attested, checked: CheckedAnswer) -> None:
        now = self.clock()
        if slot.state == rows.ANSWERED and not _is_answer(slot, attested):
            raise StaleTransition(f"slot {lease.slot} has answered already, with other bytes; an answer never changes")
        with transaction(self.engine) as connection:
            if slot.state == rows.ANSWERED:  # it was leased again for its content alone
                rows.end(connection, lease, rows.ANSWERED, now)
            else:
                rows.answer(connection, lease, checked.answer, now)
            settle_resting(connection, lease.request_hash, now)
        log.info("answer taken", **job.trace, **_of(lease), status=checked.outcome.status)

    def _ends_at(self, lease: LeaseRow, phase: Phase, job: Job) -> float:
        return lease_ends_at(lease, phase, self.matcher.plan(job).need, self.config.dispatch)

    def _end_kept(self, connection: Connection, lease: LeaseRow, now: float) -> None:
        """End a lease that has lived its longest; its attempt counts, and the slot goes to others first."""
        rows.end(connection, lease, rows.EXPIRED, now, reason=Reason.LEASE_LOST, detail=_KEPT_TOO_LONG)
        settle_resting(connection, lease.request_hash, now)

    def _end_kept_leases(self, now: float) -> bool:
        dispatch = self.config.dispatch
        shortest = dispatch.fetch_allowance_seconds + dispatch.upload_margin_seconds
        with reading(self.engine) as connection:
            old = rows.granted_before(connection, now - shortest)
            jobs = [get_job(connection, lease.request_hash) for lease in old]
        kept = [(i, job) for i, job in zip(old, jobs, strict=True) if job and now >= self._ends_at(i, i.phase, job)]
        for lease, job in kept:
            try:
                with transaction(self.engine) as connection:
                    self._end_kept(connection, lease, now)
            except StaleLease:  # it was answered or given back meanwhile
                continue
            log.warning("lease ended", **job.trace, **_of(lease), why=_KEPT_TOO_LONG)
        return bool(kept)

    def _expire_leases(self, now: float) -> bool:
        with transaction(self.engine) as connection:
            gone = rows.overdue(connection, now, self.config.dispatch.held_seconds)
            for lease in gone:
                rows.end(connection, lease, rows.EXPIRED, now, detail="no heartbeat in time")
                settle_resting(connection, lease.request_hash, now)
            jobs = [get_job(connection, lease.request_hash) for lease in gone]
        for job, lease in zip(jobs, gone, strict=True):
            log.warning("lease expired", **(job.trace if job else {}), **_of(lease))
        return bool(gone)


def settle_resting(connection: Connection, request_hash: bytes, now: float, **values: object) -> None:
    """Move a job without a quorum to where its leases and answers put it; `values` are set if it moves."""
    job = get_job(connection, request_hash)
    if job is None or job.state not in LEASABLE:
        return
    active = rows.active_leases(connection, request_hash)
    answered = sum(slot.state == rows.ANSWERED for slot in rows.slots_of(connection, request_hash))
    target = resting_state([lease.phase for lease in active], answered)
    if target is job.state:
        return
    if not is_allowed(job.state, target):  # READY to HELD, when a request came back after a reorg
        move_job(connection, request_hash, job.state, JobState.RUNNING, now)
        move_job(connection, request_hash, JobState.RUNNING, target, now, **values)
        return
    move_job(connection, request_hash, job.state, target, now, **values)


def _is_fresh(answers: OrderedDict[str, float], key: str, now: float) -> bool:
    said_at = answers.get(key)
    return said_at is not None and 0 <= now - said_at < KEY_FRESH_SECONDS


def _nobody_waits() -> None:
    """Until somebody asks to be told."""


def _of(lease: LeaseRow) -> dict[str, object]:
    return {"lease": lease.lease_id, "token": lease.token, "slot": lease.slot, "node": lease.node_id}


def _is_answer(slot: Slot, attested: Attested) -> bool:
    kept = (slot.outcome, slot.receipt, slot.log_root, slot.log_size, slot.relayer, slot.signature)
    return kept == (
        attested.outcome,
        attested.receipt,
        attested.log_root,
        attested.log_size,
        attested.relayer,
        attested.signature,
    )


def _of_slot(history: Sequence[LeaseRow], slot: Slot) -> list[LeaseRow]:
    return [lease for lease in history if lease.slot == slot.slot]


def _first_slot(job: Job) -> Slot:
    """Slot 1 of a request whose slots are not written yet."""
    return Slot(
        request_hash=job.request_hash,
        slot=1,
        state=rows.OPEN,
        attempts=0,
        node_id=None,
        operator=None,
        key=None,
        outcome=None,
        outcome_hash=None,
        receipt=None,
        receipt_hash=None,
        log_root=None,
        log_size=None,
        relayer=None,
        signature=None,
        dsse_signature=None,
        log_proof=None,
        answered_at=None,
    )
