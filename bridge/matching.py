"""Jobs and nodes brought together: reads what `bridge.routing` decides on from the store and the chain."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bridge.config import DispatchConfig
from bridge.registry import ChainView
from bridge.routing import (
    Floor,
    Need,
    NodeSnapshot,
    Taken,
    hashes_to_ask,
    label_words,
    need_of,
    price_reason,
    required_labels,
    time_reason,
)
from bridge.store.jobs import Job
from bridge.store.leases import ANSWERED, EXPIRED, OPEN, RETURNED, LeaseRow, Slot
from bridge.store.nodes import KnownNode
from executor.protocol.cid import Cid
from executor.protocol.leases import Capacity, Phase
from executor.protocol.reasons import Reason
from executor.protocol.spec import InvalidSpec, JobSpec, job_of, spec_cid
from executor.protocol.wire import ZERO_ADDRESS, Order

LABELS_FRESH_SECONDS = 10.0  # how long an answer of the registry is used again; a grant asks anew
MAX_REST_SECONDS = 300.0
#: What a node returns a lease for that waiting does not change.
STANDING_REASONS = frozenset(
    {
        Reason.ENGINE_MISSING,
        Reason.POLICY,
        Reason.PRICE_TOO_LOW,
        Reason.IMAGE_NOT_AVAILABLE,
        Reason.INPUT_TOO_LARGE,
    }
)
#: Reasons that are kept on a job that comes to its end.
LASTING = frozenset({Reason.NO_NODE_MATCHES, Reason.NODES_BUSY, Reason.TOO_LATE, Reason.ATTEMPTS_EXHAUSTED})
_KEPT = 4096  # entries of each cache

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a job's spec asks for. spec: None where it can never run, then `refusal` says why; or where it `is_absent`.

    content: every CID that a node may fetch for this job.
    """

    order: Order
    spec: JobSpec | None
    refusal: str
    is_absent: bool
    need: Need
    content: tuple[Cid, ...]


def plan_of(job: Job) -> Plan:
    """What a job asks for. Pure."""
    order = job.request.order
    try:
        cid = spec_cid(order)
    except InvalidSpec as exc:
        return Plan(order=order, spec=None, refusal=str(exc), is_absent=False, need=need_of(order, None), content=())
    roots = () if cid is None else (cid,)
    data = order.spec if cid is None else job.spec
    if data is None:
        return Plan(order=order, spec=None, refusal="", is_absent=True, need=need_of(order, None), content=roots)
    try:
        spec = job_of(order, data)
    except InvalidSpec as exc:
        return Plan(order=order, spec=None, refusal=str(exc), is_absent=False, need=need_of(order, None), content=roots)
    content = tuple(dict.fromkeys([*roots, *spec.content]))
    return Plan(order=order, spec=spec, refusal="", is_absent=False, need=need_of(order, spec), content=content)


def standing_reason(plan: Plan, deadline: int, config: DispatchConfig, now: float) -> tuple[Reason, str] | None:
    """Why a job is leased to nobody now, whichever node asks. deadline: of its request. Pure."""
    if plan.is_absent:
        cid = plan.content[0]
        return Reason.SPEC_UNREADABLE, f"its spec {cid} is not here; upload it: insula content add FILE --to BRIDGE"
    if price := price_reason(plan.order, floors_of(config)):
        return Reason.PRICE_BELOW_MINIMUM, price
    if plan.order.callback_gas > config.max_callback_gas:
        most = config.max_callback_gas
        return Reason.PRICE_BELOW_MINIMUM, f"its callback asks for {plan.order.callback_gas} gas; at most {most} here"
    if late := time_reason(plan.need, deadline, now, config.delivery_margin_seconds):
        return Reason.TOO_LATE, late
    return None


def floors_of(config: DispatchConfig) -> dict[str, Floor]:
    """The minimum prices in each token that the bridge takes, the chain's own first. Pure."""
    floors = {ZERO_ADDRESS: Floor(unit_price=config.min_unit_price, delivery_fee=config.min_delivery_fee)}
    for token, floor in config.tokens.items():
        floors[token] = Floor(unit_price=floor.min_unit_price, delivery_fee=floor.min_delivery_fee)
    return floors


def taken_of(slots: Sequence[Slot], leases: Sequence[LeaseRow], now: float) -> Taken:
    """Who has a slot, and who rests because he gave back. Pure.

    A node rests longer each time (5 s, 10 s, ... 5 minutes; at once 5 minutes where its reason stands or it kept
    the lease to its longest life), so that all
    others have their turn first.
    """
    held = [slot for slot in slots if slot.state != OPEN]
    resting: dict[int, str] = {}
    times: dict[int, int] = {}
    for lease in leases:
        if lease.state not in (RETURNED, EXPIRED):
            continue
        times[lease.node_id] = count = times.get(lease.node_id, 0) + 1
        is_long = lease.reason in STANDING_REASONS or lease.reason == Reason.LEASE_LOST
        pause = MAX_REST_SECONDS if is_long else min(MAX_REST_SECONDS, 5.0 * 2 ** (count - 1))
        until = (lease.ended_at or now) + pause
        resting.pop(lease.node_id, None)
        if until > now:
            resting[lease.node_id] = f"gave a lease back ({why_ended(lease)}); others go first for {until - now:.0f} s"
    return Taken(
        nodes=frozenset(slot.node_id for slot in held if slot.node_id is not None),
        operators=frozenset(slot.operator for slot in held if slot.operator is not None),
        resting=resting,
    )


