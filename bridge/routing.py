"""Which node may run which job, and if none: why. Pure: everything that the decision needs is handed in.

Labels count by the word of the order's curator alone (design section 4), so a node's own words are turned into
`NodeSnapshot.counted` by the chain before they come here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from executor.errors import InvalidInput
from executor.protocol.labels import ADMITTED, Label, Selector, label_set
from executor.protocol.leases import Advert, Capacity, TokenPrice
from executor.protocol.reasons import Reason
from executor.protocol.spec import JobSpec
from executor.protocol.wire import ZERO_ADDRESS, Order, label_hash

#: Bytes beside the files that an output may take: its directories and the links between blocks.
OUTPUT_OVERHEAD_BYTES = 2**20
#: Bytes that an output may take for each file, beside the file's own.
OUTPUT_BYTES_PER_FILE = 2048


class Fit(StrEnum):
    """Why a node gets a job or not."""

    FITS = "fits"
    NOT_VOUCHED = "not-vouched"  # the curator's word for an order's label is missing
    SELECTOR_UNMET = "selector-unmet"
    TIER_MISSING = "tier-missing"
    PRICE_TOO_LOW = "price-too-low"  # for this node
    HAS_SLOT = "has-slot"
    OPERATOR_HAS_SLOT = "operator-has-slot"
    GAVE_BACK = "gave-back"  # tried and came back; its turn comes again when nobody else can, or after a while
    NO_ROOM = "no-room"


#: A node that does not fit for one of these may fit later without anybody changing anything.
PASSING = frozenset({Fit.NO_ROOM, Fit.GAVE_BACK, Fit.HAS_SLOT, Fit.OPERATOR_HAS_SLOT})


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a job asks of one node. `tier` is None where the spec can never run: any node can refuse it."""

    labels: tuple[bytes, ...]
    curator: str
    selector: Selector
    tier: str | None
    wall_seconds: int
    cpu_millis: int
    memory_bytes: int
    disk_bytes: int
    token: str
    unit_price: int
    fail_price: int
    output_bytes: int


@dataclass(frozen=True, kw_only=True)
class Floor:
    """Below these prices the bridge starts nothing; smallest units of one token."""

    unit_price: int = 0
    delivery_fee: int = 0


@dataclass(frozen=True, kw_only=True)
class NodeSnapshot:
    """A node as it is now. `free`: net of the leases it has. `counted`: its words that count by the order's curator.

    `carried`: hashes of the order's labels that count, or of "node=admitted" where the order has none.
    """

    node_id: int
    key: str
    operator: str
    advert: Advert
    free: Capacity
    counted: frozenset[str]
    carried: frozenset[bytes]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Who already has to do with a request. `resting`: nodes that gave a lease of it back, and why they wait."""

    nodes: frozenset[int] = frozenset()
    operators: frozenset[str] = frozenset()
    resting: Mapping[int, str]


@dataclass(frozen=True, kw_only=True)
class NodeReason:
    """Why one node gets a job or not, in a code and in words."""

    node_id: int
    key: str
    code: Fit
    text: str


def need_of(order: Order, spec: JobSpec | None) -> Need:
    """What an order asks of a node; `spec` is None where it can never run (its refusal needs no room)."""
    limits = spec.limits if spec else None
    return Need(
        labels=order.labels,
        curator=order.curator,
        selector=spec.selector if spec else Selector(),
        tier=spec.engine.tier if spec else None,
        wall_seconds=limits.wall_seconds if limits else 1,
        cpu_millis=limits.cpu_millis if limits else 0,
        memory_bytes=limits.memory_bytes if limits else 0,
        disk_bytes=limits.disk_bytes if limits else 0,
        token=order.token,
        unit_price=order.unit_price,
        fail_price=order.fail_price,
        output_bytes=(
            limits.disk_bytes
            + 2 * limits.log_bytes
            + OUTPUT_BYTES_PER_FILE * limits.output_files
            + OUTPUT_OVERHEAD_BYTES
            if limits
            else 0
        ),
    )


def required_labels(need: Need) -> tuple[bytes, ...]:
    """Hashes of the labels that must count: the order's, or "node=admitted" where it names a curator only."""
    if need.labels or need.curator == ZERO_ADDRESS:
        return need.labels
    return (label_hash(ADMITTED),)


