"""The events that a bridge's database knows: rows of their own, and those that a job's row holds."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from bridge.store.schema import events, jobs


class StoredEvent(NamedTuple):
    """What tells an event from others."""

    block_hash: bytes
    tx_hash: bytes
    kind: str
    request_hash: bytes
    block_number: int


def stored_events(connection: Connection) -> list[StoredEvent]:
    """All of them, in no order."""
    columns = [events.c[name] for name in StoredEvent._fields]
    found = [StoredEvent(*row) for row in connection.execute(select(*columns))]
    for job in connection.execute(select(jobs).where(jobs.c.settled_relayer.is_not(None))):
        found += _held_by(job)
    return found


def _held_by(job: Any) -> tuple[StoredEvent, StoredEvent]:
    requested = StoredEvent(job.block_hash, job.tx_hash, "JobRequested", job.request_hash, job.block_number)
    place = job.settled_block_hash, job.settled_tx
    return requested, StoredEvent(*place, "JobSettled", job.request_hash, job.settled_block_number)
