"""ComputeBridge's logs as typed events, and what they say together about one request. Pure.

Bytes from the chain are hostile until they decode: whatever is wrong with a log is `UndecodableLog`, which the listener
counts and steps over. A request's hash is recomputed from the log's data; a log that names another one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bridge.chain.shapes import MAX_NUMBER, Log
from executor.errors import InvalidInput
from executor.protocol.abiwords import NotEncoded, Reader
from executor.protocol.keccak import keccak
from executor.protocol.wire import ORDER_TYPE, OUTCOME_TYPE, OnChainState, Order, Outcome, Request

_READ: dict[str, Callable[[Reader, int], Any]] = {
    "uint8": lambda fields, place: fields.uint(place, 8),
    "uint64": lambda fields, place: fields.uint(place, 64),
    "uint256": lambda fields, place: fields.uint(place, 256),
    "bytes32": Reader.word,
    "address": Reader.address,
    "bool": Reader.boolean,
    "bytes": Reader.blob,
    ORDER_TYPE: lambda fields, place: Order.read(fields.inner(place)),
    OUTCOME_TYPE: lambda fields, place: Outcome.read(fields.inner(place)),
}


class UndecodableLog(InvalidInput):
    """A log with one of our topics that is no event of ours."""


class Kind(StrEnum):
    """The events that the bridge follows."""

    REQUESTED = "JobRequested"
    SETTLED = "JobSettled"
    EXPIRED = "JobExpired"
    CANCEL_REQUESTED = "JobCancelRequested"
    CANCELLED = "JobCancelled"
    CALLBACK = "CallbackResult"


#: kind -> (types of the indexed fields, types of the data), in the order of the contract's declaration
FIELDS: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Kind.REQUESTED: (("uint256", "bytes32", "address"), ("uint64", ORDER_TYPE)),
    Kind.SETTLED: (("uint256", "bytes32", "uint8"), ("bytes32", "address", OUTCOME_TYPE)),
    Kind.EXPIRED: (("uint256", "bytes32"), ("uint256",)),
    Kind.CANCEL_REQUESTED: (("uint256", "bytes32"), ("uint64",)),
    Kind.CANCELLED: (("uint256", "bytes32"), ("uint256",)),
    Kind.CALLBACK: (("uint256", "address"), ("bool", "bytes")),
}
TOPICS: dict[bytes, Kind] = {
    keccak(f"{kind}({','.join((*indexed, *data))})".encode()): kind for kind, (indexed, data) in FIELDS.items()
}


@dataclass(frozen=True, kw_only=True)
class JobRequested:
    """A request was taken."""

    log: Log
    request_id: int
    request_hash: bytes
    request: Request


@dataclass(frozen=True, kw_only=True)
class JobSettled:
    """An outcome was accepted, whoever sent it; `relayer` earned the delivery fee."""

    log: Log
    request_id: int
    request_hash: bytes
    state: OnChainState
    relayer: str
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class JobExpired:
    """A request was refunded after its deadline."""

    log: Log
    request_id: int
    request_hash: bytes
    refund: int


@dataclass(frozen=True, kw_only=True)
class JobCancelRequested:
    """A requester marked a request; the refund can be drawn from `refundable_at` (seconds since 1970)."""

    log: Log
    request_id: int
    request_hash: bytes
    refundable_at: int


@dataclass(frozen=True, kw_only=True)
class JobCancelled:
    """A marked request was refunded."""

    log: Log
    request_id: int
    request_hash: bytes
    refund: int


@dataclass(frozen=True, kw_only=True)
class CallbackResult:
    """The dApp was called back. The log has no request hash: the id says which request of this chain it was."""

    log: Log
    request_id: int
    success: bool


Event = JobRequested | JobSettled | JobExpired | JobCancelRequested | JobCancelled | CallbackResult
Ending = JobSettled | JobExpired | JobCancelled

KIND_OF: dict[type[Event], Kind] = {
    JobRequested: Kind.REQUESTED,
    JobSettled: Kind.SETTLED,
    JobExpired: Kind.EXPIRED,
    JobCancelRequested: Kind.CANCEL_REQUESTED,
    JobCancelled: Kind.CANCELLED,
    CallbackResult: Kind.CALLBACK,
}


def decode_log(log: Log, chain_id: int) -> Event | None:
    """The event of a log of ComputeBridge; None for the events that the bridge does not follow.

    UndecodableLog for anything else: wrong number of topics, dirty padding, bytes that do not decode, values that
    contradict each other.
    """
    kind = TOPICS.get(log.topics[0]) if log.topics else None
    if kind is None:
        return None
    indexed, data = _values(log, kind)
    request_id = indexed[0]
    if not 1 <= request_id <= MAX_NUMBER:
        raise UndecodableLog(f"{kind}.id", "is not a request id")
    if kind is Kind.REQUESTED:
        return _requested(log, chain_id, indexed, data)
    if kind is Kind.SETTLED:
        return _settled(log, indexed, data)
    if kind is Kind.CALLBACK:
        return CallbackResult(log=log, request_id=request_id, success=data[0])
    request_hash = indexed[1]
    if kind is Kind.CANCEL_REQUESTED:
        return JobCancelRequested(log=log, request_id=request_id, request_hash=request_hash, refundable_at=data[0])
    ended = JobExpired if kind is Kind.EXPIRED else JobCancelled
    return ended(log=log, request_id=request_id, request_hash=request_hash, refund=data[0])


def _values(log: Log, kind: Kind) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    indexed, data = FIELDS[kind]
    if len(log.topics) != 1 + len(indexed):
        raise UndecodableLog(f"{kind}.topics", f"{len(log.topics)} topics, {1 + len(indexed)} expected")
    try:
        return _fields(indexed, b"".join(log.topics[1:])), _fields(data, log.data)
    except NotEncoded as exc:
        raise UndecodableLog(f"{kind}.data", "the bytes do not decode") from exc


def _fields(types: tuple[str, ...], data: bytes) -> tuple[Any, ...]:
    head = Reader(data, 0)
    return tuple(_READ[kind](head, place) for place, kind in enumerate(types))


def _requested(log: Log, chain_id: int, indexed: tuple[Any, ...], data: tuple[Any, ...]) -> JobRequested:
    request_id, request_hash, requester = indexed
    deadline, order = data
    if deadline > MAX_NUMBER:
        raise UndecodableLog("JobRequested.deadline", "is not a time")
    request = Request(
        chain_id=chain_id,
        contract=log.address,
        id=request_id,
        requester=requester,
        order=order,
        deadline=deadline,
    )
    if request.hash != request_hash:
        raise UndecodableLog("JobRequested.requestHash", "is not the hash of the order in the log")
    return JobRequested(log=log, request_id=request_id, request_hash=request.hash, request=request)


def _settled(log: Log, indexed: tuple[Any, ...], data: tuple[Any, ...]) -> JobSettled:
    request_id, request_hash, state = indexed
    outcome_hash, relayer, outcome = data
    if outcome.hash != outcome_hash:
        raise UndecodableLog("JobSettled.outcomeHash", "is not the hash of the outcome in the log")
    if not 1 <= outcome.status <= 4 or state != OnChainState.FULFILLED + outcome.status - 1:
        raise UndecodableLog("JobSettled.state", "does not follow from the outcome's status")
    return JobSettled(
        log=log,
        request_id=request_id,
        request_hash=request_hash,
        state=OnChainState(state),
        relayer=relayer,
        outcome=outcome,
    )


@dataclass(frozen=True)
class Facts:
    """What the canonical chain says about one request. All None: it is not on the chain."""

    requested: JobRequested | None = None
    ending: Ending | None = None
    cancel_marked: bool = False
    callback_ok: bool | None = None


def facts_of(events: Iterable[Event]) -> Facts:
    """The facts in the canonical events of one request, in any order."""
    facts = Facts()
    for event in sorted(events, key=lambda e: e.log.block_number):
        facts = _with(facts, event)
    return facts


def _with(facts: Facts, event: Event) -> Facts:
    requested, ending, marked, callback = facts.requested, facts.ending, facts.cancel_marked, facts.callback_ok
    match event:
        case JobRequested():
            requested = event
        case JobCancelRequested():
            marked = True
        case CallbackResult():
            callback = event.success
        case _:
            ending = event
    return Facts(requested, ending, marked, callback)
