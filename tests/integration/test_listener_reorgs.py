"""The listener when the chain changes its mind: requests that move, go and come back; results that are taken back."""

import pytest

from bridge.chain.contracts import cancel_calldata, draw_cancelled_calldata, expire_calldata, request_job_calldata
from bridge.chain.cursor import DeepReorg
from bridge.errors import FatalError
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.store.chain import load_window
from bridge.store.engine import reading
from executor.protocol.wire import Order, Outcome
from tests.chain_nodes import funded
from tests.integration.bridge_parts import config_for, job, jobs_now, new_engine, run

pytestmark = pytest.mark.chain

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)
REPLACEMENT = Order(spec=b'{"version":"insula/v1" }', ttl=3600, unit_price=1000)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)


@pytest.fixture
def engine(tmp_path):
    return new_engine(tmp_path)


@pytest.fixture
def follow(engine, any_chain, tmp_path):
    """Follows the chain to its head, each time with a new Listener: nothing may hang on what is in memory."""

    def step(polls=2, **depths):
        listener = Listener(
            engine, any_chain.client, config_for(any_chain, tmp_path, finality=8, **depths), lambda: 9.0
        )
        for _ in range(polls):
            run(listener)
        return listener

    return step


def test_a_request_that_moves_to_another_block_keeps_its_job(any_chain, engine, follow):
    snapshot = any_chain.snapshot()
    signed = any_chain.send(funded(1), any_chain.deployment.bridge, request_job_calldata(ORDER), ORDER.price)
    any_chain.mine()
    request = any_chain.request_of(1, ORDER)
    follow()
    before = job(engine, request.hash)

    any_chain.revert(snapshot)
    any_chain.mine()
    any_chain.client.send_raw(signed.raw)
    any_chain.mine(2)
    follow(confirmation=3, posting=3)

    after = job(engine, request.hash)
    assert after.state is JobState.OBSERVED
    assert after.block_number == before.block_number + 1
    assert after.block_hash == any_chain.client.block_by_number(after.block_number).hash
    assert len(jobs_now(engine)) == 1
    deadline = any_chain.request_of(1, ORDER).deadline  # counted from the block's time
    assert after.request.deadline == deadline


def test_a_ready_request_that_moves_waits_for_its_new_depth(any_chain, engine, follow):
    snapshot = any_chain.snapshot()
    signed = any_chain.send(funded(1), any_chain.deployment.bridge, request_job_calldata(ORDER), ORDER.price)
    any_chain.mine(3)
    request = any_chain.request_of(1, ORDER)
    follow()
    assert job(engine, request.hash).state is JobState.READY

    any_chain.revert(snapshot)
    any_chain.mine(3)
    any_chain.client.send_raw(signed.raw)
    any_chain.mine()
    follow()
    assert job(engine, request.hash).state is JobState.OBSERVED
    any_chain.mine()
    follow()
    assert job(engine, request.hash).state is JobState.READY


def test_a_request_that_is_gone_is_orphaned_and_comes_back_under_the_same_hash(any_chain, engine, follow):
    snapshot = any_chain.snapshot()
    signed = any_chain.send(funded(1), any_chain.deployment.bridge, request_job_calldata(ORDER), ORDER.price)
    any_chain.mine(2)
    request = any_chain.request_of(1, ORDER)
    follow()

    any_chain.revert(snapshot)
    any_chain.mine(3)
    follow()
    assert job(engine, request.hash).state is JobState.ORPHANED

    any_chain.client.send_raw(signed.raw)
    any_chain.mine()
    follow()
    assert job(engine, request.hash).state is JobState.OBSERVED


def test_another_request_under_the_same_id_is_another_job(any_chain, engine, follow):
    snapshot = any_chain.snapshot()
    first = any_chain.request(funded(1), ORDER)
    follow()

    any_chain.revert(snapshot)
    second = any_chain.request(funded(1), REPLACEMENT)
    any_chain.mine()
    follow()

    assert first.id == second.id == 1
    assert job(engine, first.hash).state is JobState.ORPHANED
    assert job(engine, second.hash).state in (JobState.OBSERVED, JobState.READY)


def test_two_reorgs_in_a_row_leave_what_the_last_chain_says(any_chain, engine, follow):
    snapshot = any_chain.snapshot()
    first = any_chain.request(funded(1), ORDER)
    follow()
    any_chain.revert(snapshot)
    snapshot = any_chain.snapshot()
    second = any_chain.request(funded(1), REPLACEMENT)
    follow()
    any_chain.revert(snapshot)
    third = any_chain.request(funded(1), ORDER)
    any_chain.mine()
    follow()

    assert third.hash == first.hash
    assert job(engine, second.hash).state is JobState.ORPHANED
    assert (
        job(engine, third.hash).block_hash == any_chain.client.block_by_number(any_chain.client.head().number - 1).hash
    )


def test_a_shorter_chain_is_followed_once_it_is_seen_twice(any_chain, engine, follow):
    snapshot = any_chain.snapshot()
    request = any_chain.request(funded(1), ORDER)
    any_chain.mine(4)
    follow()
    any_chain.revert(snapshot)
    any_chain.mine()

    follow(polls=1)
    assert job(engine, request.hash).state is JobState.READY
    follow(polls=2)
    assert job(engine, request.hash).state is JobState.ORPHANED


