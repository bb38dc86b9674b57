"""Scenarios 8 to 16 and 42: logs that come late, in part, twice, taken back, or that are hostile."""

import pytest
from eth_utils.crypto import keccak

from bridge.chain.events import TOPICS, Kind
from bridge.devnet.chaos.script import Answer, Error, Rewrite, Status
from bridge.errors import RpcUnavailable
from bridge.jobs import JobState
from bridge.watch import Alarm
from executor.protocol.wire import Order
from tests.chain_nodes import funded
from tests.scenarios.rig import ORDER

pytestmark = pytest.mark.chain

WIDE = 8  # epochs


def by_hash(params):
    return "blockHash" in params[0]


def by_range(params):
    return "fromBlock" in params[0]


def is_wide(params):
    return by_range(params) and int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) >= WIDE


def changed(change):
    """An answer whose logs are changed by a function."""
    return Rewrite(lambda answer: answer | {"result": change(answer["result"])} if "result" in answer else answer)


# -- not there yet ------------------------------------------------------------------------------------------------


def test_S08_logs_that_are_not_available_yet_for_the_head_are_asked_for_again(scenario):
    rig = scenario()
    rig.settle()
    request = rig.request()
    before = rig.cursor()
    late = Error(1, "events for the requested block are not yet available")
    rig.script.on("eth_getLogs", late, times=3)
    for error in rig.polls(3):
        assert isinstance(error, RpcUnavailable)
        assert "not yet available" in str(error)
    assert len(rig.raised) == 3
    assert rig.cursor() == before

    rig.polls(1)
    assert rig.cursor().scanned_number == before.scanned_number + 1
    rig.rests(request)


def test_S08_of_a_node_that_executes_late_the_newest_block_is_never_asked_for(scenario):
    rig = scenario(deferred=True)
    rig.settle()
    rig.endpoints[0].start(late_events=0.4)
    requests = [rig.request() for _ in range(4)]
    rig.chain.mine()
    rig.settle()
    assert rig.met("late_events")
    rig.rests(*requests)


# -- too much -----------------------------------------------------------------------------------------------------

RANGE_LIMITS = {
    "code -32005 of 1.36": {"dialect": "lotus-1.36", "max_range": WIDE},
    "the text of 1.35": {"dialect": "lotus-1.31", "max_range": WIDE},
    "Forest's code": {"dialect": "forest", "max_range": WIDE},
    "too many events": {"dialect": "lotus-1.36", "max_logs": 2},
}
RANGE_REFUSALS = {
    "HTTP 413": Status(413),
    "too far in the past": Error(1, "invalid epoch range: from block is too far in the past (maximum: 2880)"),
    "too far in the future": Error(1, "invalid epoch range: to block is too far in the future (maximum: 2880)"),
}


def absence(rig):
    """Five requests while nobody looked, the last blocks final long since."""
    requests = []
    for _ in range(5):
        requests.append(rig.request())
        rig.chain.mine(11)
    return requests


@pytest.mark.parametrize("limit", RANGE_LIMITS)
def test_S09_a_range_that_the_endpoint_refuses_is_halved_until_it_passes(scenario, limit):
    rig = scenario(**RANGE_LIMITS[limit])
    requests = absence(rig)
    rig.settle()
    assert rig.raised == []
    assert len(rig.script.calls("eth_getLogs")) > 3
    rig.rests(*requests)


@pytest.mark.parametrize("refusal", RANGE_REFUSALS)
def test_S09_a_range_that_is_too_much_is_halved_whatever_the_refusal_looks_like(scenario, refusal):
    rig = scenario()
    requests = absence(rig)
    rig.script.on("eth_getLogs", RANGE_REFUSALS[refusal], where=is_wide)
    rig.settle()
    asked = [call["params"] for call in rig.script.calls("eth_getLogs")]
    assert sum(map(is_wide, asked)) < 12
    assert rig.raised == []
    rig.rests(*requests)


def test_S10_a_single_block_with_more_logs_than_a_range_may_show_is_read_by_its_hash(scenario):
    rig = scenario()
    rig.settle()
    for n in range(3):
        rig.offer(index=(1, 3, 4)[n])
    full = rig.chain.mine().number
    requests = [rig.chain.request_of(n + 1, ORDER) for n in range(3)]
    rig.chain.mine(60)

    def holds_the_block(params):
        query = params[0]
        return by_range(params) and int(query["fromBlock"], 16) <= full <= int(query["toBlock"], 16)

    refusal = Error(1, "filter matches too many events, try a more restricted filter")
    rig.script.on("eth_getLogs", refusal, where=holds_the_block)
    rig.settle()
    assert len(rig.jobs()) == 3
    assert any(by_hash(call["params"]) for call in rig.script.calls("eth_getLogs"))
    rig.rests(*requests)


# -- left out -----------------------------------------------------------------------------------------------------


