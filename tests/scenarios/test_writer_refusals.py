"""S61, S62, S67, S68: what the contract, an estimate, the registry or an outcome itself speaks against."""

import pytest

from bridge.chain.contracts import vouch_calldata, withdraw_vouch_calldata
from bridge.chain.operate import join_key
from bridge.devnet.chaos.script import Replace, Rewrite
from bridge.store.outbox import SendState
from bridge.watch import Alarm
from executor.protocol.signing import Key
from executor.protocol.wire import Outcome, label_hash
from tests.chain_nodes import funded
from tests.integration.bridge_parts import attempts, item, job, run
from tests.integration.relayer_parts import OTHER, OUTCOME
from tests.scenarios.holds_writer import one_result_each, settled
from tests.scenarios.writer_parts import RESEND_SECONDS, writing

pytestmark = pytest.mark.chain

SIZES = {"alone": 1, "a batch": 3}


@pytest.fixture(params=SIZES)
def size(request):
    """How many results wait together."""
    return SIZES[request.param]


# -- it is posted already -----------------------------------------------------------------------------------------


def posted_by_a_stranger(parts, request, outcome):
    """Somebody else relays an outcome of this request."""
    data = parts.chain.fulfil_data(request, outcome, parts.relayer.address)
    signed = parts.chain.send(funded(3), parts.chain.deployment.bridge, data)
    parts.chain.mine(1 + parts.confirming)
    parts.chain.mined(signed)


ENDPOINTS = ["the endpoint shows it", "the endpoint's state is older than its estimates"]


@pytest.mark.parametrize(("endpoint", "size"), [(ENDPOINTS[0], 3), (ENDPOINTS[1], 1)], ids=ENDPOINTS)
def test_S61_the_same_outcome_posted_by_somebody_else_is_success(both_chains, tmp_path, size, endpoint):
    with writing(both_chains, tmp_path) as parts:
        requests = parts.posting(size)
        if endpoint == ENDPOINTS[1]:
            parts.stale_state()
        posted_by_a_stranger(parts, requests[0], OUTCOME)
        run(parts.relayer)
        if endpoint == ENDPOINTS[0]:
            assert parts.states(requests[:1]) == [SendState.DONE]
            assert attempts(parts.engine, requests[0].hash) == []
        parts.script.clear()
        parts.finish(requests)

        assert parts.raised() == set()
        settled(parts, requests)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_S61_another_outcome_posted_by_somebody_else_is_a_conflict(both_chains, tmp_path, size, endpoint):
    with writing(both_chains, tmp_path) as parts:
        conflicting, *others = parts.posting(size)
        if endpoint == ENDPOINTS[1]:
            parts.stale_state()
        posted_by_a_stranger(parts, conflicting, OTHER)
        run(parts.relayer)
        believed = endpoint == ENDPOINTS[1] and others  # a batch is simulated on the older state, and leaves it out
        if endpoint == ENDPOINTS[1] and not others:
            assert "OutcomeConflict" in item(parts.engine, conflicting.hash).detail
        parts.script.clear()
        run(parts.listener)
        parts.until_rest()

        assert item(parts.engine, conflicting.hash).state is SendState.SUPERSEDED
        assert job(parts.engine, conflicting.hash).outcome == OTHER
        assert len(attempts(parts.engine, conflicting.hash)) == bool(believed)
        assert Alarm.OUTCOME_CONFLICT in parts.raised()
        one_result_each(parts, [conflicting], OTHER)
        settled(parts, others, ended=[conflicting])


# -- an estimate that cannot be right -----------------------------------------------------------------------------


def ten_times(envelope):
    """Ten times the estimate."""
    return envelope | {"result": hex(10 * int(envelope["result"], 16))}


#: the fault, how many results wait together
JUMPS = {
    "ten times as much": (Rewrite(ten_times), 1),
    "ten times as much for a batch": (Rewrite(ten_times), 3),
    "more than a block": (Replace(hex(60 * 10**9)), 3),
}


@pytest.mark.parametrize("jump", JUMPS)
def test_S62_an_estimate_that_jumps_is_not_believed_and_an_alarm_says_so(both_chains, tmp_path, jump):
    fault, size = JUMPS[jump]
    with writing(both_chains, tmp_path, max_batch=1, max_in_flight=5) as parts:
        parts.finish(parts.posting(5))  # what deliveries usually need
        parts.reconfigure(max_batch=20)
        requests = parts.posting(size)
        parts.script.on("eth_estimateGas", fault)
        for _ in range(3):
            parts.later(RESEND_SECONDS)
        assert parts.sent(requests) == []
        assert set(parts.states(requests)) == {SendState.NEW}
        assert Alarm.GAS_JUMP in parts.raised()
        assert "not believed" in item(parts.engine, requests[0].hash).detail
        parts.script.clear()
        parts.finish(requests)

        settled(parts, requests)


