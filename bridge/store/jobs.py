"""Job rows, and the one way to move a job from state to state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Update, and_, bindparam, exists, func, or_, select, update

from bridge.errors import StaleTransition
from bridge.jobs import OPEN_STATES, JobState, is_allowed
from bridge.store.schema import STANDING, blocks, cursors, jobs, leases, literally, outbox, slots
from executor.protocol.wire import OnChainState, Order, Outcome, Request

_REFUNDED = frozenset((OnChainState.EXPIRED, OnChainState.CANCELLED))
# Statements of every step are made once: making one costs more than running it.
_OF_HASH = select(jobs).where(jobs.c.request_hash == bindparam("request_hash"))
_OF_HASHES = select(jobs).where(jobs.c.request_hash.in_(bindparam("hashes", expanding=True)))
_SCANNED_NUMBER = select(cursors.c.scanned_number).where(
    cursors.c.chain_id == bindparam("chain_id"), cursors.c.contract == bindparam("contract")
)


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

    @property
    def trace(self) -> dict[str, Any]:
        """What every log line about this job carries."""
        return {"request_id": self.request.id, "request_hash": f"0x{self.request_hash.hex()}"}


def job_of(row: Row[Any]) -> Job:
    """The job of a full row of `jobs`.

    What was agreed on for a request that was refunded is its outcome no more: nobody has paid for it, so nothing of it
    is published or shown. Should the refund leave the chain again, it is found from the slots' answers.
    """
    is_refunded = row.chain_state in _REFUNDED
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
        outcome=Outcome.decode(row.outcome) if row.outcome and not is_refunded else None,
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
    row = connection.execute(_OF_HASH, {"request_hash": request_hash}).one_or_none()
    return None if row is None else job_of(row)


def jobs_of(connection: Connection, request_hashes: Iterable[bytes]) -> dict[bytes, Job]:
    """The jobs of these request hashes, by hash; those that there are none of are left out."""
    rows = connection.execute(_OF_HASHES, {"hashes": list(set(request_hashes))})
    return {row.request_hash: job_of(row) for row in rows}


def jobs_in(connection: Connection, states: Sequence[JobState], limit: int = 1000, offset: int = 0) -> list[Job]:
    """Jobs in any of these states, oldest request first."""
    query = (
        select(jobs)
        .where(jobs.c.state.in_([state.value for state in states]))
        .order_by(jobs.c.block_number, jobs.c.request_id)
        .limit(limit)
        .offset(offset)
    )
    return [job_of(row) for row in connection.execute(query)]


def move_job(
    connection: Connection, request_hash: bytes, before: JobState, after: JobState, now: float, **values: Any
) -> None:
    """Move a job, and set `values` with it. StaleTransition if it is no longer in `before`."""
    if not is_allowed(before, after):
        raise StaleTransition(f"a job cannot move from {before} to {after}")
    new = {"state": after.value, "changed_at": now, **values}
    was = {"of": request_hash, "before": before.value}
    result = connection.execute(_moving(*new), was | {f"new_{name}": value for name, value in new.items()})
    if result.rowcount != 1:
        raise StaleTransition(f"job 0x{request_hash.hex()} is no longer {before}")


@cache
def _moving(*names: str) -> Update:
    """The update of a job in a state that sets these columns."""
    where = (jobs.c.request_hash == bindparam("of"), jobs.c.state == bindparam("before"))
    return update(jobs).where(*where).values({name: bindparam(f"new_{name}") for name in names})


def annotate_job(connection: Connection, request_hash: bytes, reason: int, detail: str) -> None:
    """Say why a job is where it is; its state stays."""
    connection.execute(
        update(jobs).where(jobs.c.request_hash == request_hash).values(reason=reason, detail=detail[:4000])
    )


def find_jobs(connection: Connection, request_id: int) -> list[Job]:
    """Every job that ever had this request id, the latest seen first: a reorg can give an id to another request."""
    query = select(jobs).where(jobs.c.request_id == request_id).order_by(jobs.c.observed_at.desc())
    return [job_of(row) for row in connection.execute(query)]


def latest_jobs(connection: Connection, state: JobState | None, limit: int) -> list[Job]:
    """The newest requests first, of one state or of any."""
    query = select(jobs).order_by(jobs.c.block_number.desc(), jobs.c.request_id.desc()).limit(limit)
    return [job_of(row) for row in connection.execute(query if state is None else query.where(jobs.c.state == state))]


def count_by_state(connection: Connection) -> dict[str, int]:
    """How many jobs are in each state. FINAL ones, which only grow, are counted as they come (`cursors.final_jobs`)."""
    rest = [state.value for state in JobState if state is not JobState.FINAL]
    query = select(jobs.c.state, func.count()).where(jobs.c.state.in_(rest)).group_by(jobs.c.state)
    counts = {state: int(count) for state, count in connection.execute(query)}
    final = int(connection.execute(select(func.coalesce(func.sum(cursors.c.final_jobs), 0))).scalar_one())
    return counts | ({JobState.FINAL.value: final} if final else {})


@dataclass(frozen=True)
class Leasable:
    """As much of a job as it takes to pass over it quickly. deadline: seconds since 1970."""

    request_hash: bytes
    requester: str
    deadline: int


def leasable(connection: Connection, per_requester: int, limit: int, offset: int = 0) -> list[Leasable]:
    """Jobs whose spec is here and that have something to lease: each requester's oldest first, then each one's second,
    and so on, at most `per_requester` of one. Who orders thousands hides nobody else's.

    Nothing is begun for a request that is marked for cancellation: its requester could draw the refund before the end.
    """
    open_slot = exists().where(slots.c.request_hash == jobs.c.request_hash, slots.c.state == "open")
    wanted = or_(
        and_(jobs.c.agreed_at.is_(None), or_(jobs.c.state == JobState.READY.value, open_slot)),
        jobs.c.wanted_block.is_not(None),
    )
    is_begun = or_(jobs.c.state != JobState.READY.value, jobs.c.wanted_block.is_not(None))
    wanted = and_(wanted, or_(is_begun, jobs.c.cancel_marked.is_(False)))
    order = (jobs.c.block_number, jobs.c.request_id)
    rank = func.row_number().over(partition_by=jobs.c.requester, order_by=order).label("rank")
    states = [state.value for state in (JobState.READY, JobState.RUNNING, JobState.HELD)]
    columns = (jobs.c.request_hash, jobs.c.requester, jobs.c.deadline, jobs.c.block_number, jobs.c.request_id)
    ranked = select(*columns, rank).where(jobs.c.state.in_(states), jobs.c.spec.is_not(None), wanted).subquery()
    query = (
        select(ranked.c.request_hash, ranked.c.requester, ranked.c.deadline)
        .where(ranked.c.rank <= per_requester)
        .order_by(ranked.c.rank, ranked.c.block_number, ranked.c.request_id)
        .limit(limit)
        .offset(offset)
    )
    return [Leasable(*row) for row in connection.execute(query)]


def leasable_mark(connection: Connection) -> tuple[int, float]:
    """Differs from the last one when a job may have become leasable: number and last change of such jobs."""
    states = [state.value for state in (JobState.READY, JobState.RUNNING, JobState.HELD)]
    count, latest = connection.execute(
        select(func.count(), func.max(jobs.c.changed_at)).where(jobs.c.state.in_(states))
    ).one()
    return int(count), float(latest or 0.0)


def answered_jobs(connection: Connection, limit: int = 1000, offset: int = 0) -> list[Job]:
    """Open jobs without an outcome yet of which at least one slot has answered, oldest request first."""
    answered = exists().where(slots.c.request_hash == jobs.c.request_hash, slots.c.state == "answered")
    states = [state.value for state in (JobState.READY, JobState.RUNNING, JobState.HELD)]
    query = select(jobs).where(jobs.c.state.in_(states), answered)
    ordered = query.order_by(jobs.c.block_number, jobs.c.request_id)
    return [job_of(row) for row in connection.execute(ordered.limit(limit).offset(offset))]


def waiting_jobs(connection: Connection, limit: int, offset: int, *, without_spec: bool) -> list[Job]:
    """READY jobs, oldest request first; either those whose spec by CID is not here, or the others."""
    spec = jobs.c.spec.is_(None) if without_spec else jobs.c.spec.is_not(None)
    query = select(jobs).where(jobs.c.state == JobState.READY.value, spec)
    ordered = query.order_by(jobs.c.block_number, jobs.c.request_id)
    return [job_of(row) for row in connection.execute(ordered.limit(limit).offset(offset))]


def unpublished_jobs(connection: Connection, limit: int = 100) -> list[Job]:
    """Jobs whose outcome stands on-chain and whose output has not been made public."""
    query = select(jobs).where(jobs.c.state.in_(literally(STANDING)), jobs.c.published_at.is_(None)).limit(limit)
    return [job_of(row) for row in connection.execute(query)]


def forget_published(connection: Connection) -> None:
    """A result that left the chain again may come back as another one: its output is to be published anew then."""
    where = (jobs.c.state.not_in(literally(STANDING)), jobs.c.published_at.is_not(None))
    connection.execute(update(jobs).where(*where).values(published_at=None))


def overdue_jobs(connection: Connection, now: float, limit: int = 100) -> list[Job]:
    """Requests that are open after their deadline and whose refund nobody has put into the outbox."""
    sent = exists().where(outbox.c.request_hash == jobs.c.request_hash, outbox.c.kind == "expire")
    query = select(jobs).where(jobs.c.state.in_([s.value for s in OPEN_STATES]), jobs.c.deadline < now, ~sent)
    return [job_of(row) for row in connection.execute(query.order_by(jobs.c.deadline).limit(limit))]


def running_by_requester(connection: Connection) -> dict[str, int]:
    """How many active leases each requester's jobs have."""
    query = (
        select(jobs.c.requester, func.count())
        .join(leases, leases.c.request_hash == jobs.c.request_hash)
        .where(leases.c.state == "active")
        .group_by(jobs.c.requester)
    )
    return {requester: int(count) for requester, count in connection.execute(query)}


def scanned_number(connection: Connection, chain_id: int, contract: str) -> int | None:
    """The number of the last block that the listener has taken in."""
    where = {"chain_id": chain_id, "contract": contract}
    return connection.execute(_SCANNED_NUMBER, where).scalar_one_or_none()


def scanned_time(connection: Connection) -> int:
    """The time of the newest block that the listener has taken in, in seconds since 1970; 0 before there is one."""
    return connection.execute(select(func.max(blocks.c.timestamp))).scalar_one_or_none() or 0


def set_values(connection: Connection, request_hash: bytes, state: JobState, **values: Any) -> None:
    """Set columns of a job that stays in `state`. StaleTransition if it is no longer in it."""
    where = (jobs.c.request_hash == request_hash, jobs.c.state == state.value)
    if connection.execute(update(jobs).where(*where).values(**values)).rowcount != 1:
        raise StaleTransition(f"job 0x{request_hash.hex()} is no longer {state}")
