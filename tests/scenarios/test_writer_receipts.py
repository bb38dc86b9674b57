"""S55 - S60: receipts that are wrong, late, empty or gone; blocks that leave the chain; transactions that fail."""

import pytest

from bridge.devnet.chaos.script import Replace
from bridge.jobs import JobState
from bridge.store.outbox import SendState
from bridge.watch import Alarm
from tests.chaos_kit import LOTUS
from tests.integration.bridge_parts import attempts, item, job, run
from tests.scenarios.holds_writer import settled
from tests.scenarios.writer_parts import PLAIN, RESEND_SECONDS, writing

pytestmark = pytest.mark.chain

SIZES = {"alone": 1, "a batch": 3}


@pytest.fixture(params=SIZES)
def size(request):
    """How many results wait together."""
    return SIZES[request.param]


def test_S55_a_receipt_of_the_replacement_is_not_taken_for_the_replaced_ones(both_chains, tmp_path, size):
    with writing(both_chains, tmp_path, LOTUS | {"stuck_tx": 1.0, "replaced_receipts": 1.0}) as parts:
        requests = parts.posting(size)
        parts.finish(requests)

        assert parts.client.chaos.counts["replaced_receipts"] == 1
        replaced, mined = parts.sent(requests)
        assert (replaced.mined_block_hash, replaced.mined_ok) == (None, None)
        assert mined.mined_ok is True
        settled(parts, requests)


@pytest.mark.parametrize("epochs", [1, 6])
def test_S56_a_receipt_that_is_late_changes_nothing_and_tells_the_cost_when_it_comes(both_chains, tmp_path, epochs):
    settings = LOTUS | {"late_receipts": 1.0, "late_receipt_epochs": epochs, "null_rounds": 0.2}
    with writing(both_chains, tmp_path, settings, finality=12) as parts:
        requests = parts.posting(2)
        run(parts.relayer)
        parts.mine()
        parts.finish(requests)

        (sent,) = parts.sent(requests)
        assert parts.client.chaos.counts["late_receipts"] >= 1
        assert (sent.mined_ok, sent.cost > 0) == (True, True)
        assert len(parts.script.raws()) == 1
        settled(parts, requests)


@pytest.mark.parametrize(("state", "size"), [("fresh", 3), ("behind", 1)], ids=["state fresh, a batch", "state behind"])
def test_S57_a_receipt_without_its_logs_is_no_failure(both_chains, tmp_path, size, state):
    with writing(both_chains, tmp_path, LOTUS | {"empty_receipts": 1.0}) as parts:
        requests = parts.posting(size)
        if state == "behind":
            parts.stale_state()
        run(parts.relayer)
        parts.mine()
        parts.later(RESEND_SECONDS)
        expected = SendState.DONE if state == "fresh" else SendState.MINED
        assert set(parts.states(requests)) == {expected}
        parts.script.clear()
        parts.finish(requests)

        assert parts.client.chaos.counts["empty_receipts"] >= 1
        assert len(parts.script.raws()) == 1
        settled(parts, requests)


LOOKBACK = 20
SEEN = ["the receipt was seen before", "the bridge was down until then"]


@pytest.mark.parametrize(("seen", "size"), [(SEEN[0], 1), (SEEN[1], 3)], ids=[SEEN[0], f"{SEEN[1]}, a batch"])
def test_S57b_a_receipt_that_a_gateway_forgets_while_the_transaction_stays_changes_nothing(
    both_chains, tmp_path, size, seen
):
    settings = LOTUS | {"forget_receipts": 1.0, "receipt_lookback": LOOKBACK}
    with writing(both_chains, tmp_path, settings, finality=LOOKBACK + 10) as parts:
        requests = parts.posting(size)
        run(parts.relayer)
        if seen == SEEN[0]:
            parts.mine()
        (before,) = parts.sent(requests)
        both_chains.mine(LOOKBACK + 2 + parts.confirming)
        assert parts.client.receipt(before.tx_hash) is None
        assert both_chains.client.receipt(before.tx_hash) is not None
        parts.restart()
        for _ in range(3):
            parts.mine()
            parts.later(RESEND_SECONDS)

        (after,) = parts.sent(requests)
        assert after.mined_block_hash == before.mined_block_hash
        assert after.sent_at == before.sent_at
        assert set(parts.states(requests)) == {SendState.DONE}
        assert {job(parts.engine, request.hash).state for request in requests} == {JobState.POSTED}
        parts.finish(requests)
        assert parts.script.raws() == [before.raw]
        settled(parts, requests)


