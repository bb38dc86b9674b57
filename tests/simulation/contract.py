"""ComputeBridge as the chain shows it: its calls, checks, states, events and reverts, over a state that is a value.

What is left out: signatures (`Contract.attests` stands for their check, and each counts as one of another operator),
the registry and its events, withdrawals, callbacks, pausing, the finer rules for orders and outcomes.
tests/integration/test_sim_twin.py holds it against the real contract.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from eth_abi import abi
from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

from bridge.chain.contracts import compute_bridge
from bridge.chain.events import FIELDS, TOPICS, Kind
from executor.errors import InvalidInput
from executor.protocol.wire import ZERO_ADDRESS, ZERO_HASH, OnChainState, Order, Outcome, request_hash, result_digest

SETTLED = (OnChainState.FULFILLED, OnChainState.FAILED, OnChainState.REFUSED, OnChainState.WITHHELD)
GAS = {
    "requestJob": 150_000,
    "fulfil": 180_000,
    "fulfilMany": 400_000,
    "expire": 70_000,
    "cancel": 60_000,
    "drawCancelled": 70_000,
}
_ABI = compute_bridge()
_CREDITED = keccak(text="Credited(address,address,uint256)")
SKIPPED = keccak(text="DeliverySkipped(uint256,bytes)")
MAX_DELIVERIES = 64
_TOPIC = {kind: topic for topic, kind in TOPICS.items()}
_request_hash = lru_cache(maxsize=5000)(request_hash)


class Reverted(Exception):
    """The execution reverted with these bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data.hex())
        self.data = data


@dataclass(frozen=True)
class Slot:
    """What is stored of one request. `digest`: the request hash while open, the result's digest, or zero."""

    digest: bytes
    requester: str
    deadline: int
    state: OnChainState = OnChainState.REQUESTED
    cancel_marked_at: int = 0


@dataclass
class State:
    """Storage and accounts after some block. Copied before it is changed."""

    count: int = 0
    slots: dict[int, Slot] = field(default_factory=dict)
    credits: dict[str, int] = field(default_factory=dict)
    owed: int = 0
    nonces: dict[str, int] = field(default_factory=dict)
    balances: dict[str, int] = field(default_factory=dict)

    def copy(self) -> State:
        """One that can be changed without this one."""
        parts = (dict(self.slots), dict(self.credits), self.owed, dict(self.nonces), dict(self.balances))
        return State(self.count, *parts)


@dataclass(frozen=True)
class RawLog:
    """An event before its block is known."""

    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class Message:
    """What the contract knows of who calls it. `now`: the block's timestamp."""

    sender: str
    value: int
    now: int


# -- calldata -----------------------------------------------------------------------------------------------------


def _deliveries(given: Any) -> tuple[tuple[Any, ...], ...]:
    return tuple((id_, Order.from_tuple(order), Outcome.from_tuple(made), word) for id_, order, made, word in given)


_ORDER: tuple[Callable[[Any], Any] | None, ...] = (None, Order.from_tuple)
_KINDS = {
    "requestJob": (Order.from_tuple,),
    "fulfil": (*_ORDER, Outcome.from_tuple),
    "fulfilMany": (_deliveries,),
    "expire": _ORDER,
    "cancel": _ORDER,
    "drawCancelled": _ORDER,
}
_VIEWS = ("requestCount", "requestHash", "resultOf", "requestOf", "creditOf", "owed", "bounds")
_BY_SELECTOR = {entry.selector: name for name, entry in _ABI._functions.items() if name in _KINDS or name in _VIEWS}


@lru_cache(maxsize=5000)
def decoded_call(calldata: bytes) -> tuple[str, tuple[Any, ...]] | None:
    """Function and arguments, orders and outcomes as such. None: no function of the contract, or not its arguments."""
    name = _BY_SELECTOR.get(calldata[:4])
    try:
        values = None if name is None else list(_ABI.decode_input(name, calldata))
    except InvalidInput:
        return None
    if name is None or values is None:
        return None
    for place, kind in enumerate(_KINDS.get(name, ())):
        if kind is not None:
            values[place] = kind(values[place])
    return name, tuple(values)


def deliveries_in(calldata: bytes) -> list[tuple[Any, ...]]:
    """(id, order, outcome, attestations) of each result that a call brings; none for another call."""
    name, values = decoded_call(calldata) or ("", ())
    return list(values[0]) if name == "fulfilMany" else [values] if name == "fulfil" else []


# -- events and errors --------------------------------------------------------------------------------------------


@lru_cache(maxsize=5000)
def event(kind: Kind, *values: Any) -> RawLog:
    """The log of an event: its indexed values first, then its data's."""
    indexed, data = FIELDS[kind]
    topics = tuple(abi.encode([form], [value]) for form, value in zip(indexed, values, strict=False))
    return RawLog((_TOPIC[kind], *topics), abi.encode(data, values[len(indexed) :]))