def could_fit(need: Need, advert: Advert, words: Mapping[str, bytes]) -> bool:
    """Whether a look at the chain can be worth it: a cheap test that never says no to a node that fits.

    words: the advert's label words with their hashes.
    """
    # The order's labels need not be looked at: the selector repeats them.
    if any(word not in words for word in need.selector.required_words()):
        return False
    return _tier_or_price(need, advert) is None and _room(need, advert.free) is None


def price_reason(order: Order, floors: Mapping[str, Floor]) -> str | None:
    """Why an order is below the bridge's minimum prices; None if it is not.

    floors: token -> minimum prices in it, the chain's own as the zero address. A token that is not among them is not
    taken: what it is worth is not known here.
    """
    floor = floors.get(order.token)
    if floor is None:
        others = ", ".join(token for token in floors if token != ZERO_ADDRESS)
        taken = f"the chain's own token and {others}" if others else "the chain's own token only"
        return f"it pays in the token {order.token}; this bridge starts orders in {taken}"
    if order.unit_price < floor.unit_price:
        return f"unitPrice is {order.unit_price}, this bridge's minimum is {floor.unit_price}"
    if order.delivery_fee < floor.delivery_fee:
        return f"deliveryFee is {order.delivery_fee}, this bridge's minimum is {floor.delivery_fee}"
    return None


def time_reason(need: Need, deadline: int, now: float, margin: float) -> str | None:
    """Why too little time is left to run and deliver; None if there is enough. Times in seconds since 1970."""
    if need.wall_seconds + margin < deadline - now:
        return None
    return (
        f"too little time before the deadline: wallSeconds {need.wall_seconds} and {margin:g} s for the delivery "
        "do not fit"
    )


def weightier(late: tuple[Reason, str], cause: tuple[Reason, str]) -> tuple[Reason, str]:
    """What to tell of a job that is running out of time: `late`, or what kept it waiting where that is the reason."""
    code, text = cause
    if code in (Reason.NO_NODE_MATCHES, Reason.ATTEMPTS_EXHAUSTED):
        return cause
    return late if code is Reason.NONE else (late[0], f"{late[1]}; {text}")


def check_node(need: Need, node: NodeSnapshot, taken: Taken) -> NodeReason:
    """Whether this node gets this job; what cannot change by waiting comes first."""
    code, text = (
        _labels(need, node)
        or _tier_or_price(need, node.advert)
        or _taken(node, taken)
        or _room(need, node.free)
        or (Fit.FITS, "fits; it gets the job when it asks next")
    )
    return NodeReason(node_id=node.node_id, key=node.key, code=code, text=text)


def summary(reasons: Sequence[NodeReason]) -> tuple[Reason, str]:
    """Why a job waits, from what holds for each node that was heard of lately."""
    if not reasons:
        return Reason.NO_NODE_MATCHES, "no node is connected"
    if any(reason.code is Fit.FITS for reason in reasons):
        return Reason.NONE, "a node fits and gets the job when it asks next"
    passing = [reason for reason in reasons if reason.code in PASSING]
    if not passing:
        return Reason.NO_NODE_MATCHES, f"none of {len(reasons)} connected nodes matches; {_first_or_each(reasons)}"
    if all(reason.code is Fit.GAVE_BACK for reason in passing):
        return Reason.ATTEMPTS_EXHAUSTED, f"every node that matches has given back; {_first_or_each(passing)}"
    busy = next(reason for reason in passing if reason.code is not Fit.GAVE_BACK)
    return Reason.NODES_BUSY, f"{len(passing)} of {len(reasons)} connected nodes match, but not now: {busy.text}"


def _first_or_each(reasons: Sequence[NodeReason]) -> str:
    same = len({reason.text for reason in reasons}) == 1
    return f"{'each' if same and len(reasons) > 1 else 'the first'}: {reasons[0].text}"


