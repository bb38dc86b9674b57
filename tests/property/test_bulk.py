"""Logs read by place against logs decoded one by one: the same events from any bytes, the same ones refused."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.chain.bulk import Order as BulkOrder
from bridge.chain.bulk import found_of, harvest
from bridge.chain.events import TOPICS, Kind, UndecodableLog, decode_log
from bridge.chain.shapes import Log
from executor.protocol.wire import OnChainState, Order, Outcome, request_hash
from tests.property.test_abiwords import ADDRESSES, ORDERS, OUTCOMES

CHAIN = 314
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
TOPIC = {kind: topic for topic, kind in TOPICS.items()}
STATUS = st.integers(0, 6)
#: (topic or None for the data, word, byte, value): what is put where
CHANGES = st.lists(
    st.tuples(
        st.sampled_from([None, None, None, 0, 1, 2, 3]), st.integers(0, 30), st.integers(0, 31), st.integers(0, 255)
    ),
    max_size=3,
)
CUTS = st.one_of(st.just(0), st.integers(-70, 70))


WHERE = (5, b"\x0b" * 32, b"\x0c" * 32)


def word(number):
    return number.to_bytes(32, "big")


def requested(order, requester, request_id, deadline):
    body = order.encode()
    account = bytes(12) + bytes.fromhex(requester[2:])
    topics = (
        TOPIC[Kind.REQUESTED],
        word(request_id),
        request_hash(CHAIN, CONTRACT, request_id, requester, order),
        account,
    )
    return Log(CONTRACT, topics, word(deadline) + word(64) + body[32:], *WHERE)


def settled(outcome, request_id, state, relayer):
    account = bytes(12) + bytes.fromhex(relayer[2:])
    topics = (TOPIC[Kind.SETTLED], word(request_id), hashlib.sha256(word(request_id)).digest(), word(state))
    return Log(CONTRACT, topics, outcome.hash + account + word(96) + outcome.encode()[32:], *WHERE)


def changed(log, changes, cut):
    data, topics = bytearray(log.data), [bytearray(topic) for topic in log.topics]
    for topic, at, byte, value in changes:
        if topic is not None:
            topics[topic][byte] = value
        elif 32 * at + byte < len(data):
            data[32 * at + byte] = value
    kept = bytes(data[:cut] if cut < 0 else data + bytes(cut))
    return Log(log.address, tuple(map(bytes, topics)), kept, log.block_number, log.block_hash, log.tx_hash)


def decoded(log):
    try:
        return decode_log(log, CHAIN), []
    except UndecodableLog as exc:
        return None, [str(exc)]


def agree(log):
    """Whether the log was read; both ways must say the same of it."""
    got = harvest([log], CHAIN)
    event, refused = decoded(log)
    assert [str(reason) for _, reason in got.refused] == refused
    plain = [found._replace(rest=None) for found in got.events]
    assert plain == ([] if event is None else [found_of(event, TOPICS[log.topics[0]])])
    return bool(got.events)


@settings(deadline=None)
@given(ORDERS, ADDRESSES, st.integers(1, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_a_request_is_read_as_it_is_decoded(order, requester, request_id, deadline):
    assert agree(requested(order, requester, request_id, deadline))


@settings(deadline=None)
@given(ORDERS, ADDRESSES, st.sampled_from([0, 1, 2**63 - 1, 2**63]), st.sampled_from([0, 2**63, 2**64]), CHANGES, CUTS)
def test_a_request_with_other_bytes_is_read_or_refused_as_it_is_decoded(
    order, requester, ident, deadline, changes, cut
):
    agree(changed(requested(order, requester, ident, deadline), changes, cut))


@settings(deadline=None)
@given(OUTCOMES, st.sampled_from([1, 2**63 - 1]), ADDRESSES, STATUS)
def test_a_result_is_read_as_it_is_decoded(outcome, request_id, relayer, status):
    fields = vars(outcome) | {"status": status}
    log = settled(type(outcome)(**fields), request_id, OnChainState.FULFILLED + status - 1, relayer)
    assert agree(log) is (1 <= status <= 4)


@settings(deadline=None)
@given(OUTCOMES, st.sampled_from([0, 1, 2**63]), ADDRESSES, STATUS, CHANGES, CUTS)
def test_a_result_with_other_bytes_is_read_or_refused_as_it_is_decoded(outcome, ident, relayer, status, changes, cut):
    fields = vars(outcome) | {"status": status}
    agree(changed(settled(type(outcome)(**fields), ident, 1 + max(1, status), relayer), changes, cut))


def test_an_order_whose_parts_stand_elsewhere_is_read_all_the_same():
    order = Order(spec=b"spec", ttl=60)
    body = bytearray(order.encode()[32:])
    labels, spec = body[-32:], body[16 * 32 : -32]
    body[16 * 32 :] = labels + spec
    body[3 * 32 : 4 * 32], body[11 * 32 : 12 * 32] = word(17 * 32), word(16 * 32)
    log = requested(order, "0x" + "22" * 20, 7, 99)
    moved = Log(log.address, log.topics, log.data[:64] + bytes(body), 5, log.block_hash, log.tx_hash)

    assert agree(moved)
    fact = harvest([moved], CHAIN).events[0].fact
    assert isinstance(fact, BulkOrder)
    assert fact.encoded == order.encode()


def test_other_events_and_logs_without_topics_are_passed_over():
    other = Log(CONTRACT, (b"\x01" * 32,), b"", *WHERE)
    bare = Log(CONTRACT, (), b"", *WHERE)

    assert harvest([other, bare], CHAIN).events == harvest([], CHAIN).events == []


SIMPLE = Order(spec=b"spec", ttl=60)
DONE = Outcome(status=1, output_cid=b"cid", payload=b"payload")
ACCOUNT = "0x" + "22" * 20
ASKED = requested(SIMPLE, ACCOUNT, 7, 99)
ENDED = settled(DONE, 7, OnChainState.FULFILLED, ACCOUNT)
BAD = {
    "a request without an id": requested(SIMPLE, ACCOUNT, 0, 99),
    "a requester with too many bits": changed(ASKED, [(3, 0, 0, 1)], 0),
    "an order that stands elsewhere": changed(ASKED, [(None, 1, 31, 32)], 0),
    "an order cut in its head": changed(ASKED, [], -200),
    "a dirty field of the order": changed(ASKED, [(None, 2, 0, 1)], 0),
    "a spec longer than the data": changed(ASKED, [(None, 18, 0, 1)], 0),
    "labels that stand elsewhere": changed(ASKED, [(None, 13, 30, 9)], 0),
    "more labels than there are": changed(ASKED, [(None, 20, 31, 1)], 0),
    "another order's hash": changed(ASKED, [(2, 0, 0, 0), (2, 0, 1, 0)], 0),
    "a result without an id": settled(DONE, 0, OnChainState.FULFILLED, ACCOUNT),
    "a relayer with too many bits": changed(ENDED, [(None, 1, 0, 1)], 0),
    "an outcome that stands elsewhere": changed(ENDED, [(None, 2, 31, 32)], 0),
    "an outcome cut in its head": changed(ENDED, [], -200),
    "a dirty reason": changed(ENDED, [(None, 4, 0, 1)], 0),
    "an exit code with too many bits": changed(ENDED, [(None, 5, 0, 1)], 0),
    "a payload that stands elsewhere": changed(ENDED, [(None, 7, 30, 9)], 0),
    "bytes behind the end": changed(ENDED, [], 32),
    "another outcome's hash": changed(ENDED, [(None, 0, 0, 0), (None, 0, 1, 0)], 0),
    "a state that does not follow": settled(DONE, 7, OnChainState.FAILED, ACCOUNT),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_canonical_is_read_or_refused_as_it_is_decoded(name):
    agree(BAD[name])