@lru_cache(maxsize=5000)
def _credited(account: str, amount: int) -> RawLog:
    topic = bytes(12) + to_canonical_address(account)
    return RawLog((_CREDITED, topic, ZERO_HASH), amount.to_bytes(32, "big"))


def reverted(error: str, *values: Any) -> Reverted:
    """The revert with an error of the contract."""
    entry = next(entry for entry in _ABI.errors.values() if entry.name == f"ComputeBridge{error}")
    return Reverted(entry.selector + abi.encode(entry.inputs, values))


# -- the contract -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contract:
    """One deployed ComputeBridge."""

    chain_id: int
    address: str
    min_ttl: int = 1
    max_ttl: int = 86_400
    cancel_delay: int = 60
    #: what stands for the check of a signature: (request hash, outcome hash, attestation) -> whether it is one
    attests: Callable[[bytes, bytes, tuple[Any, ...]], bool] = lambda *_: True

    def execute(self, state: State, call: Message, calldata: bytes) -> list[RawLog]:
        """Run a call that may change `state`; its events. Reverted, with `state` half changed: give a copy."""
        found = decoded_call(calldata)
        if found is None or found[0] not in _KINDS:
            raise Reverted(b"")
        name, values = found
        if call.value and name != "requestJob":
            raise Reverted(b"")
        logs: list[RawLog] = getattr(self, _CALLS[name])(state, call, *values)
        return logs

    def returned(self, state: State, call: Message, calldata: bytes) -> bytes:
        """What a call that may change `state` returns. As `execute` otherwise."""
        logs = self.execute(state, call, calldata)
        name, values = decoded_call(calldata) or ("", ())
        if name != "fulfilMany":
            return b""
        skipped = {int.from_bytes(log.topics[1], "big") for log in logs if log.topics[0] == SKIPPED}
        return abi.encode(["bool[]"], [[delivery[0] not in skipped for delivery in values[0]]])

    def view(self, state: State, calldata: bytes) -> bytes:
        """What a view returns."""
        found = decoded_call(calldata)
        if found is None or found[0] not in _VIEWS:
            raise Reverted(b"")
        name, values = found
        return abi.encode(_ABI._functions[name].outputs, self._seen(state, name, values))

    def _seen(self, state: State, name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if name in ("requestHash", "resultOf", "requestOf"):
            return _SEEN[name](state.slots.get(values[0], _NOBODY))
        if name == "creditOf":
            return (state.credits.get(values[0].lower(), 0) if values[1] == ZERO_ADDRESS else 0,)
        if name == "owed":
            return (state.owed if values[0] == ZERO_ADDRESS else 0,)
        return (state.count,) if name == "requestCount" else (self.min_ttl, self.max_ttl, self.cancel_delay)

    def request_job(self, state: State, call: Message, order: Order) -> list[RawLog]:
        if order.version != 1:
            raise reverted("InvalidOrder", "version")
        if not self.min_ttl <= order.ttl <= self.max_ttl:
            raise reverted("InvalidOrder", "ttl")
        if call.value != order.price:
            raise reverted("WrongPayment", call.value, order.price)
        state.count += 1
        digest = _request_hash(self.chain_id, self.address, state.count, call.sender, order)
        deadline = call.now + order.ttl
        state.slots[state.count] = Slot(digest, call.sender, deadline)
        state.owed += order.price
        return [event(Kind.REQUESTED, state.count, digest, call.sender, deadline, order.as_tuple())]

    def fulfil(
        self, state: State, call: Message, id_: int, order: Order, outcome: Outcome, attestations: tuple[Any, ...]
    ) -> list[RawLog]:
        slot, digest = self._existing(state, id_, order)
        result = result_digest(digest, outcome.hash)
        if slot.state in SETTLED:
            if slot.digest != result:
                raise reverted("OutcomeConflict", id_, slot.digest, result)
            return []
        self._check_open(id_, slot, digest)
        if call.now > slot.deadline:
            raise reverted("DeadlinePassed", id_, slot.deadline)
        if not 1 <= outcome.status <= 4:
            raise reverted("InvalidOutcome", "status")
        if len(attestations) < order.quorum:
            raise reverted("TooFewAttestations", len(attestations), order.quorum)
        if len(attestations) > order.nodes:
            raise reverted("TooManyAttestations", len(attestations), order.nodes)
        for place, given in enumerate(attestations):
            if not self.attests(digest, outcome.hash, given):
                raise reverted("UnknownSigner", place, ZERO_ADDRESS)
        ended = OnChainState(OnChainState.FULFILLED + outcome.status - 1)
        state.slots[id_] = replace(slot, digest=result, state=ended)
        relayer = attestations[0][3]
        settled = event(Kind.SETTLED, id_, digest, ended, outcome.hash, relayer, outcome.as_tuple())
        return [settled, *self._pay(state, slot.requester, order, ended, len(attestations), relayer)]

    def fulfil_many(self, state: State, call: Message, deliveries: tuple[tuple[Any, ...], ...]) -> list[RawLog]:
        """Each as by `fulfil`; one that is refused is reported and passed over."""
        if len(deliveries) > MAX_DELIVERIES:
            raise reverted("TooManyDeliveries", len(deliveries), MAX_DELIVERIES)
        logs: list[RawLog] = []
        for id_, *given in deliveries:
            try:
                logs += self.fulfil(state, call, id_, *given)
            except Reverted as refusal:  # `fulfil` changes nothing before it has refused
                logs.append(RawLog((SKIPPED, id_.to_bytes(32, "big")), abi.encode(["bytes"], [refusal.data])))
        return logs

    def expire(self, state: State, call: Message, id_: int, order: Order) -> list[RawLog]:
        slot, digest = self._open(state, id_, order)
        if call.now <= slot.deadline:
            raise reverted("DeadlineNotPassed", id_, slot.deadline)
        state.slots[id_] = replace(slot, digest=ZERO_HASH, state=OnChainState.EXPIRED)
        return [event(Kind.EXPIRED, id_, digest, order.price), *self._credit(state, slot.requester, order.price)]

    def cancel(self, state: State, call: Message, id_: int, order: Order) -> list[RawLog]:
        slot, digest = self._open(state, id_, order)
        if call.sender.lower() != slot.requester.lower():
            raise reverted("NotRequester", id_, call.sender)
        if slot.cancel_marked_at:
            raise reverted("AlreadyMarked", id_)
        if call.now > slot.deadline:
            raise reverted("DeadlinePassed", id_, slot.deadline)
        state.slots[id_] = replace(slot, cancel_marked_at=call.now)
        return [event(Kind.CANCEL_REQUESTED, id_, digest, call.now + self.cancel_delay)]

    def draw_cancelled(self, state: State, call: Message, id_: int, order: Order) -> list[RawLog]:
        slot, digest = self._open(state, id_, order)
        if not slot.cancel_marked_at:
            raise reverted("NotMarked", id_)
        refundable_at = slot.cancel_marked_at + self.cancel_delay
        if call.now < refundable_at:
            raise reverted("CancelPending", id_, refundable_at)
        state.slots[id_] = replace(slot, digest=ZERO_HASH, state=OnChainState.CANCELLED)
        return [event(Kind.CANCELLED, id_, digest, order.price), *self._credit(state, slot.requester, order.price)]

    # -- parts ----------------------------------------------------------------------------------------------------

    def _existing(self, state: State, id_: int, order: Order) -> tuple[Slot, bytes]:
        slot = state.slots.get(id_)
        if slot is None:
            raise reverted("UnknownRequest", id_)
        return slot, _request_hash(self.chain_id, self.address, id_, slot.requester, order)

    def _open(self, state: State, id_: int, order: Order) -> tuple[Slot, bytes]:
        slot, digest = self._existing(state, id_, order)
        self._check_open(id_, slot, digest)
        return slot, digest

    def _check_open(self, id_: int, slot: Slot, digest: bytes) -> None:
        if slot.state is not OnChainState.REQUESTED:
            raise reverted("UnexpectedState", id_, slot.state)
        if slot.digest != digest:
            raise reverted("OrderMismatch", id_, slot.digest, digest)

    def _pay(
        self, state: State, requester: str, order: Order, ended: OnChainState, signers: int, relayer: str
    ) -> list[RawLog]:
        """The operators' shares stay owed: who they are is not modelled."""
        share = {OnChainState.FULFILLED: order.unit_price, OnChainState.FAILED: order.fail_price}.get(ended, 0)
        rest = order.price - share * signers
        logs: list[RawLog] = []
        if relayer != ZERO_ADDRESS:
            rest -= order.delivery_fee
            logs += self._credit(state, relayer, order.delivery_fee)
        return logs + self._credit(state, requester, rest)

    def _credit(self, state: State, account: str, amount: int) -> list[RawLog]:
        if not amount:
            return []
        state.credits[account.lower()] = state.credits.get(account.lower(), 0) + amount
        return [_credited(account, amount)]


_CALLS = {
    "requestJob": "request_job",
    "fulfil": "fulfil",
    "fulfilMany": "fulfil_many",
    "expire": "expire",
    "cancel": "cancel",
    "drawCancelled": "draw_cancelled",
}

_NOBODY = Slot(ZERO_HASH, ZERO_ADDRESS, 0, OnChainState.UNKNOWN)
_SEEN: dict[str, Callable[[Slot], tuple[Any, ...]]] = {
    "requestHash": lambda slot: (slot.digest if slot.state is OnChainState.REQUESTED else ZERO_HASH,),
    "resultOf": lambda slot: (slot.state, slot.digest if slot.state in SETTLED else ZERO_HASH),
    "requestOf": lambda slot: (slot.requester, slot.deadline, slot.state, slot.cancel_marked_at, False),
}