def test_a_head_that_is_an_older_block_of_ours_changes_nothing(any_chain, engine, follow):
    snapshot = any_chain.snapshot()
    request = any_chain.request(funded(1), ORDER)
    follow()
    any_chain.revert(snapshot)
    follow(polls=5)

    assert job(engine, request.hash).state is JobState.OBSERVED


def test_a_result_that_leaves_the_chain_leaves_the_job_to_run_again(any_chain, engine, follow):
    request = any_chain.request(funded(1), ORDER)
    snapshot = any_chain.snapshot()
    any_chain.send(funded(3), any_chain.deployment.bridge, any_chain.fulfil_data(request, OUTCOME))
    any_chain.mine()
    follow()
    assert job(engine, request.hash).state is JobState.POSTED

    any_chain.revert(snapshot)
    any_chain.mine(2)
    follow()
    stored = job(engine, request.hash)
    assert stored.state is JobState.READY
    assert (stored.outcome, stored.settled_tx, stored.chain_state) == (None, None, 1)


def test_a_cancellation_is_mirrored_and_taken_back(any_chain, engine, follow):
    request = any_chain.request(funded(1), ORDER)
    bridge = any_chain.deployment.bridge
    any_chain.send(funded(1), bridge, cancel_calldata(1, ORDER))
    any_chain.mine()
    follow()
    assert job(engine, request.hash).cancel_marked
    snapshot = any_chain.snapshot()
    any_chain.client.ask("evm_increaseTime", 10)
    any_chain.send(funded(3), bridge, draw_cancelled_calldata(1, ORDER))
    any_chain.mine()
    follow()
    assert job(engine, request.hash).state is JobState.CANCELLED

    any_chain.revert(snapshot)
    any_chain.mine(2)
    follow()
    stored = job(engine, request.hash)
    assert stored.state is JobState.READY
    assert stored.cancel_marked


def test_an_expired_request_is_expired_and_then_final(any_chain, engine, follow):
    order = Order(spec=b"{}", ttl=5, unit_price=1)
    request = any_chain.request(funded(1), order)
    any_chain.client.ask("evm_increaseTime", 30)
    any_chain.send(funded(3), any_chain.deployment.bridge, expire_calldata(1, order), gas=200_000)
    any_chain.mine()
    follow()
    assert job(engine, request.hash).state is JobState.EXPIRED

    any_chain.mine(9)
    follow()
    assert job(engine, request.hash).state is JobState.FINAL


def test_a_reorg_below_what_was_final_halts(any_chain, engine, follow):
    snapshot = any_chain.snapshot()
    any_chain.mine(12)
    follow()
    any_chain.revert(snapshot)
    any_chain.send(funded(1), funded(1).address, b"", gas=21_000)  # else Hardhat makes the very same blocks again
    any_chain.mine(14)

    with pytest.raises(DeepReorg, match="rebuild"):
        follow()


def test_another_chain_behind_the_same_endpoint_halts(any_chain, engine, tmp_path):
    config = config_for(any_chain, tmp_path)
    other = config.model_copy(update={"chain": config.chain.model_copy(update={"chain_id": 1})})

    with pytest.raises(FatalError, match="chain 1"):
        Listener(engine, any_chain.client, other, lambda: 9.0).step()


def test_a_contract_that_is_not_there_halts(any_chain, engine, tmp_path):
    config = config_for(any_chain, tmp_path)
    chain = config.chain.model_copy(update={"bridge_contract": funded(7).address})

    with pytest.raises(FatalError, match="no contract"):
        Listener(engine, any_chain.client, config.model_copy(update={"chain": chain}), lambda: 9.0).step()


def test_anvils_own_reorg_moves_a_request(anvil_chain, tmp_path):
    engine = new_engine(tmp_path)
    config = config_for(anvil_chain, tmp_path, finality=8)
    signed = anvil_chain.send(funded(1), anvil_chain.deployment.bridge, request_job_calldata(ORDER), ORDER.price)
    anvil_chain.mine(2)
    request = anvil_chain.request_of(1, ORDER)
    run(Listener(engine, anvil_chain.client, config, lambda: 9.0))
    before = job(engine, request.hash)

    anvil_chain.client.ask("anvil_reorg", 2, [["0x" + signed.raw.hex(), 1]])
    anvil_chain.mine()
    run(Listener(engine, anvil_chain.client, config, lambda: 9.0))

    after = job(engine, request.hash)
    assert after.block_hash != before.block_hash
    assert after.block_number == before.block_number + 1
    assert after.state in (JobState.OBSERVED, JobState.READY)


def test_the_window_is_linked_and_no_longer_than_the_finality_depth(any_chain, engine, follow):
    any_chain.mine(20)
    follow()
    with reading(engine) as connection:
        window = load_window(connection)

    assert [b.parent_hash for b in window[1:]] == [b.hash for b in window[:-1]]
    assert len(window) == 9
