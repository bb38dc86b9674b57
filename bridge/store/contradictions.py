"""Evidence against nodes, as the database has it: one for each request and key, a few of each key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from bridge.store.schema import contradictions
from executor.protocol.evidence import Evidence

KEPT_PER_KEY = 16  # one of them takes the whole stake, and a second one of the same key is refused


@dataclass(frozen=True)
class Contradiction:
    """What proves it, and whose it is. found_at: seconds since 1970."""

    node_id: int
    evidence: Evidence
    found_at: float


def keep_contradiction(connection: Connection, found: Contradiction) -> bool:
    """Keep one; False, and nothing changed, where this key's contradiction about this request is kept already.

    Where a key has too many, its first ones stay, and the one before the newest goes: else a node could push out those
    that are shown with new ones about requests of its own, which are not shown before their deadlines.
    """
    evidence = found.evidence
    known = select(contradictions.c.node_id).where(
        contradictions.c.request_hash == evidence.request_hash, contradictions.c.key == evidence.key
    )
    if connection.execute(known).first() is not None:
        return False
    connection.execute(
        insert(contradictions).values(
            request_hash=evidence.request_hash,
            key=evidence.key,
            node_id=found.node_id,
            evidence=evidence.model_dump_json(),
            found_at=found.found_at,
        )
    )
    of_key = contradictions.c.key == evidence.key
    by_age = select(contradictions.c.request_hash).where(of_key, contradictions.c.node_id == found.node_id)
    hashes = connection.scalars(by_age.order_by(contradictions.c.found_at, contradictions.c.request_hash)).all()
    surplus = [one for one in hashes if one != evidence.request_hash][KEPT_PER_KEY - 1 :]
    connection.execute(delete(contradictions).where(of_key, contradictions.c.request_hash.in_(surplus)))
    return True


def contradictions_of(connection: Connection, node_id: int) -> Sequence[Contradiction]:
    """A node's contradictions, newest first."""
    query = select(contradictions).where(contradictions.c.node_id == node_id)
    return [_contradiction(row) for row in connection.execute(query.order_by(contradictions.c.found_at.desc()))]


def contradictions_about(connection: Connection, request_hash: bytes) -> Sequence[Contradiction]:
    """Those about a request, by node."""
    query = select(contradictions).where(contradictions.c.request_hash == request_hash)
    return [_contradiction(row) for row in connection.execute(query.order_by(contradictions.c.node_id))]


def _contradiction(row: Row[Any]) -> Contradiction:
    return Contradiction(row.node_id, Evidence.model_validate_json(row.evidence), row.found_at)
