"""Our contracts' calls, return values and errors, encoded and decoded by their exported ABIs. No network.

`bridge/chain/abi/*.json` is written by `npm run export-abi`; orders and outcomes are those of `executor.protocol.wire`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib import resources
from typing import Any

from eth_abi import abi
from eth_abi.exceptions import DecodingError, EncodingError
from eth_utils.abi import collapse_if_tuple
from eth_utils.crypto import keccak

from executor.errors import InvalidInput
from executor.protocol.abiwords import NotEncoded, Reader
from executor.protocol.evidence import Evidence
from executor.protocol.wire import Attestation, Order, Outcome

CALLBACK_RESERVE = 50_000  # gas: ComputeBridge.CALLBACK_RESERVE
_PANICS = {0x01: "assertion failed", 0x11: "arithmetic overflow", 0x12: "division by zero", 0x32: "index out of range"}


@dataclass(frozen=True)
class Entry:
    """A function, an error or an event of an ABI: `inputs` and `outputs` are ABI type strings."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_names: tuple[str, ...]

    @property
    def signature(self) -> str:
        """`name(type,type,...)`."""
        return f"{self.name}({','.join(self.inputs)})"

    @cached_property
    def selector(self) -> bytes:
        """keccak256(signature)[:4]."""
        return keccak(text=self.signature)[:4]


class ContractAbi:
    """One exported contract: encode calls, decode what they return. Use `contract_abi(name)`."""

    def __init__(self, name: str, exported: dict[str, Any]) -> None:
        self.name = name
        self.bytecode = bytes.fromhex(exported["bytecode"].removeprefix("0x"))
        entries: list[dict[str, Any]] = exported["abi"]
        self._functions = {e["name"]: _entry(e) for e in entries if e["type"] == "function"}
        self.errors = {entry.selector: entry for e in entries if e["type"] == "error" for entry in (_entry(e),)}
        self._events = {e["name"]: _entry(e) for e in entries if e["type"] == "event"}
        constructors = [e for e in entries if e["type"] == "constructor"]
        self._constructor = _types(constructors[0]["inputs"]) if constructors else ()

    def encode(self, function: str, *arguments: Any) -> bytes:
        """Calldata. InvalidInput(function) for values that do not fit."""
        entry = self._functions[function]
        return entry.selector + _encode(entry.inputs, arguments, function)

    def selector(self, function: str) -> bytes:
        """The first four bytes of a function's calldata."""
        return self._functions[function].selector

    def decode(self, function: str, data: bytes) -> tuple[Any, ...]:
        """The return values of a call. InvalidInput(function) for bytes that are none: the contract is another one."""
        return _decode(self._functions[function].outputs, data, function)

    def decode_input(self, function: str, calldata: bytes) -> tuple[Any, ...]:
        """The arguments in calldata. InvalidInput(function) when it is no call of that function."""
        entry = self._functions[function]
        if calldata[:4] != entry.selector:
            raise InvalidInput(function, "the calldata is of another function")
        return _decode(entry.inputs, calldata[4:], function)

    def event_topic(self, event: str) -> bytes:
        """The first topic of an event's logs: keccak256(signature)."""
        return keccak(text=self._events[event].signature)

    def creation(self, *arguments: Any) -> bytes:
        """The data of the transaction that creates this contract."""
        return self.bytecode + _encode(self._constructor, arguments, f"{self.name}.constructor")


@cache
def contract_abi(name: str) -> ContractAbi:
    """The exported contract: ComputeBridge, NodeRegistry, ComputeLens or ResultBook."""
    text = resources.files("bridge.chain").joinpath("abi", f"{name}.json").read_text(encoding="utf-8")
    return ContractAbi(name, json.loads(text))


def compute_bridge() -> ContractAbi:
    """ComputeBridge's ABI."""
    return contract_abi("ComputeBridge")


def node_registry() -> ContractAbi:
    """NodeRegistry's ABI."""
    return contract_abi("NodeRegistry")


def compute_lens() -> ContractAbi:
    """ComputeLens's ABI."""
    return contract_abi("ComputeLens")


def result_book() -> ContractAbi:
    """ResultBook's ABI, the example dApp."""
    return contract_abi("ResultBook")


# -- ComputeBridge ------------------------------------------------------------------------------------------------


def request_job_calldata(order: Order) -> bytes:
    """`requestJob(order)`; send `order.price` with it."""
    return compute_bridge().encode("requestJob", order.as_tuple())


