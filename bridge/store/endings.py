"""What the stored events and blocks say of a request's end: when a refund can be drawn, when a block was made."""

from __future__ import annotations

from sqlalchemy import Connection, select

from bridge.chain.events import Kind
from bridge.store.schema import blocks, events


def refundable_at(connection: Connection, request_hash: bytes) -> int | None:
    """From when on a request that was marked for cancellation can be drawn, seconds since 1970; None if it is not."""
    where = (events.c.request_hash == request_hash, events.c.kind == Kind.CANCEL_REQUESTED.value)
    data = connection.scalars(select(events.c.data).where(*where).limit(1)).one_or_none()
    return None if data is None else int.from_bytes(data[-32:], "big")


def block_time(connection: Connection, block_hash: bytes | None) -> int | None:
    """When a block was made, seconds since 1970; None once it is final and forgotten."""
    return connection.scalars(select(blocks.c.timestamp).where(blocks.c.hash == block_hash)).one_or_none()
