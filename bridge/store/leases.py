"""Slots and leases. Every change is guarded by the state it was decided on; a change that meets no row is an error.

The fencing token of a lease is its row's own number, which only grows. Nothing here looks at a clock.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from bridge.errors import StaleLease, StaleTransition
from bridge.store.schema import jobs, leases, slots
from executor.protocol.leases import Capacity, Phase

OPEN, LEASED, ANSWERED = "open", "leased", "answered"  # states of a slot
ACTIVE, RETURNED, EXPIRED, REVOKED = "active", "returned", "expired", "revoked"  # and of a lease, with ANSWERED


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One of a request's slots. node_id, operator, key: of the current lease or of the answer."""

    request_hash: bytes
    slot: int
    state: str
    attempts: int
    node_id: int | None
    operator: str | None
    key: str | None
    outcome: bytes | None
    outcome_hash: bytes | None
    receipt: bytes | None
    receipt_hash: bytes | None
    log_root: bytes | None
    log_size: int | None
    relayer: str | None
    signature: bytes | None
    dsse_signature: bytes | None
    log_proof: bytes | None
    answered_at: float | None


@dataclass(frozen=True, kw_only=True)
class LeaseRow:
    """A lease that was given, whatever became of it."""

    token: int
    lease_id: str
    request_hash: bytes
    slot: int
    attempt: int
    node_id: int
    operator: str
    key: str
    state: str
    phase: Phase
    granted_at: float
    expires_at: float
    ended_at: float | None
    reason: int
    detail: str
    cpu_millis: int
    memory_bytes: int
    disk_bytes: int
    uploaded_bytes: int
    output_root: bytes | None


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who a lease is for."""

    node_id: int
    operator: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a node signed, as it is kept. `log_root` and the hashes have 32 bytes; `log_proof` is hashes in a row."""

    outcome: bytes
    outcome_hash: bytes
    receipt: bytes
    receipt_hash: bytes
    log_root: bytes
    log_size: int
    relayer: str
    signature: bytes
    dsse_signature: bytes | None = None
    log_proof: bytes | None = None


def ensure_slots(connection: Connection, request_hash: bytes, count: int) -> None:
    """Make the slots 1..count where they are not there yet."""
    present = set(connection.scalars(select(slots.c.slot).where(slots.c.request_hash == request_hash)))
    rows = [
        {"request_hash": request_hash, "slot": slot, "state": OPEN, "attempts": 0}
        for slot in range(1, count + 1)
        if slot not in present
    ]
    if rows:
        connection.execute(insert(slots), rows)


def slots_of(connection: Connection, request_hash: bytes) -> list[Slot]:
    """A request's slots in order; none where nobody has had a lease yet."""
    query = select(slots).where(slots.c.request_hash == request_hash).order_by(slots.c.slot)
    return [Slot(**row) for row in connection.execute(query).mappings()]


def leases_of(connection: Connection, request_hash: bytes) -> list[LeaseRow]:
    """Every lease of a request, oldest first."""
    query = select(leases).where(leases.c.request_hash == request_hash).order_by(leases.c.token)
    return [_lease(row) for row in connection.execute(query)]


def get_lease(connection: Connection, lease_id: str) -> LeaseRow | None:
    """The lease of this id, in whatever state."""
    row = connection.execute(select(leases).where(leases.c.lease_id == lease_id)).one_or_none()
    return None if row is None else _lease(row)


