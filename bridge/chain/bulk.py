"""Many logs at once: those of the usual form are read by place, with few objects; all others as `events` reads them.

Reading years of history is most of what a rebuilt bridge waits for. What the contract's compiler emits is the canonical
encoding (Solidity's ABI, "strict mode"), in which an order's own bytes stand in the log as they are hashed. Its fields
need no decoding, only a look that every word is in its range, every offset where it must be and all padding zero. A log
in which anything is otherwise goes to `decode_log`, which says what it is, or refuses it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
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
_NO_ACCOUNT = bytes(12)  # what an address begins with in its word
_DEADLINE = MAX_NUMBER.bit_length()
_SIZE_BITS = 32  # of the length of anything in a log, and of where it stands
_REQUESTED, _SETTLED = _WORDS[Kind.REQUESTED], _WORDS[Kind.SETTLED]
#: the state that follows from an outcome's status, and its word
_STATES = {
    status: (OnChainState(state), state.to_bytes(WORD, "big"))
    for status, state in enumerate(range(OnChainState.FULFILLED, OnChainState.FULFILLED + 4), start=1)
}


def _form(*words: tuple[int, int]) -> Callable[[bytes], bool]:
    """Whether bytes begin with these words: for each how many of its low bits are free, and its value but for these.

    One comparison for all words.
    """
    fixed, value, size = 0, 0, WORD * len(words)
    for free, rest in words:
        fixed, value = fixed << 256 | (1 << 256) - (1 << free), value << 256 | rest

    def fits(data: bytes) -> bool:
        return len(data) >= size and int.from_bytes(data[:size], "big") & fixed == value

    return fits


# JobRequested: deadline, where the order stands; the order's fields, with the places of spec and labels; the spec's
# size.
_ORDER_AT, _SPEC_AT = 2 * WORD, 19 * WORD
_IS_CID_AT = _ORDER_AT + 3 * WORD - 1  # last byte of its word
_LABELS = slice(_ORDER_AT + 12 * WORD - 4, _ORDER_AT + 12 * WORD)  # last bytes of the word that tells their place
_ORDER_FIELDS = (8, 8, 1), (8, 8, 8, 32, 160, 64, 160), (160, 128, 128, 128)  # their bits; the others are these places
_is_request = _form(
    (_DEADLINE, 0),
    (0, _ORDER_AT),
    *[(bits, 0) for bits in _ORDER_FIELDS[0]],
    (0, 16 * WORD),
    *[(bits, 0) for bits in _ORDER_FIELDS[1]],
    (_SIZE_BITS, 0),
    *[(bits, 0) for bits in _ORDER_FIELDS[2]],
    (_SIZE_BITS, 0),
)
# JobSettled: outcome hash, relayer, where the outcome stands; status, reason, exit code (none below zero), the places
# of output and payload; the output's size.
_OUTCOME_AT, _OUTPUT_AT = 3 * WORD, 9 * WORD
_STATUS_AT, _PAYLOAD = _OUTCOME_AT + WORD - 1, slice(_OUTCOME_AT + 5 * WORD - 4, _OUTCOME_AT + 5 * WORD)
_RELAYER = slice(WORD + 12, 2 * WORD)
_is_result = _form(
    (256, 0), (160, 0), (0, _OUTCOME_AT), (8, 0), (16, 0), (31, 0), (0, 5 * WORD), (_SIZE_BITS, 0), (_SIZE_BITS, 0)
)


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


# Without what a named tuple's own constructor does, half of the time; and found faster than in their classes.
_found, _order, _result = partial(tuple.__new__, Found), partial(tuple.__new__, Order), partial(tuple.__new__, Result)
_REQUEST, _RESULT, _number = Kind.REQUESTED, Kind.SETTLED, int.from_bytes


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
        topics = log.topics
        found = None
        if len(topics) == 4:
            if topics[0] == _REQUESTED:
                found = _usual_request(log, chain_id)
            elif topics[0] == _SETTLED:
                found = _usual_result(log)
        if found is not None:
            events.append(found)
            continue
        kind = TOPICS.get(topics[0]) if topics else None
        if kind is None:
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
    request_id = _number(id_word, "big")
    if not _is_request(data) or not 1 <= request_id <= MAX_NUMBER or requester[:12] != _NO_ACCOUNT:
        return None
    end = _SPEC_AT + _number(data[_SPEC_AT - WORD : _SPEC_AT], "big")
    labels_at = end + -end % WORD
    if data[end:labels_at] != _ZEROS[: labels_at - end] or _ORDER_AT + _number(data[_LABELS], "big") != labels_at:
        return None
    if labels_at + WORD + WORD * _number(data[labels_at : labels_at + WORD], "big") != len(data):
        return None
    encoded = _STRUCT + data[_ORDER_AT:]
    if keccak(_domain(chain_id, log.address) + id_word + requester + keccak(encoded)) != request_hash:
        return None
    spec = None if data[_IS_CID_AT] else data[_SPEC_AT:end]
    fact = _order((checksummed(requester[12:]), _number(data[:WORD], "big"), encoded, spec))
    return _found((log, _REQUEST, request_id, request_hash, fact, b""))


def _usual_result(log: Log) -> Found | None:
    """A JobSettled log in its canonical form whose outcome hash is right; None for any other."""
    data = log.data
    _, id_word, request_hash, state_word = log.topics
    request_id = _number(id_word, "big")
    if not _is_result(data) or not 1 <= request_id <= MAX_NUMBER:
        return None
    end = _OUTPUT_AT + _number(data[_OUTPUT_AT - WORD : _OUTPUT_AT], "big")
    payload_at = end + -end % WORD
    if data[end:payload_at] != _ZEROS[: payload_at - end] or _OUTCOME_AT + _number(data[_PAYLOAD], "big") != payload_at:
        return None
    end = payload_at + WORD + _number(data[payload_at : payload_at + WORD], "big")
    padding = -end % WORD
    state = _STATES.get(data[_STATUS_AT])
    if data[end:] != _ZEROS[:padding] or end + padding != len(data) or state is None or state[1] != state_word:
        return None
    encoded = _STRUCT + data[_OUTCOME_AT:]
    if keccak(encoded) != data[:WORD]:
        return None
    return _found((log, _RESULT, request_id, request_hash, _result((state[0], encoded)), data[_RELAYER]))


@lru_cache(maxsize=16)
def _domain(chain_id: int, contract: str) -> bytes:
    """What a request's hash begins with."""
    return chain_id.to_bytes(WORD, "big") + _ZEROS[:12] + bytes.fromhex(contract[2:])
