"""Which roots were given to an operator's Kubo, by its peer id: another daemon has none of what this one got."""

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


def mirrored(connection: Connection, peer: str) -> Sequence[Mirrored]:
    """All that this daemon was given."""
    rows = connection.execute(select(mirrored_roots).where(mirrored_roots.c.peer == peer)).all()
    return [Mirrored(Cid.from_binary(row.root), row.ours, row.done) for row in rows]


def keep_mirrored(connection: Connection, peer: str, one: Mirrored) -> None:
    """Write one down, in place of what was there."""
    forget_mirrored(connection, peer, one.root)
    connection.execute(insert(mirrored_roots).values(root=one.root.binary, peer=peer, ours=one.ours, done=one.done))


def forget_mirrored(connection: Connection, peer: str, root: Cid) -> None:
    """Remove one."""
    of_root = mirrored_roots.c.root == root.binary
    connection.execute(delete(mirrored_roots).where(of_root, mirrored_roots.c.peer == peer))
