"""Which roots were given to the operator's Kubo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from bridge.store.schema import mirrored_roots
from executor.protocol.cid import Cid


@dataclass(frozen=True, slots=True)
class Mirrored:
    """ours: the daemon did not keep it before. done: it has said that it does now."""

    root: Cid
    ours: bool
    done: bool


def mirrored(connection: Connection) -> Sequence[Mirrored]:
    """All of them."""
    rows = connection.execute(select(mirrored_roots)).all()
    return [Mirrored(Cid.from_binary(row.root), row.ours, row.done) for row in rows]


def keep_mirrored(connection: Connection, one: Mirrored) -> None:
    """Write one down, in place of what was there."""
    forget_mirrored(connection, one.root)
    connection.execute(insert(mirrored_roots).values(root=one.root.binary, ours=one.ours, done=one.done))


def forget_mirrored(connection: Connection, root: Cid) -> None:
    """Remove one."""
    connection.execute(delete(mirrored_roots).where(mirrored_roots.c.root == root.binary))