def in_part(logs):
    return logs[: len(logs) // 2]


def nothing(logs):
    return []


def two_in_a_block(rig):
    rig.offer(index=1)
    rig.offer(index=3)
    rig.chain.mine()
    return [rig.chain.request_of(n, ORDER) for n in (1, 2)]


def is_found_when_final(scenario, change):
    rig = scenario()
    rig.settle()
    rig.leaves_out = True
    rig.script.on("eth_getLogs", changed(change), where=by_hash)
    requests = two_in_a_block(rig)
    rig.settle()
    assert len(rig.jobs()) < 2

    rig.chain.mine(6)
    rig.settle()
    assert set(rig.jobs()) == {request.hash for request in requests}
    assert rig.alarms() == {Alarm.LATE_LOGS}
    assert rig.listener.late == 2 - len(change([1, 2]))
    rig.rests(*requests)


def stops_the_final_position(scenario, change):
    rig = scenario()
    rig.settle()
    rig.leaves_out = True
    rig.script.on("eth_getLogs", changed(change))
    requests = two_in_a_block(rig)
    rig.chain.mine(6)
    before = rig.cursor()
    raised = rig.polls(6)
    assert rig.cursor().final_number == before.final_number
    assert all("the contract took 2 requests" in str(error) for error in raised)
    assert raised
    rig.rests(*requests)


def test_S11_logs_that_are_silently_cut_short_are_found_by_the_second_reading(scenario):
    is_found_when_final(scenario, in_part)


def test_S11_logs_that_are_cut_short_in_the_second_reading_too_are_missed_by_the_contracts_count(scenario):
    stops_the_final_position(scenario, in_part)


def test_S11_logs_cut_short_far_behind_the_head_are_missed_by_the_contracts_count(scenario):
    rig = scenario()
    requests = two_in_a_block(rig)
    rig.chain.mine(70)
    rig.script.on("eth_getLogs", changed(in_part), times=3)
    rig.settle()
    assert any("the contract took 2 requests" in str(error) for error in rig.raised)
    rig.rests(*requests)


def test_S12_a_block_whose_logs_are_an_empty_list_at_first_is_read_again_when_final(scenario):
    is_found_when_final(scenario, nothing)


def test_S12_a_block_without_the_logs_that_the_contract_counted_is_not_passed(scenario):
    stops_the_final_position(scenario, nothing)


def test_S12_logs_that_are_left_out_now_and_then_are_all_found(scenario):
    rig = scenario(drop_logs=0.5)
    rig.leaves_out = True
    requests = []
    for _ in range(6):
        requests.append(rig.request())
        rig.polls(3)
    assert rig.met("drop_logs")
    rig.chain.mine(6)
    rig.rests(*requests)


# -- twice, and of no block ---------------------------------------------------------------------------------------


def test_S13_duplicated_logs_and_ranges_that_are_read_again_make_one_job(scenario):
    rig = scenario(duplicate_logs=1.0)
    rig.settle()
    requests = two_in_a_block(rig)
    rig.settle()
    rig.chain.mine(6)
    rig.restart()
    rig.settle()  # the second reading covers the same blocks once more
    assert rig.met("duplicate_logs") >= 2
    assert rig.listener.late == 0
    rig.rests(*requests)


def test_S13_logs_that_are_delivered_again_with_each_later_answer_make_one_job(scenario):
    """Re-delivered pushes: this listener has no subscription, so an answer brings them, and is refused as a whole."""
    rig = scenario()
    rig.settle()
    request = rig.request()
    rig.settle()
    seen = [call for call in rig.script.calls("eth_getLogs") if by_hash(call["params"])][-1]["params"]
    rig.chain.mine()

    def again(call, forward):
        old = forward(call | {"params": seen})["result"]
        answer = forward(call)
        return answer | {"result": old + answer["result"]}

    rig.script.on("eth_getLogs", Answer(again), times=2)
    before = rig.cursor()
    assert [type(error) for error in rig.polls(2)] == [RpcUnavailable, RpcUnavailable]
    assert rig.cursor() == before
    rig.rests(request)


def test_S14_log_indices_that_differ_from_answer_to_answer_make_one_job_for_each_request(scenario):
    """There is no push here (the listener polls, by decision); the index of an answer is never a key."""
    rig = scenario(log_index=1.0)
    rig.settle()
    requests = two_in_a_block(rig)
    rig.settle()
    assert len(rig.jobs()) == 2
    assert rig.met("log_index")

    indices = iter(range(7, 10**6))
    rig.endpoints[0].start(log_index=0.0)
    renumbered = changed(lambda logs: [log | {"logIndex": hex(next(indices))} for log in logs])
    rig.script.on("eth_getLogs", renumbered)
    rig.chain.mine(6)
    rig.settle()
    assert rig.listener.late == 0
    rig.rests(*requests)


def test_S15_a_removed_log_without_a_new_block_or_before_its_add_is_ignored(scenario):
    """Such entries come with pushes; this listener has none, so they stand in answers. A reorg is told by hashes."""
    rig = scenario()
    rig.settle()
    first = rig.request()
    rig.settle()
    assert rig.job(first).state is JobState.OBSERVED

    taken_back = changed(lambda logs: [log | {"removed": True} for log in logs] + logs)
    rig.script.on("eth_getLogs", taken_back)
    rig.settle()  # no new block: nothing is asked, nothing is orphaned
    assert rig.job(first).state is JobState.OBSERVED
    second = rig.request()
    rig.settle()
    rig.chain.mine(6)
    rig.settle()
    assert {job.state for job in rig.jobs().values()} == {JobState.READY}
    rig.rests(first, second)


def test_S15_a_removed_log_whose_add_never_comes_is_ignored(scenario):
    rig = scenario()
    rig.settle()
    rig.leaves_out = True
    rig.script.on("eth_getLogs", changed(lambda logs: [log | {"removed": True} for log in logs]), where=by_hash)
    request = rig.request()
    rig.settle()
    assert rig.jobs() == {}
    rig.chain.mine(6)
    rig.rests(request)


def test_S16_the_removed_logs_of_a_dead_block_that_is_asked_for_by_hash_are_dropped(scenario):
    rig = scenario(removed_logs=1.0)
    rig.settle()
    gone = rig.request()
    struck = []

    def dies_meanwhile(call, forward):
        if not struck:
            struck.append(call)
            rig.reorg(1, [], [])
        return forward(call)

    rig.script.on("eth_getLogs", Answer(dies_meanwhile), where=by_hash)
    rig.settle()
    assert struck
    assert rig.met("removed_logs") == 1
    assert gone.hash not in rig.jobs()
    rig.rests()


# -- hostile ------------------------------------------------------------------------------------------------------

#: emits a log with the calldata's first four words as topics and the rest as data
EMITTER = "0x608036036080600037606035604035602035600035608036036000a400"
TOPIC = next(topic for topic, kind in TOPICS.items() if kind is Kind.REQUESTED)
WORD = bytes(32)


def encoded(order):
    return (64).to_bytes(32) + (64).to_bytes(32) + order.encode()[32:]


HOSTILE = {
    "no data": b"",
    "data that are no order": b"\xff" * 640,
    "96 KiB of data": b"\x01" * 96 * 1024,
    "an offset beyond the end": (9).to_bytes(32) + (2**255).to_bytes(32),
    "an order of an unknown version": encoded(Order(spec=b"{}", ttl=60)).replace((1).to_bytes(32), (9).to_bytes(32), 1),
    "a hash that is not the order's": encoded(Order(spec=b"{}", ttl=60)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_S42_a_log_that_is_no_request_is_refused_and_the_cursor_moves(scenario, name):
    rig = scenario()
    rig.settle()
    ask, bridge = rig.chain.client.ask, rig.chain.deployment.bridge
    code = ask("eth_getCode", bridge, "latest")
    ask("anvil_setCode", bridge, EMITTER)
    topics = TOPIC + (1).to_bytes(32) + keccak(b"no request") + bytes(12) + bytes.fromhex(funded(1).address[2:])
    sent = rig.chain.send(funded(1), bridge, topics + HOSTILE[name])
    rig.chain.mine()
    rig.chain.mined(sent)
    ask("anvil_setCode", bridge, code)
    rig.settle()
    assert rig.listener.undecodable == 1
    assert rig.cursor().scanned_number == rig.head()

    good = rig.request()
    rig.chain.mine(7)
    rig.settle()
    assert rig.raised == []
    rig.rests(good)


NOT_FOR_US = {"an unknown event": keccak(b"JobRequested(uint8)"), "no topic that is ours": WORD}


@pytest.mark.parametrize("name", NOT_FOR_US)
def test_S42_an_event_of_an_unknown_version_is_stepped_over(scenario, name):
    rig = scenario()
    rig.settle()
    ask, bridge = rig.chain.client.ask, rig.chain.deployment.bridge
    code = ask("eth_getCode", bridge, "latest")
    ask("anvil_setCode", bridge, EMITTER)
    sent = rig.chain.send(funded(1), bridge, NOT_FOR_US[name] + WORD * 4)
    rig.chain.mine()
    rig.chain.mined(sent)
    ask("anvil_setCode", bridge, code)
    good = rig.request()
    rig.chain.mine(7)
    rig.settle()
    assert rig.raised == []
    rig.rests(good)


PAYLOADS = {
    "bytes that are no UTF-8": b"\xff\xfe\x00spec",
    "16 KiB": b"{" + b" " * (16 * 1024 - 2) + b"}",
    "JSON of something else": b"[[[[1e999]]]]",
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_S42_a_request_with_a_malformed_payload_is_one_job_whose_payload_is_kept_as_it_is(scenario, name):
    """What is wrong with a spec is for the nodes to say, who attest the refusal; the listener opens no spec."""
    rig = scenario()
    rig.settle()
    request = rig.request(Order(spec=PAYLOADS[name], ttl=3600, unit_price=1000))
    rig.settle()
    assert rig.job(request).spec == PAYLOADS[name]
    rig.rests(request)
