"""What the database knows of why things stand where they stand: small answers, however long the bridge has run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from bridge.jobs import JobState
from bridge.store.outbox import LIVE
from bridge.store.schema import blocks, cursors, jobs, outbox, transactions

MAX_GROUPS = 20  # of deliveries that wait for the same reason


@dataclass(frozen=True)
class Position:
    """Where the listener stands: block numbers; times in seconds since 1970, `block_at` by the chain's clock."""

    scanned: int
    final: int
    moved_at: float
    block_at: int | None


@dataclass(frozen=True)
class WaitingJobs:
    """So many jobs are in one state for one reason (a code; 0: none was noted)."""

    state: JobState
    reason: int
    count: int


@dataclass(frozen=True)
class WaitingDeliveries:
    """So many deliveries of one kind are in one state with the same detail. since: when the oldest was ordered."""

    kind: str
    state: str
    detail: str
    count: int
    since: float


def position(connection: Connection, chain_id: int, contract: str) -> Position | None:
    """The listener's position; None before its first step."""
    where = (cursors.c.chain_id == chain_id, cursors.c.contract == contract)
    row = connection.execute(select(cursors).where(*where)).one_or_none()
    if row is None:
        return None
    block_at = connection.execute(select(blocks.c.timestamp).where(blocks.c.hash == row.scanned_hash)).scalar()
    return Position(row.scanned_number, row.final_number, row.changed_at, block_at)


def jobs_by_reason(connection: Connection, states: Sequence[JobState]) -> list[WaitingJobs]:
    """Jobs in any of these states, counted by state and reason."""
    query = (
        select(jobs.c.state, jobs.c.reason, func.count())
        .where(jobs.c.state.in_([state.value for state in states]))
        .group_by(jobs.c.state, jobs.c.reason)
    )
    found = [WaitingJobs(JobState(state), reason, int(count)) for state, reason, count in connection.execute(query)]
    return sorted(found, key=lambda group: (states.index(group.state), group.reason))


def deliveries_by_reason(connection: Connection) -> list[WaitingDeliveries]:
    """Deliveries that are not at their end, counted by what they wait for; the largest groups first."""
    columns = (outbox.c.kind, outbox.c.state, outbox.c.detail)
    query = (
        select(*columns, func.count().label("many"), func.min(outbox.c.created_at))
        .where(outbox.c.state.in_([state.value for state in LIVE]))
        .group_by(*columns)
        .order_by(func.count().desc(), *columns)
        .limit(MAX_GROUPS)
    )
    return [
        WaitingDeliveries(kind, state, detail, int(n), at) for kind, state, detail, n, at in connection.execute(query)
    ]


def outbox_by_state(connection: Connection) -> dict[str, int]:
    """How many deliveries are in each state."""
    rows = connection.execute(select(outbox.c.state, func.count()).group_by(outbox.c.state))
    return {state: int(count) for state, count in rows}


def transactions_by_fate(connection: Connection) -> dict[str, int]:
    """How many signed transactions there are: without a receipt, mined with success, mined without."""
    fate = transactions.c.mined_ok
    found = {ok: int(count) for ok, count in connection.execute(select(fate, func.count()).group_by(fate))}
    return {"open": found.get(None, 0), "succeeded": found.get(True, 0), "failed": found.get(False, 0)}