def fulfil_calldata(request_id: int, order: Order, outcome: Outcome, attestations: Sequence[Attestation]) -> bytes:
    """`fulfil(id, order, outcome, attestations)`; the first attestation names who earns the delivery fee."""
    given = [attestation.as_tuple() for attestation in attestations]
    return compute_bridge().encode("fulfil", request_id, order.as_tuple(), outcome.as_tuple(), given)


def fulfil_many_calldata(deliveries: Sequence[bytes]) -> bytes:
    """`fulfilMany(deliveries)` made of the calldata of as many `fulfil`: an entry is its arguments, byte for byte."""
    bridge = compute_bridge()
    single = bridge.selector("fulfil")
    if any(calldata[:4] != single for calldata in deliveries):
        raise InvalidInput("deliveries", "an entry is no call of fulfil")
    entries = [calldata[4:] for calldata in deliveries]
    at = 32 * len(entries)
    offsets = []
    for entry in entries:
        offsets.append(at)
        at += len(entry)
    head = [32, len(entries), *offsets]
    return bridge.selector("fulfilMany") + b"".join(word.to_bytes(32, "big") for word in head) + b"".join(entries)


def delivered_flags(returned: bytes) -> tuple[bool, ...]:
    """What `fulfilMany` returns: for each entry whether its request holds its outcome."""
    return tuple(compute_bridge().decode("fulfilMany", returned)[0])


@lru_cache(maxsize=256)  # a delivery that waits is looked at in each step
def fulfilled_outcome(calldata: bytes) -> Outcome:
    """The outcome in the calldata of `fulfil`. InvalidInput("fulfil") when it is no call of that function."""
    if calldata[:4] != compute_bridge().selector("fulfil"):
        raise InvalidInput("fulfil", "the calldata is of another function")
    try:
        return Outcome.read(Reader(calldata, 4).inner(2))
    except NotEncoded as exc:
        raise InvalidInput("fulfil", "the calldata holds no outcome") from exc


def expire_calldata(request_id: int, order: Order) -> bytes:
    """`expire(id, order)`."""
    return compute_bridge().encode("expire", request_id, order.as_tuple())


def cancel_calldata(request_id: int, order: Order) -> bytes:
    """`cancel(id, order)`; only the requester's transaction counts."""
    return compute_bridge().encode("cancel", request_id, order.as_tuple())


def draw_cancelled_calldata(request_id: int, order: Order) -> bytes:
    """`drawCancelled(id, order)`."""
    return compute_bridge().encode("drawCancelled", request_id, order.as_tuple())


def retry_callback_calldata(request_id: int, order: Order, outcome: Outcome) -> bytes:
    """`retryCallback(id, order, outcome)`."""
    return compute_bridge().encode("retryCallback", request_id, order.as_tuple(), outcome.as_tuple())


def withdraw_calldata(token: str, to: str) -> bytes:
    """`withdraw(token, to)`: the caller's whole credit."""
    return compute_bridge().encode("withdraw", token, to)


# -- NodeRegistry -------------------------------------------------------------------------------------------------


def register_calldata(labels: Iterable[str], metadata: str = "") -> bytes:
    """`register(labels, metadata)`; labels as words "key=value"."""
    return node_registry().encode("register", [_label_pair(word) for word in labels], metadata)


def declare_labels_calldata(node_id: int, labels: Iterable[str]) -> bytes:
    """`declareLabels(nodeId, labels)`; labels as words "key=value"."""
    return node_registry().encode("declareLabels", node_id, [_label_pair(word) for word in labels])


def remove_labels_calldata(node_id: int, label_hashes: Sequence[bytes]) -> bytes:
    """`removeLabels(nodeId, labelHashes)`."""
    return node_registry().encode("removeLabels", node_id, list(label_hashes))


def set_metadata_calldata(node_id: int, metadata: str) -> bytes:
    """`setMetadata(nodeId, metadata)`."""
    return node_registry().encode("setMetadata", node_id, metadata)


def deactivate_calldata(node_id: int) -> bytes:
    """`deactivate(nodeId)`."""
    return node_registry().encode("deactivate", node_id)


def reactivate_calldata(node_id: int) -> bytes:
    """`reactivate(nodeId)`."""
    return node_registry().encode("reactivate", node_id)


def join_key_calldata(node_id: int, key: str, signature: bytes) -> bytes:
    """`joinKey(nodeId, key, signature)`; the signature over `signing.node_key_message` is the key's own."""
    return node_registry().encode("joinKey", node_id, key, signature)


def vouch_calldata(node_id: int, label_hashes: Sequence[bytes]) -> bytes:
    """`vouch(nodeId, labelHashes)`, sent by a curator."""
    return node_registry().encode("vouch", node_id, list(label_hashes))


