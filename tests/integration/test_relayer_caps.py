"""What the relayer may spend, when it says that something is wrong, and who may send with its key."""

import pytest

from bridge.chain.views import BridgeViews
from bridge.jobs import JobState
from bridge.store.outbox import SendState
from bridge.watch import Alarm
from executor.protocol.wire import Outcome
from tests.chain_nodes import funded
from tests.chain_proxy import error, ok
from tests.integration.bridge_parts import attempts, item, job, run
from tests.integration.relayer_parts import OUTCOME, relaying

pytestmark = pytest.mark.chain


@pytest.fixture
def parts(any_chain, tmp_path):
    with relaying(any_chain, tmp_path) as made:
        yield made


@pytest.fixture
def on_anvil(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path, max_batch=1) as made:
        yield made


def cost_of_one(parts):
    """The most that a delivery may cost, by one that is signed."""
    requests = parts.posting(1)
    run(parts.relayer)
    (sent,) = parts.sent(requests)
    parts.finish(requests)
    return sent.gas * sent.fees.max_fee


# -- per job ------------------------------------------------------------------------------------------------------


def test_a_delivery_beyond_its_budget_waits_and_says_so(any_chain, tmp_path):
    with relaying(any_chain, tmp_path, max_subsidy_wei=1) as parts:
        requests = parts.posting(1)
        run(parts.relayer)

        assert parts.sent(requests) == []
        assert "max_subsidy_wei" in item(parts.engine, requests[0].hash).detail
        assert parts.value("signing_refused", reason="budget") >= 1


def test_a_delivery_beyond_its_budget_does_not_keep_a_batch(any_chain, tmp_path):
    with relaying(any_chain, tmp_path, max_subsidy_wei=1) as parts:
        poor = parts.posting(1)
        paid = parts.posting(2, delivery_fee=10**16)
        run(parts.relayer)

        assert parts.states(poor) == [SendState.NEW]
        assert [len(sent.weights) for sent in parts.sent(paid)] == [2]


def test_replacements_stay_within_a_deliverys_budget(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path / "a") as parts:
        most = cost_of_one(parts)
    with relaying(anvil_chain, tmp_path / "b", account=3, max_subsidy_wei=most * 2) as parts:
        requests = parts.posting(1)
        for _ in range(8):
            run(parts.relayer)
            parts.clock.now += 181
        dearest = parts.sent(requests)[-1]

        assert len(parts.sent(requests)) > 1
        assert dearest.gas * dearest.fees.max_fee <= most * 2 + 7
        assert Alarm.FEES_AT_CAP in parts.raised()
        parts.finish(requests)


def day_of(gas):
    """Options with which a day's cap is so much gas: a first delivery takes some 125 000, one more 95 000."""
    return {"max_batch": 1, "max_fee_per_gas_wei": 10**9, "max_spend_per_day_wei": gas * 10**9}


# -- per day ------------------------------------------------------------------------------------------------------


def test_at_the_days_cap_nothing_new_is_signed_until_the_day_is_over(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path, **day_of(200_000)) as parts:
        first, second = parts.posting(1), parts.posting(1)
        run(parts.relayer)
        assert parts.states([*first, *second]) == [SendState.SENT, SendState.NEW]
        assert Alarm.DAY_CAP in parts.raised()
        assert "max_spend_per_day_wei" in item(parts.engine, second[0].hash).detail

        parts.mine()
        parts.clock.now += 86_401
        run(parts.relayer)
        assert parts.states(second) == [SendState.SENT]
        assert Alarm.DAY_CAP not in parts.raised()


def test_the_days_cap_counts_what_receipts_say(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path, **day_of(230_000)) as parts:
        first, second = parts.posting(1), parts.posting(1)
        run(parts.relayer)
        assert parts.states(second) == [SendState.NEW]
        parts.mine()
        (sent,) = parts.sent(first)
        assert 0 < parts.value("spent_wei") == sent.cost < sent.gas * sent.fees.max_fee
        parts.clock.now += 61
        parts.finish([*first, *second])


# -- fees, gas, balance -------------------------------------------------------------------------------------------


def test_fees_that_cannot_be_raised_are_an_alarm_and_the_bytes_go_out_again(anvil_chain, tmp_path):
    base, tip = anvil_chain.client.fees()
    with relaying(anvil_chain, tmp_path, max_fee_per_gas_wei=2 * base + tip + 1) as parts:
        requests = parts.posting(1)
        run(parts.relayer)
        parts.clock.now += 181
        run(parts.relayer)

        assert Alarm.FEES_AT_CAP in parts.raised()
        assert len(parts.sent(requests)) == 1
        assert parts.value("transactions_resent") >= 1
        parts.finish(requests)


def test_an_estimate_that_jumps_is_refused_and_looked_at_again(on_anvil):
    parts = on_anvil
    parts.finish(parts.posting(5))
    requests = parts.posting(1)
    parts.proxy.rules["eth_estimateGas"] = lambda request, forward: ok(request, hex(2_000_000))
    run(parts.relayer)
    assert parts.sent(requests) == []
    assert Alarm.GAS_JUMP in parts.raised()

    parts.proxy.rules.clear()
    parts.clock.now += 61
    parts.finish(requests)


def test_an_estimate_beyond_a_block_is_refused(on_anvil):
    requests = on_anvil.posting(1)
    on_anvil.proxy.rules["eth_estimateGas"] = lambda request, forward: ok(request, hex(10**15))
    run(on_anvil.relayer)

    assert on_anvil.sent(requests) == []
    assert Alarm.GAS_JUMP in on_anvil.raised()


