"""Job rows, and the one way to move a job from state to state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from bridge.errors import StaleTransition
from bridge.jobs import JobState, is_allowed
from bridge.store.schema import jobs
from executor.protocol.wire import Order, Outcome, Request


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job row, decoded."""

    request: Request
    request_hash: bytes
    state: JobState
    reason: int
    detail: str
    spec: bytes | None
    outcome: Outcome | None
    block_number: int
    block_hash: bytes
    tx_hash: bytes
    observed_at: float
    changed_at: float
    agreed_at: float | None
    chain_state: int
    settled_tx: bytes | None
    settled_block_number: int | None
    settled_block_hash: bytes | None
    cancel_marked: bool
    callback_ok: bool | None
    wanted_block: bytes | None
    published_at: float | None


def job_of(row: Row[Any]) -> Job:
    """The job of a full row of `jobs`."""
    return Job(
        request=Request(
            chain_id=row.chain_id,
            contract=row.contract,
            id=row.request_id,
            requester=row.requester,
            order=Order.decode(row.order_bytes),
            deadline=row.deadline,
        ),
        request_hash=row.request_hash,
        state=JobState(row.state),
        reason=row.reason,
        detail=row.detail,
        spec=row.spec,
        outcome=Outcome.decode(row.outcome) if row.outcome else None,
        block_number=row.block_number,
        block_hash=row.block_hash,
        tx_hash=row.tx_hash,
        observed_at=row.observed_at,
        changed_at=row.changed_at,
        agreed_at=row.agreed_at,
        chain_state=row.chain_state,
        settled_tx=row.settled_tx,
        settled_block_number=row.settled_block_number,
        settled_block_hash=row.settled_block_hash,
        cancel_marked=row.cancel_marked,
        callback_ok=row.callback_ok,
        wanted_block=row.wanted_block,
        published_at=row.published_at,
    )


def get_job(connection: Connection, request_hash: bytes) -> Job | None:
    """The job of this request hash."""
    row = connection.execute(select(jobs).where(jobs.c.request_hash == request_hash)).one_or_none()
    return None if row is None else job_of(row)


def jobs_in(connection: Connection, states: Sequence[JobState], limit: int = 1000) -> list[Job]:
    """Jobs in any of these states, oldest request first."""
    query = (
        select(jobs)
        .where(jobs.c.state.in_([state.value for state in states]))
        .order_by(jobs.c.block_number, jobs.c.request_id)
        .limit(limit)
    )
    return [job_of(row) for row in connection.execute(query)]


def move_job(
    connection: Connection, request_hash: bytes, before: JobState, after: JobState, now: float, **values: Any
) -> None:
    """Move a job, and set `values` with it. StaleTransition if it is no longer in `before`."""
    if not is_allowed(before, after):
        raise StaleTransition(f"a job cannot move from {before} to {after}")
    result = connection.execute(
        update(jobs)
        .where(jobs.c.request_hash == request_hash, jobs.c.state == before.value)
        .values(state=after.value, changed_at=now, **values)
    )
    if result.rowcount != 1:
        raise StaleTransition(f"job 0x{request_hash.hex()} is no longer {before}")


def annotate_job(connection: Connection, request_hash: bytes, reason: int, detail: str) -> None:
    """Say why a job is where it is; its state stays."""
    connection.execute(
        update(jobs).where(jobs.c.request_hash == request_hash).values(reason=reason, detail=detail[:4000])
    )