def withdraw_vouch_calldata(node_id: int, label_hashes: Sequence[bytes]) -> bytes:
    """`withdrawVouch(nodeId, labelHashes)`, sent by a curator."""
    return node_registry().encode("withdrawVouch", node_id, list(label_hashes))


def stake_calldata(node_id: int) -> bytes:
    """`stake(nodeId)`; send the amount with it."""
    return node_registry().encode("stake", node_id)


def unstake_calldata(node_id: int, amount: int) -> bytes:
    """`unstake(nodeId, amount)`."""
    return node_registry().encode("unstake", node_id, amount)


def withdraw_stake_calldata(node_id: int, to: str) -> bytes:
    """`withdrawStake(nodeId, to)`: all that has unbonded."""
    return node_registry().encode("withdrawStake", node_id, to)


def slash_calldata(evidence: Evidence) -> bytes:
    """`slash(bridge, requestHash, first, second)`."""
    said = [
        (one.outcome_hash, one.receipt_hash, one.log_root, one.log_size, one.relayer, one.signature)
        for one in (evidence.first, evidence.second)
    ]
    return node_registry().encode("slash", evidence.contract, evidence.request_hash, *said)


def withdraw_reward_calldata(to: str) -> bytes:
    """`withdrawReward(to)`: all that the caller earned by proofs."""
    return node_registry().encode("withdrawReward", to)


# -- ResultBook ---------------------------------------------------------------------------------------------------


def book_order_calldata(order: Order) -> bytes:
    """`ResultBook.order(...)` with the fields of `order` that it takes; its callback and its gas are its own."""
    return result_book().encode(
        "order",
        order.spec,
        order.result_kind,
        order.nodes,
        order.quorum,
        order.ttl,
        order.curator,
        list(order.labels),
        order.unit_price,
        order.fail_price,
        order.delivery_fee,
    )


# -- reverts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Revert:
    """Why an execution reverted: the error's name and arguments; "" for none at all."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        if not self.name:
            return "reverted without a reason"
        return f"{self.name}({', '.join(f'{name}={_shown(value)}' for name, value in self.arguments)})"


def decode_revert(data: bytes) -> Revert:
    """The error in revert data: one of our contracts', Error(string), Panic(uint256), or its bytes as they are."""
    if not data:
        return Revert("")
    for entry in _known_errors(data[:4]):
        try:
            values = _decode(entry.inputs, data[4:], entry.name)
        except InvalidInput:
            continue
        return Revert(entry.name, tuple(zip(entry.input_names, values, strict=True)))
    return Revert("unknown error", (("data", data[:68]),))


def describe_revert(data: bytes) -> str:
    """Revert data for a human: `ComputeBridgeDeadlinePassed(id=7, deadline=1700000000)`."""
    revert = decode_revert(data)
    if revert.name == "Error":
        return f"reverted: {_shown(revert.arguments[0][1])}"
    if revert.name == "Panic":
        code = revert.arguments[0][1]
        return f"panicked: {_PANICS.get(code, 'code ' + hex(code))}"
    return str(revert)


_STANDARD = (
    Entry("Error", ("string",), (), ("reason",)),
    Entry("Panic", ("uint256",), (), ("code",)),
)


def _known_errors(selector: bytes) -> Iterable[Entry]:
    for entry in _STANDARD:
        if entry.selector == selector:
            yield entry
    for contract in (compute_bridge(), node_registry(), result_book()):
        if selector in contract.errors:
            yield contract.errors[selector]


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    text = str(value)[:200]
    return "".join(char if char.isprintable() else " " for char in text)


def _label_pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise InvalidInput("label", f"{word!r:.80} is not key=value")
    return key, value


def _entry(item: dict[str, Any]) -> Entry:
    return Entry(
        name=item["name"],
        inputs=_types(item["inputs"]),
        outputs=_types(item.get("outputs", [])),
        input_names=tuple(parameter["name"] for parameter in item["inputs"]),
    )


def _types(parameters: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(collapse_if_tuple(parameter) for parameter in parameters)


def _encode(types: tuple[str, ...], values: tuple[Any, ...], field: str) -> bytes:
    try:
        return abi.encode(types, values)
    except (EncodingError, ValueError, TypeError, OverflowError) as exc:
        raise InvalidInput(field, f"an argument does not fit its ABI type: {exc}") from exc


def _decode(types: tuple[str, ...], data: bytes, field: str) -> tuple[Any, ...]:
    try:
        return tuple(abi.decode(types, data))
    except (DecodingError, ValueError, TypeError, OverflowError) as exc:
        raise InvalidInput(field, "the bytes do not decode; is this another contract?") from exc