def grant(
    connection: Connection, request_hash: bytes, slot: Slot, holder: Holder, reserve: Capacity, now: float, until: float
) -> LeaseRow:
    """Lease `slot` to `holder`; for an answered slot: to its own node, to bring the content again.

    StaleTransition if the slot is no longer as it was read, or holder or operator got another slot meanwhile.
    """
    try:
        result = connection.execute(
            update(slots)
            .where(
                slots.c.request_hash == request_hash,
                slots.c.slot == slot.slot,
                slots.c.state == slot.state,
                slots.c.attempts == slot.attempts,
            )
            .values(
                state=slot.state if slot.state == ANSWERED else LEASED,
                attempts=slot.attempts + 1,
                node_id=holder.node_id,
                operator=holder.operator,
                **({} if slot.state == ANSWERED else {"key": holder.key}),
            )
        )
        if result.rowcount != 1:
            raise StaleTransition(f"slot {slot.slot} of 0x{request_hash.hex()} was taken meanwhile")
        lease_id = secrets.token_hex(16)
        connection.execute(
            insert(leases).values(
                lease_id=lease_id,
                request_hash=request_hash,
                slot=slot.slot,
                attempt=slot.attempts + 1,
                node_id=holder.node_id,
                operator=holder.operator,
                key=holder.key,
                state=ACTIVE,
                phase=Phase.RUNNING.value,
                granted_at=now,
                expires_at=until,
                cpu_millis=reserve.cpu_millis,
                memory_bytes=reserve.memory_bytes,
                disk_bytes=reserve.disk_bytes,
            )
        )
    except IntegrityError as exc:
        raise StaleTransition(f"node {holder.node_id} or its operator has a slot of this request already") from exc
    granted = get_lease(connection, lease_id)
    if granted is None:  # pragma: no cover - it was inserted in this transaction
        raise StaleTransition("the lease is gone")
    return granted


def renew(connection: Connection, lease: LeaseRow, phase: Phase, until: float) -> None:
    """Renew an active lease. StaleLease if it has ended."""
    result = connection.execute(
        update(leases)
        .where(leases.c.token == lease.token, leases.c.state == ACTIVE)
        .values(phase=phase.value, expires_at=until)
    )
    if result.rowcount != 1:
        raise StaleLease(f"lease {lease.lease_id} has ended")


def end(connection: Connection, lease: LeaseRow, state: str, now: float, *, reason: int = 0, detail: str = "") -> None:
    """End an active lease with `state`, and open its slot again unless it has answered. StaleLease if it has ended."""
    result = connection.execute(
        update(leases)
        .where(leases.c.token == lease.token, leases.c.state == ACTIVE)
        .values(state=state, ended_at=now, reason=reason, detail=detail[:1000])
    )
    if result.rowcount != 1:
        raise StaleLease(f"lease {lease.lease_id} has ended")
    connection.execute(
        update(slots)
        .where(slots.c.request_hash == lease.request_hash, slots.c.slot == lease.slot, slots.c.state == LEASED)
        .values(state=OPEN, node_id=None, operator=None, key=None)
    )


def answer(connection: Connection, lease: LeaseRow, given: Answer, now: float) -> None:
    """Take a slot's answer, for good, and end the lease. StaleLease, StaleTransition."""
    result = connection.execute(
        update(slots)
        .where(
            slots.c.request_hash == lease.request_hash,
            slots.c.slot == lease.slot,
            slots.c.state == LEASED,
            slots.c.node_id == lease.node_id,
        )
        .values(
            state=ANSWERED,
            key=lease.key,
            outcome=given.outcome,
            outcome_hash=given.outcome_hash,
            receipt=given.receipt,
            receipt_hash=given.receipt_hash,
            log_root=given.log_root,
            log_size=given.log_size,
            relayer=given.relayer,
            signature=given.signature,
            dsse_signature=given.dsse_signature,
            log_proof=given.log_proof,
            answered_at=now,
        )
    )
    if result.rowcount != 1:
        raise StaleTransition(f"slot {lease.slot} of 0x{lease.request_hash.hex()} is no longer leased to this node")
    end(connection, lease, ANSWERED, now)


def overdue(connection: Connection, now: float, held_seconds: float) -> list[LeaseRow]:
    """Active leases whose time is over. A held one may be silent for `held_seconds` longer: its node waits
    for a person, but one that never comes back must not keep the slot for ever.
    """
    running = and_(leases.c.phase == Phase.RUNNING.value, leases.c.expires_at < now)
    held = and_(leases.c.phase == Phase.HELD.value, leases.c.expires_at < now - held_seconds)
    query = select(leases).where(leases.c.state == ACTIVE, or_(running, held))
    return [_lease(row) for row in connection.execute(query)]