def free_of(advert: Advert, reserved: Capacity, left: int) -> Capacity:
    """What is free on a node: what it says, but never more than its total less what its leases reserve.

    left: how many leases more it may have here, whatever it says.
    """
    total, free = advert.total, advert.free
    return Capacity(
        slots=max(0, min(free.slots, total.slots - reserved.slots, left)),
        cpu_millis=max(0, min(free.cpu_millis, total.cpu_millis - reserved.cpu_millis)),
        memory_bytes=max(0, min(free.memory_bytes, total.memory_bytes - reserved.memory_bytes)),
        disk_bytes=max(0, min(free.disk_bytes, total.disk_bytes - reserved.disk_bytes)),
    )


def label_words(advert: Advert) -> dict[str, bytes]:
    """The advert's label words with their hashes, and "node=admitted", which is a curator's to say, not the node's.

    InvalidInput("labels") for a word that is no label.
    """
    words: dict[str, bytes] = {ADMITTED: label_hash(ADMITTED)}
    for word in advert.labels:
        try:
            Label.parse(word)
        except InvalidInput as exc:
            raise InvalidInput("labels", exc.problem) from exc
        words[word] = label_hash(word)
    return words


def hashes_to_ask(need: Need, words: Iterable[bytes]) -> tuple[bytes, ...]:
    """Every label hash whose standing decides: the advert's words and the order's labels, sorted, unique."""
    return tuple(sorted({*words, *required_labels(need)}))


def _labels(need: Need, node: NodeSnapshot) -> tuple[Fit, str] | None:
    by = "its own word" if need.curator == ZERO_ADDRESS else f"the word of curator {need.curator}"
    for label in required_labels(need):
        if label not in node.carried:
            name = next((w for w in (*need.selector.required_words(), ADMITTED) if label_hash(w) == label), None)
            return Fit.NOT_VOUCHED, f"label {name or '0x' + label.hex()} does not count for it by {by}"
    unmet = need.selector.unmet(label_set(node.counted))
    if unmet:
        return Fit.SELECTOR_UNMET, f"selector requirement {unmet[0]} is not met by the labels that count by {by}"
    return None


def _tier_or_price(need: Need, advert: Advert) -> tuple[Fit, str] | None:
    if need.tier is not None and need.tier not in advert.tiers:
        return Fit.TIER_MISSING, f"tier {need.tier} is missing; it has {', '.join(advert.tiers) or 'none'}"
    return _price(need, advert)


def _price(need: Need, advert: Advert) -> tuple[Fit, str] | None:
    asked: Advert | TokenPrice = advert
    if need.token != ZERO_ADDRESS:
        if need.token not in advert.tokens:
            # Who asks for nothing takes anything.
            priced = advert.min_unit_price or advert.min_fail_price or advert.tokens
            return (Fit.PRICE_TOO_LOW, f"it takes no payment in the token {need.token}") if priced else None
        asked = advert.tokens[need.token]
    if need.unit_price < asked.min_unit_price:
        return Fit.PRICE_TOO_LOW, f"unitPrice {need.unit_price} is below its minimum of {asked.min_unit_price}"
    if need.fail_price < asked.min_fail_price:
        return Fit.PRICE_TOO_LOW, f"failPrice {need.fail_price} is below its minimum of {asked.min_fail_price}"
    return None


def _taken(node: NodeSnapshot, taken: Taken) -> tuple[Fit, str] | None:
    if node.node_id in taken.nodes:
        return Fit.HAS_SLOT, "it already has a slot of this request"
    if node.operator in taken.operators:
        return Fit.OPERATOR_HAS_SLOT, f"its operator {node.operator} already has a slot of this request"
    if node.node_id in taken.resting:
        return Fit.GAVE_BACK, taken.resting[node.node_id]
    return None


def _room(need: Need, free: Capacity) -> tuple[Fit, str] | None:
    for name, needed, there in (
        ("slots", 1, free.slots),
        ("cpuMillis", need.cpu_millis, free.cpu_millis),
        ("memoryBytes", need.memory_bytes, free.memory_bytes),
        ("diskBytes", need.disk_bytes, free.disk_bytes),
    ):
        if needed > there:
            return Fit.NO_ROOM, f"not enough {name}: {needed} are needed, {there} are free"
    return None
