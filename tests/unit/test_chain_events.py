"""ComputeBridge's logs: what they decode to, and which bytes are refused."""

import contextlib
import json
from pathlib import Path

import pytest
from eth_abi import abi
from hypothesis import given
from hypothesis import strategies as st

from bridge.chain.contracts import compute_bridge
from bridge.chain.events import (
    FIELDS,
    TOPICS,
    CallbackResult,
    Facts,
    JobCancelled,
    JobCancelRequested,
    JobExpired,
    JobRequested,
    JobSettled,
    Kind,
    UndecodableLog,
    decode_log,
    facts_of,
)
from bridge.chain.shapes import Log
from executor.protocol.wire import OnChainState, Order, Outcome, Request

CHAIN = 314
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
ACCOUNT = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
ORDER = Order(spec=b"\xff not json", ttl=60, labels=(b"\x01" * 32,), unit_price=5)
REQUEST = Request(chain_id=CHAIN, contract=CONTRACT, id=7, requester=ACCOUNT, order=ORDER, deadline=1234)
OUTCOME = Outcome(status=2, reason=200, exit_code=-1, payload=b"x")


def log_for(kind, indexed, data, number=10):
    topic = next(topic for topic, known in TOPICS.items() if known is kind)
    types, data_types = FIELDS[kind]
    topics = (topic, *(abi.encode((t,), (v,)) for t, v in zip(types, indexed, strict=True)))
    return Log(CONTRACT, topics, abi.encode(data_types, data), number, b"\x0b" * 32, b"\x0c" * 32)


def requested(number=10, request_hash=REQUEST.hash, deadline=1234, request_id=7):
    return log_for(Kind.REQUESTED, (request_id, request_hash, ACCOUNT), (deadline, ORDER.as_tuple()), number)


def settled(number=11, outcome=OUTCOME, state=3, outcome_hash=None):
    data = (outcome_hash or outcome.hash, ACCOUNT, outcome.as_tuple())
    return log_for(Kind.SETTLED, (7, REQUEST.hash, state), data, number)


def closed(kind, number=12):
    return log_for(kind, (7, REQUEST.hash), (99,), number)


def callback(success, number=13):
    return log_for(Kind.CALLBACK, (7, ACCOUNT), (success, b"why"), number)


def test_the_topics_are_those_of_the_exported_abi():
    assert {kind: topic for topic, kind in TOPICS.items()} == {
        kind: compute_bridge().event_topic(kind) for kind in Kind
    }


def test_which_fields_are_indexed_is_what_the_exported_abi_says():
    text = (Path(__file__).parents[2] / "bridge/chain/abi/ComputeBridge.json").read_text()
    events = {entry["name"]: entry["inputs"] for entry in json.loads(text)["abi"] if entry["type"] == "event"}
    for kind, (indexed, data) in FIELDS.items():
        assert len(indexed) == sum(field["indexed"] for field in events[kind])
        assert len(data) == sum(not field["indexed"] for field in events[kind])


def test_a_request_decodes_with_its_hash_recomputed():
    event = decode_log(requested(), CHAIN)
    assert isinstance(event, JobRequested)
    assert (event.request, event.request_hash, event.request_id) == (REQUEST, REQUEST.hash, 7)


def test_a_result_decodes():
    event = decode_log(settled(), CHAIN)
    assert isinstance(event, JobSettled)
    assert (event.outcome, event.state, event.relayer) == (OUTCOME, OnChainState.FAILED, ACCOUNT)


def test_the_other_events_decode():
    assert isinstance(decode_log(closed(Kind.EXPIRED), CHAIN), JobExpired)
    assert isinstance(decode_log(closed(Kind.CANCELLED), CHAIN), JobCancelled)
    marked = decode_log(closed(Kind.CANCEL_REQUESTED), CHAIN)
    assert isinstance(marked, JobCancelRequested)
    assert marked.refundable_at == 99
    called = decode_log(callback(False), CHAIN)
    assert isinstance(called, CallbackResult)
    assert called.success is False


@pytest.mark.parametrize("topics", [(), (b"\x01" * 32,), (b"\x01" * 32, b"\x02" * 32)])
def test_events_that_the_bridge_does_not_follow_are_passed_over(topics):
    assert decode_log(Log(CONTRACT, topics, b"", 1, b"", b""), CHAIN) is None


HOSTILE = {
    "a hash that is not the order's": requested(request_hash=b"\x09" * 32),
    "another id than was hashed": requested(request_id=8),
    "id zero": requested(request_id=0),
    "an id beyond what is stored": requested(request_id=2**63),
    "a deadline beyond what is stored": requested(deadline=2**63),
    "a topic too few": requested()._replace(topics=requested().topics[:3]),
    "a topic too many": closed(Kind.EXPIRED)._replace(topics=(*closed(Kind.EXPIRED).topics, b"\x00" * 32)),
    "no data": requested()._replace(data=b""),
    "cut data": requested()._replace(data=requested().data[:-33]),
    "offsets that point out": requested()._replace(data=b"\xff" * 640),
    "dirty bytes in an address": requested()._replace(topics=(*requested().topics[:3], b"\xff" * 32)),
    "a state beyond uint8": settled()._replace(topics=(*settled().topics[:3], b"\x01" * 32)),
    "an outcome hash that is another's": settled(outcome_hash=b"\x08" * 32),
    "a state that does not follow": settled(state=2),
    "a status that does not exist": settled(outcome=Outcome(status=9), state=10),
    "a bool that is neither": callback(True)._replace(data=b"\x02" * 32 + callback(True).data[32:]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_logs_are_undecodable(name):
    with pytest.raises(UndecodableLog):
        decode_log(HOSTILE[name], CHAIN)


def test_a_log_for_another_chain_is_undecodable():
    with pytest.raises(UndecodableLog, match="requestHash"):
        decode_log(requested(), CHAIN + 1)


@given(
    st.sampled_from(list(TOPICS)),
    st.lists(st.binary(min_size=32, max_size=32), max_size=3),
    st.binary(max_size=400)
    | st.lists(st.integers(0, 700), max_size=30).map(lambda w: b"".join(n.to_bytes(32, "big") for n in w)),
)
def test_no_bytes_raise_anything_else(topic, topics, data):
    log = Log(CONTRACT, (topic, *topics), data, 1, b"\x01" * 32, b"\x02" * 32)
    with contextlib.suppress(UndecodableLog):
        decode_log(log, CHAIN)


def events(*logs):
    return [decode_log(log, CHAIN) for log in logs]


def test_no_events_are_no_facts():
    assert facts_of([]) == Facts()


def test_facts_do_not_depend_on_the_order_of_the_events():
    logs = (requested(10), closed(Kind.CANCEL_REQUESTED, 11), settled(12), callback(False, 12), callback(True, 14))
    facts = facts_of(events(*logs))

    assert facts == facts_of(events(*reversed(logs)))
    assert facts.requested.request == REQUEST
    assert facts.ending.outcome == OUTCOME
    assert facts.cancel_marked
    assert facts.callback_ok is True


@pytest.mark.parametrize("kind", [Kind.EXPIRED, Kind.CANCELLED])
def test_a_refund_is_an_ending(kind):
    assert facts_of(events(requested(), closed(kind))).ending.refund == 99
