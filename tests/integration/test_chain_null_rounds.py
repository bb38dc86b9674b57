"""A chain with null rounds, in every way that endpoints have answered for them (`bridge.devnet.chaos`)."""

from itertools import pairwise

import pytest

from bridge.chain.ranges import RangeSize
from bridge.devnet.chaos import Script
from bridge.errors import NullRound
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.store.chain import load_window
from bridge.store.engine import reading
from executor.protocol.wire import Order, Outcome
from tests.chain_nodes import funded
from tests.chaos_kit import chaos
from tests.integration.bridge_parts import config_for, job, jobs_now, new_engine, run

pytestmark = pytest.mark.chain

DIALECTS = ("lotus-1.31", "lotus-1.30", "lotus-null", "forest")
ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)


@pytest.fixture(params=DIALECTS)
def epochs(request, anvil_chain):
    """A client that sees anvil's blocks as epochs with gaps."""
    with chaos(anvil_chain, script=Script(), dialect=request.param, null_rounds=0.4, null_run=2) as client:
        yield client


def epoch_config(chain, client, folder, finality):
    config = config_for(chain, folder, finality=finality)
    fields = {"deploy_block": client.chaos.epochs.epoch_of(chain.deployment.deploy_block)}
    return config.model_copy(update={"chain": config.chain.model_copy(update=fields)})


def test_an_epoch_without_a_block_is_a_null_round_whatever_the_dialect(epochs, anvil_chain):
    head = epochs.head().number
    nulls = [epoch for epoch in range(head) if epochs.chaos.epochs.is_null(epoch)]
    assert nulls

    for missing in nulls[-4:]:
        with pytest.raises(NullRound) as caught:
            epochs.block_by_number(missing)
        assert caught.value.number == missing
    assert epochs.block_by_number(head).number == head


def test_requests_around_null_rounds_are_seen_once_each(epochs, anvil_chain, tmp_path):
    engine = new_engine(tmp_path)
    config = epoch_config(anvil_chain, epochs, tmp_path, finality=12)
    requests, window = [], ()
    while not (len(requests) >= 7 and any(b.number - a.number > 1 for a, b in pairwise(window))):
        assert len(requests) < 60, "null rounds"
        requests.append(anvil_chain.request(funded(1), ORDER))
        run(Listener(engine, epochs, config, lambda: 9.0))
        with reading(engine) as connection:
            window = load_window(connection)

    assert set(jobs_now(engine)) == {request.hash for request in requests}
    assert all(b.parent_hash == a.hash for a, b in pairwise(window))


def test_a_long_gap_is_caught_up_in_ranges_across_null_rounds(epochs, anvil_chain, tmp_path):
    engine = new_engine(tmp_path)
    config = epoch_config(anvil_chain, epochs, tmp_path, finality=6)
    requests = []
    for _ in range(8):
        requests.append(anvil_chain.request(funded(1), ORDER))
        anvil_chain.mine(5)
    settled = requests[0]
    anvil_chain.send(funded(3), anvil_chain.deployment.bridge, anvil_chain.fulfil_data(settled, OUTCOME))
    anvil_chain.mine(20)
    listener = Listener(engine, epochs, config, lambda: 9.0)
    listener._reader.size = RangeSize(10, 10)
    run(listener)

    assert set(jobs_now(engine)) == {request.hash for request in requests}
    assert job(engine, settled.hash).state is JobState.FINAL
    assert {job(engine, request.hash).state for request in requests[1:]} == {JobState.READY}


def test_nothing_above_the_head_is_ever_asked_for(epochs, anvil_chain, tmp_path):
    engine = new_engine(tmp_path)
    config = epoch_config(anvil_chain, epochs, tmp_path, finality=6)
    for _ in range(4):
        anvil_chain.request(funded(1), ORDER)
        run(Listener(engine, epochs, config, lambda: 9.0))

    head = epochs.head().number
    calls = epochs.chaos.script.calls
    asked = [call["params"][0] for call in calls("eth_getBlockByNumber")]
    ranges = [call["params"][0] for call in calls("eth_getLogs")]
    assert all(int(tag, 16) <= head for tag in asked if tag.startswith("0x"))
    assert all(int(query["toBlock"], 16) <= head for query in ranges if "toBlock" in query)