def test_a_balance_for_few_deliveries_is_an_alarm(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path, low_balance_deliveries=10**15) as parts:
        parts.finish(parts.posting(1))
        parts.posting(1)
        run(parts.relayer)

        assert Alarm.LOW_BALANCE in parts.raised()
        assert 0 < parts.value("balance_deliveries") < 10**15


LACKING = {
    "hard": "not enough funds (required: 2, balance: 1)",
    "soft": "not enough funds including pending messages (required: 2, balance: 1)",
}


@pytest.mark.parametrize("kind", LACKING)
def test_missing_funds_pause_signing_and_keep_the_bytes(on_anvil, kind):
    parts = on_anvil
    requests = parts.posting(2)
    parts.proxy.rules["eth_sendRawTransaction"] = lambda request, forward: error(request, 1, LACKING[kind])
    run(parts.relayer)
    assert parts.relayer.is_paused
    assert Alarm.NO_FUNDS in parts.raised()
    assert len(parts.sent(requests)) == 1

    parts.proxy.rules.clear()
    parts.clock.now += 61
    parts.finish(requests)
    assert len(parts.sent(requests)) == 2
    assert Alarm.NO_FUNDS not in parts.raised()


# -- what is refused before it is signed ----------------------------------------------------------------------------

CIDS = {
    "too long": b"\x01\x55\x12\x20" + b"\xab" * 61,
    "none at all": b"\xff" * 36,
    "cut short": b"\x01\x55\x12\x20\xab",
}


@pytest.mark.parametrize("name", CIDS)
def test_an_outcome_whose_cid_is_none_is_dead_before_anything_is_signed(on_anvil, name):
    requests = on_anvil.posting(1, outcome=Outcome(status=1, output_cid=CIDS[name]))
    run(on_anvil.relayer)

    assert on_anvil.states(requests) == [SendState.DEAD]
    assert on_anvil.sent(requests) == []
    assert "CID" in item(on_anvil.engine, requests[0].hash).detail.upper()


# -- one process, any clock, any count ------------------------------------------------------------------------------


def test_of_two_processes_one_sends_and_the_other_takes_over_when_it_is_gone(parts):
    first, second = parts.another("one"), parts.another("two")
    run(parts.listener)
    first.step()
    requests = parts.posting(1)
    run(second)
    assert parts.sent(requests) == []
    assert Alarm.SENDER_ELSEWHERE in parts.raised()

    parts.clock.now += 61
    run(second)
    assert len(parts.sent(requests)) == 1
    run(first)
    assert Alarm.SENDER_ELSEWHERE in parts.raised()
    parts.mine()
    run(second)
    assert job(parts.engine, requests[0].hash).state is JobState.POSTED


def test_a_process_that_lost_its_lease_while_it_decided_stores_nothing(on_anvil):
    parts = on_anvil
    first, second = parts.another("one"), parts.another("two")
    run(parts.listener)
    first.step()
    requests = parts.posting(1)

    def slow(request, forward):
        parts.proxy.rules.clear()
        parts.clock.now += 61
        second.step()
        return forward(request)

    parts.proxy.rules["eth_estimateGas"] = slow
    first.step()

    assert len(parts.sent(requests)) == 1
    assert {len(attempts(parts.engine, request.hash)) for request in requests} == {1}


JUMPS = {"an hour back": -3600, "an hour on": 3600}


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("when", ["before signing", "in flight", "mined"])
def test_a_clock_that_jumps_posts_nothing_twice(on_anvil, jump, when):
    parts = on_anvil
    parts.clock.now = 10_000.0
    requests = parts.posting(2)
    if when != "before signing":
        run(parts.relayer)
    if when == "mined":
        parts.mine()
    parts.clock.now += JUMPS[jump]
    run(parts.relayer)
    parts.finish(requests)

    assert len({sent.nonce for sent in parts.sent(requests)}) == 2
    assert BridgeViews(parts.client, parts.config.chain.bridge_contract).credit_of(parts.relayer.address) == 14


PENDING = {"higher": 50, "lower": 0}


@pytest.mark.parametrize("count", PENDING)
def test_another_nodes_pending_count_changes_no_nonce(on_anvil, count):
    parts = on_anvil
    parts.finish(parts.posting(1))
    nonce = parts.chain.client.nonce(parts.relayer.address)

    def other_node(request, forward):
        return ok(request, hex(PENDING[count])) if request["params"][1] == "pending" else forward(request)

    parts.proxy.rules["eth_getTransactionCount"] = other_node
    requests = parts.posting(3)
    parts.finish(requests)
    assert [sent.nonce for sent in parts.sent(requests)] == [nonce, nonce + 1, nonce + 2]


def test_a_count_from_a_node_that_is_behind_fills_no_nonce_that_is_used(on_anvil):
    parts = on_anvil
    before = parts.chain.client.nonce(parts.relayer.address)
    parts.finish(parts.posting(1))
    parts.proxy.rules["eth_getTransactionCount"] = lambda request, forward: ok(request, hex(before))
    requests = parts.posting(1)
    parts.clock.now += 600
    run(parts.relayer)

    assert [sent.nonce for sent in parts.sent(requests)] == [before + 1]
    assert parts.value("nonces_filled") == 0
    parts.proxy.rules.clear()
    parts.finish(requests)


def test_a_result_that_a_stranger_relayed_is_posted_and_no_error(parts):
    requests = parts.posting(1)
    run(parts.listener)
    data = parts.chain.fulfil_data(requests[0], OUTCOME)
    parts.chain.send(funded(3), parts.chain.deployment.bridge, data)
    parts.mine()

    assert job(parts.engine, requests[0].hash).state is JobState.POSTED
    assert parts.states(requests) == [SendState.DONE]
    assert parts.raised() == set()