# -- a node that no longer counts ---------------------------------------------------------------------------------


class _Registry:
    """What becomes of the node that signed."""

    def __init__(self, chain):
        self.chain, self.node, self.is_vouched = chain, chain.nodes[0], True

    def admitted(self, calldata):
        self.chain.send(
            funded(4), self.chain.deployment.registry, calldata(self.node.node_id, [label_hash("node=admitted")])
        )
        self.chain.mine(2)

    def loses_its_label(self):
        self.admitted(withdraw_vouch_calldata)
        self.is_vouched = False

    def gets_it_back(self):
        self.admitted(vouch_calldata)
        self.is_vouched = True

    def gets_a_new_key(self):
        self.chain.automine()
        self.node.key = Key.from_hex(f"{self.chain.client.head().number + 0x77000:064x}")
        join_key(
            self.chain.client, self.node.operator, self.chain.deployment.registry, self.node.node_id, self.node.key
        )
        self.chain.manual()


@pytest.fixture
def registry(both_chains):
    """Leaves the node vouched for."""
    made = _Registry(both_chains)
    yield made
    if not made.is_vouched:
        made.gets_it_back()


CURATED = {"curator": funded(4).address}


def test_S67_a_delivery_whose_node_lost_its_label_waits_without_a_nonce_and_says_why(
    both_chains, tmp_path, size, registry
):
    with writing(both_chains, tmp_path) as parts:
        waiting, others = parts.posting(size, **CURATED), parts.posting(2)
        registry.loses_its_label()
        for _ in range(4):
            parts.later(RESEND_SECONDS)
            parts.mine()
        assert set(parts.states(waiting)) == {SendState.NEW}
        assert parts.sent(waiting) == []
        assert {"MissingLabels" in item(parts.engine, request.hash).detail for request in waiting} == {True}
        assert set(parts.states(others)) == {SendState.DONE}
        registry.gets_it_back()
        parts.finish([*waiting, *others])

        settled(parts, [*waiting, *others])


def test_S67_a_label_lost_while_the_delivery_is_in_flight_costs_one_nonce(both_chains, tmp_path, size, registry):
    with writing(both_chains, tmp_path) as parts:
        requests = parts.posting(size, **CURATED)
        run(parts.relayer)
        (sent,) = parts.sent(requests)
        parts.drop(sent)
        registry.loses_its_label()
        both_chains.client.send_raw(sent.raw)
        parts.mine()
        for _ in range(4):
            parts.mine()
            parts.later(RESEND_SECONDS)
        assert {each.nonce for each in parts.sent(requests)} == {sent.nonce}
        assert {"MissingLabels" in item(parts.engine, request.hash).detail for request in requests} == {True}
        registry.gets_it_back()
        parts.finish(requests)

        assert {each.nonce for each in parts.sent(requests)} == {sent.nonce + n for n in range(size + 1)}
        settled(parts, requests)


def test_S67_a_delivery_whose_nodes_key_was_rotated_waits_until_its_deadline_and_is_dead(
    both_chains, tmp_path, size, registry
):
    with writing(both_chains, tmp_path) as parts:
        stale = parts.posting(size, ttl=600)
        registry.gets_a_new_key()
        others = parts.posting(2)
        for _ in range(4):
            parts.later(RESEND_SECONDS)
            parts.mine()
        assert set(parts.states(stale)) == {SendState.NEW}
        assert {"UnknownSigner" in item(parts.engine, request.hash).detail for request in stale} == {True}
        assert set(parts.states(others)) == {SendState.DONE}
        both_chains.client.ask("evm_increaseTime", 900)
        parts.mine()
        parts.until_rest()

        assert set(parts.states(stale)) == {SendState.DEAD}
        assert parts.sent(stale) == []
        assert Alarm.DELIVERY_DEAD in parts.raised()
        settled(parts, others, ended=stale)


# -- an outcome that is none --------------------------------------------------------------------------------------

CIDS = {
    "too long": b"\x01\x55\x12\x20" + b"\xab" * 61,
    "none at all": b"\xff" * 36,
    "cut short": b"\x01\x55\x12\x20\xab",
}


@pytest.mark.parametrize("cid", CIDS)
def test_S68_an_outcome_whose_cid_is_none_is_dead_before_anything_is_signed(both_chains, tmp_path, cid):
    with writing(both_chains, tmp_path) as parts:
        bad = parts.posting(1, outcome=Outcome(status=1, output_cid=CIDS[cid]))
        good = parts.posting(2)
        parts.finish(good)

        assert parts.states(bad) == [SendState.DEAD]
        assert parts.sent(bad) == []
        assert "CID" in item(parts.engine, bad[0].hash).detail.upper()
        assert Alarm.DELIVERY_DEAD in parts.raised()
        assert [len(sent.weights) for sent in parts.sent(good)] == [2]
        settled(parts, good, ended=bad)