def test_S57b_a_forgotten_receipt_is_no_reason_to_send_again_while_the_state_is_old_too(both_chains, tmp_path):
    settings = LOTUS | {"forget_receipts": 1.0, "receipt_lookback": LOOKBACK}
    with writing(both_chains, tmp_path, settings, max_batch=1) as parts:
        requests = parts.posting(1)
        parts.stale_state()
        run(parts.relayer)
        parts.chain.mine(1 + parts.confirming)
        run(parts.relayer)
        assert set(parts.states(requests)) == {SendState.MINED}
        both_chains.mine(LOOKBACK + 2)
        for _ in range(3):
            parts.later(RESEND_SECONDS)
        assert set(parts.states(requests)) == {SendState.MINED}
        parts.script.clear()
        parts.finish(requests)

        assert len(parts.script.raws()) == 1
        settled(parts, requests)


# -- reorgs -------------------------------------------------------------------------------------------------------


def final(parts, requests):
    """Which of these jobs are final."""
    return [request for request in requests if job(parts.engine, request.hash).state is JobState.FINAL]


@pytest.mark.parametrize(("is_seen", "size"), [(True, 1), (False, 3)], ids=["seen in between", "not seen, a batch"])
def test_S58_a_result_that_is_mined_again_in_another_block_is_final_by_that_block(both_chains, tmp_path, size, is_seen):
    with writing(both_chains, tmp_path, PLAIN) as parts:
        requests = parts.posting(size)
        snapshot = both_chains.snapshot()
        run(parts.relayer)
        parts.mine(2)
        (sent,) = parts.sent(requests)
        first = {job(parts.engine, request.hash).settled_block_hash for request in requests}
        assert final(parts, requests) == []
        both_chains.revert(snapshot)
        both_chains.mine(3)
        if is_seen:
            run(parts.listener)
        both_chains.client.send_raw(sent.raw)
        parts.mine()
        parts.mine()
        assert final(parts, requests) == []
        parts.finish(requests)

        jobs = [job(parts.engine, request.hash) for request in requests]
        (canonical,) = {parts.client.block_by_number(each.settled_block_number).hash for each in jobs}
        assert {each.settled_block_hash for each in jobs} == {canonical}
        assert first.isdisjoint({canonical})
        (mined,) = parts.sent(requests)
        assert mined.mined_block_hash == canonical
        settled(parts, requests)


def test_S59_a_result_that_leaves_the_chain_for_good_is_sent_again_with_the_same_bytes(both_chains, tmp_path, size):
    with writing(both_chains, tmp_path, PLAIN) as parts:
        requests = parts.posting(size)
        snapshot = both_chains.snapshot()
        run(parts.relayer)
        parts.mine()
        assert set(parts.states(requests)) == {SendState.DONE}
        both_chains.revert(snapshot)
        both_chains.mine(3)
        run(parts.listener)
        assert {job(parts.engine, request.hash).state for request in requests} == {JobState.POSTING}
        parts.finish(requests)

        (sent,) = parts.sent(requests)
        assert parts.script.raws() == [sent.raw] * 2
        settled(parts, requests)


# -- status 0 -----------------------------------------------------------------------------------------------------


def test_S60_a_transaction_that_ran_out_of_gas_is_followed_by_one_with_a_new_estimate(both_chains, tmp_path, size):
    with writing(both_chains, tmp_path) as parts:
        requests = parts.posting(size)
        parts.script.on("eth_estimateGas", Replace(hex(30_000 * (size + 1))), times=1)
        run(parts.relayer)
        (short,) = parts.sent(requests)
        parts.finish(requests)

        failed, *mined = parts.sent(requests)
        assert (failed.raw, failed.mined_ok) == (short.raw, False)
        assert [(sent.mined_ok, len(sent.weights)) for sent in mined] == [(True, 1)] * size
        assert {sent.nonce for sent in mined} == {short.nonce + 1 + n for n in range(size)}
        settled(parts, requests)


def test_S60_a_delivery_that_fails_each_time_it_is_mined_is_dead_after_three(both_chains, tmp_path):
    with writing(both_chains, tmp_path, max_batch=1) as parts:
        (request,) = parts.posting(1)
        parts.script.on("eth_estimateGas", Replace(hex(60_000)))
        parts.until_rest()

        assert item(parts.engine, request.hash).state is SendState.DEAD
        assert [sent.mined_ok for sent in attempts(parts.engine, request.hash)] == [False] * 3
        assert Alarm.DELIVERY_DEAD in parts.raised()
        settled(parts, [], ended=[request])


def test_S60_a_transaction_that_failed_because_the_state_had_changed_is_judged_anew(both_chains, tmp_path):
    with writing(both_chains, tmp_path, max_batch=1) as parts:
        (late,) = parts.posting(1, ttl=60)
        run(parts.relayer)
        both_chains.client.ask("evm_increaseTime", 120)
        parts.mine()
        parts.until_rest()

        assert item(parts.engine, late.hash).state is SendState.DEAD
        assert "DeadlinePassed" in item(parts.engine, late.hash).detail
        assert [sent.mined_ok for sent in attempts(parts.engine, late.hash)] == [False]
        settled(parts, [], ended=[late])
