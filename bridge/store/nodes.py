"""What nodes said of themselves when they last asked for work."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from bridge.store.schema import nodes
from executor.protocol.leases import Advert


@dataclass(frozen=True, kw_only=True)
class KnownNode:
    """A node and its last advert. seen_at: seconds since 1970."""

    node_id: int
    key: str
    operator: str
    advert: Advert
    seen_at: float


def remember_node(connection: Connection, node: KnownNode) -> None:
    """Keep a node's last advert."""
    values = {
        "key": node.key,
        "operator": node.operator,
        "advert": node.advert.model_dump(mode="json"),
        "seen_at": node.seen_at,
    }
    if connection.execute(update(nodes).where(nodes.c.node_id == node.node_id).values(**values)).rowcount == 0:
        connection.execute(insert(nodes).values(node_id=node.node_id, **values))


def nodes_since(connection: Connection, since: float) -> list[KnownNode]:
    """The nodes that asked at or after this time, by node id."""
    query = select(nodes).where(nodes.c.seen_at >= since).order_by(nodes.c.node_id)
    return [
        KnownNode(
            node_id=row.node_id,
            key=row.key,
            operator=row.operator,
            advert=Advert.model_validate(row.advert),
            seen_at=row.seen_at,
        )
        for row in connection.execute(query)
    ]