def granted_before(connection: Connection, before: float) -> list[LeaseRow]:
    """Active leases that were given before this time, however alive their nodes are."""
    query = select(leases).where(leases.c.state == ACTIVE, leases.c.granted_at < before)
    return [_lease(row) for row in connection.execute(query)]


def active_counts(connection: Connection) -> dict[int, int]:
    """How many active leases each node has, running and held."""
    query = select(leases.c.node_id, func.count()).where(leases.c.state == ACTIVE).group_by(leases.c.node_id)
    return {node_id: int(count) for node_id, count in connection.execute(query)}


def active_leases(connection: Connection, request_hash: bytes) -> list[LeaseRow]:
    """The active leases of a request."""
    query = select(leases).where(leases.c.request_hash == request_hash, leases.c.state == ACTIVE)
    return [_lease(row) for row in connection.execute(query.order_by(leases.c.token))]


def active_in_states(connection: Connection, states: Iterable[str]) -> list[tuple[LeaseRow, str]]:
    """Active leases of jobs in any of these states, each with its job's state."""
    query = (
        select(leases, jobs.c.state.label("job_state"))
        .join(jobs, jobs.c.request_hash == leases.c.request_hash)
        .where(leases.c.state == ACTIVE)
    )
    # The states are compared here: the database might begin with the jobs in them, which are all that ever ended.
    wanted = frozenset(states)
    return [(_lease(row), row.job_state) for row in connection.execute(query) if row.job_state in wanted]


def reserved(connection: Connection) -> dict[int, Capacity]:
    """What the active leases of each node reserve. A held output takes only disk and a slot is free again."""
    running = leases.c.phase == Phase.RUNNING.value
    total: dict[int, Capacity] = {}
    query = (
        select(
            leases.c.node_id,
            running.label("running"),
            func.count().label("slots"),
            func.sum(leases.c.cpu_millis).label("cpu_millis"),
            func.sum(leases.c.memory_bytes).label("memory_bytes"),
            func.sum(leases.c.disk_bytes).label("disk_bytes"),
        )
        .where(leases.c.state == ACTIVE)
        .group_by(leases.c.node_id, running)
    )
    for row in connection.execute(query):
        before = total.get(row.node_id, NOTHING)
        total[row.node_id] = Capacity(
            slots=before.slots + (int(row.slots) if row.running else 0),
            cpu_millis=before.cpu_millis + (int(row.cpu_millis) if row.running else 0),
            memory_bytes=before.memory_bytes + (int(row.memory_bytes) if row.running else 0),
            disk_bytes=before.disk_bytes + int(row.disk_bytes),
        )
    return total


NOTHING = Capacity(slots=0, cpu_millis=0, memory_bytes=0, disk_bytes=0)


def note_upload(connection: Connection, lease: LeaseRow, root: bytes, received: int) -> None:
    """Remember the root that a lease uploads, and how many bytes it has sent."""
    connection.execute(
        update(leases)
        .where(leases.c.token == lease.token)
        .values(output_root=root, uploaded_bytes=leases.c.uploaded_bytes + received)
    )


def _lease(row: Row[Any]) -> LeaseRow:
    return LeaseRow(
        token=row.token,
        lease_id=row.lease_id,
        request_hash=row.request_hash,
        slot=row.slot,
        attempt=row.attempt,
        node_id=row.node_id,
        operator=row.operator,
        key=row.key,
        state=row.state,
        phase=Phase(row.phase),
        granted_at=row.granted_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        reason=row.reason,
        detail=row.detail,
        cpu_millis=row.cpu_millis,
        memory_bytes=row.memory_bytes,
        disk_bytes=row.disk_bytes,
        uploaded_bytes=row.uploaded_bytes,
        output_root=row.output_root,
    )