def lease_ends_at(lease: LeaseRow, phase: Phase, need: Need, config: DispatchConfig) -> float:
    """When a lease ends whatever its heartbeats say, in seconds since 1970. Pure.

    A node that keeps a job without answering must not keep it from the others. What is held for a release stays held
    until it is answered, its upload included.
    """
    running = config.fetch_allowance_seconds + need.wall_seconds + config.upload_margin_seconds
    return lease.granted_at + running + (config.held_seconds if phase is Phase.HELD else 0.0)


def reason_name(code: int) -> str:
    """The name of a reason code. Pure."""
    return next((reason.name for reason in Reason if reason == code), str(code))


def why_ended(lease: LeaseRow) -> str:
    """Why a lease ended, in words. Pure."""
    name = reason_name(lease.reason)
    if lease.state == EXPIRED:
        return lease.detail or "no heartbeat in time"
    return f"{name}: {lease.detail}" if lease.detail else name


def open_slot(slots: Sequence[Slot], leases: Sequence[LeaseRow], node_id: int, max_attempts: int) -> Slot | None:
    """The slot to lease next to this node, None where all open ones have had their attempts. Pure.

    The one that it had before, if it is open: what the node signed for it names its slot, and it signs once. Else the
    one with the fewest attempts.
    """
    free = [slot for slot in slots if slot.state == OPEN and slot.attempts < max_attempts]
    before = [lease.slot for lease in leases if lease.node_id == node_id]
    return min(free, key=lambda slot: (slot.slot not in before, slot.attempts, slot.slot), default=None)


def are_exhausted(slots: Sequence[Slot], max_attempts: int) -> bool:
    """Whether open slots are left, and all of them have had all their attempts. Pure."""
    free = [slot for slot in slots if slot.state == OPEN]
    return bool(free) and all(slot.attempts >= max_attempts for slot in free)


def slot_to_bring_again(slots: Sequence[Slot], agreed: bytes | None, node_id: int) -> Slot | None:
    """The slot in which this node gave the agreed outcome, whose content has to come again. Pure."""
    mine = (s for s in slots if s.state == ANSWERED and s.node_id == node_id and s.outcome_hash == agreed)
    return next(mine, None)


class Matcher:
    """Snapshots of nodes for jobs, with the registry's answers kept for a moment. Used by any thread."""

    def __init__(self, chain: ChainView) -> None:
        self._chain = chain
        self._plans: OrderedDict[bytes, Plan] = OrderedDict()
        self._counts: OrderedDict[tuple[int, str, tuple[bytes, ...]], tuple[float, frozenset[bytes]]] = OrderedDict()

    def known_plan(self, request_hash: bytes) -> Plan | None:
        """The plan of a job that was planned before."""
        return self._plans.get(request_hash)

    def plan(self, job: Job) -> Plan:
        """`plan_of`, kept: a request's order never changes, and its spec only arrives once."""
        kept = self.known_plan(job.request_hash)
        if kept is None:
            kept = plan_of(job)
            if not kept.is_absent:
                keep(self._plans, job.request_hash, kept)
        return kept

    def snapshot(self, node: KnownNode, need: Need, free: Capacity, now: float) -> NodeSnapshot:
        """A node as this job's curator sees it. RpcError."""
        words = label_words(node.advert)
        counted = self._counted(node.node_id, need.curator, hashes_to_ask(need, words.values()), now)
        return NodeSnapshot(
            node_id=node.node_id,
            key=node.key,
            operator=node.operator,
            advert=node.advert,
            free=free,
            counted=frozenset(word for word, label in words.items() if label in counted),
            carried=frozenset(required_labels(need)) & counted,
        )

    def carries_now(self, node_id: int, need: Need) -> bool:
        """Whether the order's labels count at this very moment. RpcError."""
        return self._chain.carries(node_id, need.curator, need.labels)

    def _counted(self, node_id: int, curator: str, labels: tuple[bytes, ...], now: float) -> frozenset[bytes]:
        if not labels:
            return frozenset()
        key = (node_id, curator, labels)
        kept = self._counts.get(key)
        if kept is not None and now - kept[0] < LABELS_FRESH_SECONDS:
            return kept[1]
        answers = self._chain.labels_count(node_id, curator, labels)
        counted = frozenset(label for label, counts in zip(labels, answers, strict=True) if counts)
        keep(self._counts, key, (now, counted))
        return counted


def keep(cache: OrderedDict[K, V], key: K, value: V, most: int = _KEPT) -> None:
    """Put an entry last into a cache that many threads use; the first ones go while there are more than `most`."""
    cache.pop(key, None)
    cache[key] = value
    while len(cache) > most:
        try:
            cache.popitem(last=False)
        except KeyError:  # another thread was faster
            return
