"""The listener on real chains: what it stores when requests come, move, go, and are settled."""

import pytest

from bridge.errors import StaleTransition
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.store.chain import Scope, load_cursor, save_cursor
from bridge.store.engine import reading, transaction
from executor.protocol.wire import OnChainState, Order, Outcome
from tests.chain_nodes import funded
from tests.integration.bridge_parts import config_for, job, new_engine, run

pytestmark = pytest.mark.chain

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)


@pytest.fixture
def engine(tmp_path):
    return new_engine(tmp_path)


@pytest.fixture
def listener(engine, any_chain, tmp_path):
    return Listener(engine, any_chain.client, config_for(any_chain, tmp_path), lambda: 1000.0)


def test_a_request_is_stored_with_everything_that_a_node_needs(any_chain, engine, listener):
    request = any_chain.request(funded(1), ORDER)
    run(listener)

    stored = job(engine, request.hash)
    assert stored.request == request
    assert stored.spec == ORDER.spec
    assert stored.state is JobState.OBSERVED
    assert stored.block_hash == any_chain.client.head().hash


def test_a_request_is_ready_once_it_is_deep_enough(any_chain, engine, listener):
    request = any_chain.request(funded(1), ORDER)
    run(listener)
    any_chain.mine()
    run(listener)

    assert job(engine, request.hash).state is JobState.READY


def test_a_result_that_a_stranger_relayed_is_posted_and_then_final(any_chain, engine, listener):
    request = any_chain.request(funded(1), ORDER)
    run(listener)
    stranger = funded(3)
    sent = any_chain.send(stranger, any_chain.deployment.bridge, any_chain.fulfil_data(request, OUTCOME))
    any_chain.mine()
    run(listener)

    stored = job(engine, request.hash)
    assert (stored.state, stored.outcome, stored.settled_tx) == (JobState.POSTED, OUTCOME, sent.hash)
    assert stored.chain_state == OnChainState.FULFILLED

    any_chain.mine(3)
    run(listener)
    assert job(engine, request.hash).state is JobState.FINAL


def test_a_new_listener_on_the_same_database_goes_on_where_the_last_one_was(any_chain, engine, listener, tmp_path):
    first = any_chain.request(funded(1), ORDER)
    run(listener)
    second = any_chain.request(funded(1), ORDER)
    third = any_chain.request(funded(1), ORDER)
    run(Listener(engine, any_chain.client, config_for(any_chain, tmp_path), lambda: 1000.0))

    assert [job(engine, r.hash).request.id for r in (first, second, third)] == [1, 2, 3]


def test_of_two_listeners_on_one_database_one_gives_way(any_chain, engine, listener, tmp_path):
    run(listener)
    any_chain.mine()
    other = Listener(engine, any_chain.client, config_for(any_chain, tmp_path), lambda: 1000.0)
    with reading(engine) as connection:
        scope = Scope(31415926, any_chain.deployment.bridge)
        before = load_cursor(connection, scope)
    other.step()

    with pytest.raises(StaleTransition), transaction(engine) as connection:
        save_cursor(connection, scope, before, before, 1000.0)
