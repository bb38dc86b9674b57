"""What stands between a job and each connected node, seen now: the store's rows and the registry's word together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.errors import RpcError
from bridge.matching import Matcher, taken_of
from bridge.routing import NodeReason, check_node, free_of
from bridge.store import leases as rows
from bridge.store.engine import Connection
from bridge.store.jobs import Job
from bridge.store.leases import LeaseRow, Slot
from bridge.store.nodes import KnownNode, nodes_since
from executor.errors import InvalidInput
from executor.protocol.leases import Capacity

MAX_NODES = 200  # looked at one by one
CONNECTED_SECONDS = 90.0  # a node that asked for work within this time counts as connected


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A job's slots and leases, and every connected node with what its leases reserve, and how many these are."""

    slots: tuple[Slot, ...]
    leases: tuple[LeaseRow, ...]
    nodes: tuple[KnownNode, ...]
    reserved: dict[int, Capacity]
    active: dict[int, int]


def scene_of(connection: Connection, job: Job, now: float) -> Scene:
    """Read it."""
    return Scene(
        slots=tuple(rows.slots_of(connection, job.request_hash)),
        leases=tuple(rows.leases_of(connection, job.request_hash)),
        nodes=tuple(nodes_since(connection, now - CONNECTED_SECONDS)[:MAX_NODES]),
        reserved=rows.reserved(connection),
        active=rows.active_counts(connection),
    )


def node_reasons(
    matcher: Matcher, job: Job, scene: Scene, now: float, *, most_leases: int
) -> Iterator[NodeReason | RpcError]:
    """For each connected node why it gets the job or not; the error where the chain cannot say.

    most_leases: that one node may have at once.
    """
    plan = matcher.plan(job)
    if plan.is_absent:
        return
    taken = taken_of(scene.slots, scene.leases, now)
    for node in scene.nodes:
        left = most_leases - scene.active.get(node.node_id, 0)
        free = free_of(node.advert, scene.reserved.get(node.node_id, rows.NOTHING), left)
        try:
            yield check_node(plan.need, matcher.snapshot(node, plan.need, free, now), taken)
        except RpcError as exc:
            yield exc
        except InvalidInput:
            continue  # a node with a word that is no label gets no job
