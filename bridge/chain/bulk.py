"""Many logs at once: those of the usual form are read by place, with few objects; all others as `events` reads them.

Reading years of history is most of what a rebuilt bridge waits for. What the contract's compiler emits is the canonical
encoding (Solidity's ABI, "strict mode"), in which an order's own bytes stand in the log as they are hashed. Its fields
need no decoding, only a look that every word is in its range, every offset where it must be and all padding zero. A log
in which anything is otherwise goes to `decode_log`, which says what it is, or refuses it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from bridge.chain.events import (
    TOPICS,
    CallbackResult,
    Event,
    JobCancelRequested,
    JobRequested,
    JobSettled,
    Kind,
    UndecodableLog,
    decode_log,
)
from bridge.chain.shapes import MAX_NUMBER, Log
from executor.protocol.abiwords import checksummed
from executor.protocol.keccak import keccak
from executor.protocol.wire import OnChainState

WORD = 32
_WORDS = {kind: topic for topic, kind in TOPICS.items()}
_STRUCT = WORD.to_bytes(WORD, "big")  # abi.encode of one dynamic struct begins with its offset
_ZEROS = bytes(WORD)
_ONES = b"\xff" * WORD
_ORDER_AT = 2 * WORD  # in JobRequested's data, behind deadline and offset
_OUTCOME_AT = 3 * WORD  # in JobSettled's, behind outcomeHash, relayer and offset
_ORDER_BITS = (8, 8, 1, 256, 8, 8, 8, 32, 160, 64, 160, 256, 160, 128, 128, 128)  # 256: an offset, looked at by itself
_ORDER_HEAD = WORD * len(_ORDER_BITS)
_SPEC_OFFSET, _LABELS_OFFSET = 3 * WORD, 11 * WORD
_IS_CID_AT = _ORDER_AT + 3 * WORD - 1  # the byte that holds specIsCid
#: the bits of an order's head that are zero
_ORDER_ZEROS = int.from_bytes(b"".join(((1 << 256) - (1 << bits)).to_bytes(WORD, "big") for bits in _ORDER_BITS), "big")
_OUTCOME_HEAD = 5 * WORD


class Order(NamedTuple):
    """As much of a request as its row needs. requester: checksummed; spec: None where it is a CID."""

    requester: str
    deadline: int
    encoded: bytes
    spec: bytes | None


class Result(NamedTuple):
    """What ended a request. outcome: encoded; None for a refund."""

    state: OnChainState
    outcome: bytes | None


class Found(NamedTuple):
    """One event. request_hash: None for a callback, whose log has none. fact: what the event says beside its kind.

    rest: of a log in its usual form, what `log_of_request` or `log_of_result` need beside the other fields; None for a
    log in any other form.
    """

    log: Log
    kind: Kind
    request_id: int
    request_hash: bytes | None
    fact: Order | Result | bool | None
    rest: bytes | None = None


@dataclass(frozen=True)
class Harvest:
    """The events of many logs, in the logs' order, and the logs that were refused, each with the reason."""

    events: list[Found]
    refused: list[tuple[Log, UndecodableLog]]


def harvest(logs: Iterable[Log], chain_id: int) -> Harvest:
    """Read logs of one contract; those that the bridge does not follow are left out."""
    events: list[Found] = []
    refused: list[tuple[Log, UndecodableLog]] = []
    for log in logs:
        kind = TOPICS.get(log.topics[0]) if log.topics else None
        if kind is None:
            continue
        found = None
        if len(log.topics) == 4 and kind is Kind.REQUESTED:
            found = _usual_request(log, chain_id)
        elif len(log.topics) == 4 and kind is Kind.SETTLED:
            found = _usual_result(log)
        if found is not None:
            events.append(found)
            continue
        try:
            event = decode_log(log, chain_id)
        except UndecodableLog as exc:
            refused.append((log, exc))
        else:
            events += [] if event is None else [found_of(event, kind)]
    return Harvest(events, refused)


def found_of(event: Event, kind: Kind) -> Found:
    """A decoded event in the form of this module."""
    fact: Order | Result | bool | None = None
    match event:
        case JobRequested():
            order = event.request.order
            spec = None if order.spec_is_cid else order.spec
            fact = Order(event.request.requester, event.request.deadline, order.encode(), spec)
        case JobSettled():
            fact = Result(event.state, event.outcome.encode())
        case CallbackResult():
            return Found(event.log, kind, event.request_id, None, event.success)
        case JobCancelRequested():
            fact = None
        case _:
            fact = Result(OnChainState.EXPIRED if kind is Kind.EXPIRED else OnChainState.CANCELLED, None)
    return Found(event.log, kind, event.request_id, event.request_hash, fact)


def log_of_request(request_id: int, request_hash: bytes, order: Order) -> tuple[tuple[bytes, ...], bytes]:
    """Topics and data of a JobRequested log in its usual form; `order.spec` does not matter."""
    requester = _ZEROS[:12] + bytes.fromhex(order.requester[2:])
    topics = _WORDS[Kind.REQUESTED], request_id.to_bytes(WORD, "big"), request_hash, requester
    return topics, order.deadline.to_bytes(WORD, "big") + _ORDER_AT.to_bytes(WORD, "big") + order.encoded[WORD:]


def log_of_result(request_id: int, request_hash: bytes, result: Result, rest: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """Topics and data of a JobSettled log in its usual form. rest: as in `Found`."""
    encoded = result.outcome or b""
    topics = _WORDS[Kind.SETTLED], request_id.to_bytes(WORD, "big"), request_hash, result.state.to_bytes(WORD, "big")
    return topics, keccak(encoded) + _ZEROS[:12] + rest + _OUTCOME_AT.to_bytes(WORD, "big") + encoded[WORD:]


def _usual_request(log: Log, chain_id: int) -> Found | None:
    """A JobRequested log in its canonical form whose request hash is right; None for any other."""
    data = log.data
    _, id_word, request_hash, requester = log.topics
    request_id, deadline = int.from_bytes(id_word, "big"), int.from_bytes(data[:WORD], "big")
    if not 1 <= request_id <= MAX_NUMBER or deadline > MAX_NUMBER or requester[:12] != _ZEROS[:12]:
        return None
    spec = _spec(data) if int.from_bytes(data[WORD:_ORDER_AT], "big") == _ORDER_AT else None
    if spec is None:
        return None
    encoded = _STRUCT + data[_ORDER_AT:]
    contract = bytes.fromhex(log.address[2:])
    order_hash = keccak(encoded)
    request = b"".join((chain_id.to_bytes(WORD, "big"), _ZEROS[:12], contract, id_word, requester, order_hash))
    if keccak(request) != request_hash:
        return None
    kept = None if data[_IS_CID_AT] else spec
    fact = Order(checksummed(requester[12:]), deadline, encoded, kept)
    return Found(log, Kind.REQUESTED, request_id, request_hash, fact, b"")


def _spec(data: bytes) -> bytes | None:
    """The spec's bytes in the order that ends `data`; None when that is not in its canonical form."""
    head = data[_ORDER_AT : _ORDER_AT + _ORDER_HEAD]
    if len(head) != _ORDER_HEAD or int.from_bytes(head, "big") & _ORDER_ZEROS:
        return None
    spec = _tail(data, _ORDER_AT, _SPEC_OFFSET, _ORDER_HEAD)
    if spec is None:
        return None
    labels_at = _ORDER_HEAD + _size_of_blob(spec)
    count_at = _ORDER_AT + labels_at
    count = data[count_at : count_at + WORD]
    at_place = int.from_bytes(head[_LABELS_OFFSET : _LABELS_OFFSET + WORD], "big") == labels_at
    to_end = len(count) == WORD and count_at + WORD + WORD * int.from_bytes(count, "big") == len(data)
    return spec if at_place and to_end else None


def _usual_result(log: Log) -> Found | None:
    """A JobSettled log in its canonical form whose outcome hash is right; None for any other."""
    data = log.data
    _, id_word, request_hash, state_word = log.topics
    request_id, state = int.from_bytes(id_word, "big"), int.from_bytes(state_word, "big")
    if not 1 <= request_id <= MAX_NUMBER or data[WORD : WORD + 12] != _ZEROS[:12]:
        return None
    if int.from_bytes(data[2 * WORD : _OUTCOME_AT], "big") != _OUTCOME_AT or not _is_outcome(data):
        return None
    status = int.from_bytes(data[_OUTCOME_AT : _OUTCOME_AT + WORD], "big")
    encoded = _STRUCT + data[_OUTCOME_AT:]
    if not 1 <= status <= 4 or state != OnChainState.FULFILLED + status - 1 or keccak(encoded) != data[:WORD]:
        return None
    result = Result(OnChainState(state), encoded)
    return Found(log, Kind.SETTLED, request_id, request_hash, result, data[WORD + 12 : 2 * WORD])


def _is_outcome(data: bytes) -> bool:
    """Whether the outcome that ends `data` is in its canonical form, whatever its status."""
    reason = int.from_bytes(data[_OUTCOME_AT + WORD : _OUTCOME_AT + 2 * WORD], "big")
    output = _tail(data, _OUTCOME_AT, 3 * WORD, _OUTCOME_HEAD)
    if reason >> 16 or output is None or not _is_int32(data[_OUTCOME_AT + 2 * WORD : _OUTCOME_AT + 3 * WORD]):
        return False
    payload_at = _OUTCOME_HEAD + _size_of_blob(output)
    payload = _tail(data, _OUTCOME_AT, 4 * WORD, payload_at)
    return payload is not None and _OUTCOME_AT + payload_at + _size_of_blob(payload) == len(data)


def _tail(data: bytes, start: int, place: int, offset: int) -> bytes | None:
    """The `bytes` whose offset stands at `place` of the struct at `start`, if that is `offset` and its padding zero."""
    at = start + offset
    if int.from_bytes(data[start + place : start + place + WORD], "big") != offset or at + WORD > len(data):
        return None
    size = int.from_bytes(data[at : at + WORD], "big")
    end = at + WORD + size
    padding = -size % WORD
    if end + padding > len(data) or data[end : end + padding] != _ZEROS[:padding]:
        return None
    return data[at + WORD : end]


def _size_of_blob(blob: bytes) -> int:
    """How many bytes a `bytes` takes in a tail: its length, itself, its padding."""
    return WORD + len(blob) + -len(blob) % WORD


def _is_int32(word: bytes) -> bool:
    """Whether a word is the encoding of an int32: all above its 32 bits is a copy of the sign."""
    negative = word[28:29] >= b"\x80"
    return word[:28] == (_ONES if negative else _ZEROS)[:28]
