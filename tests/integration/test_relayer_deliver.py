"""The relayer on real chains: deliveries that go well, race, and whose requests leave the chain."""

import pytest

from bridge.chain.contracts import book_order_calldata
from bridge.chain.views import BookViews
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store.outbox import SendState
from executor.protocol.wire import OnChainState, Order, Outcome
from tests.chain_nodes import funded
from tests.integration.bridge_parts import Clock, attempts, config_for, item, job, new_engine, post, run

pytestmark = pytest.mark.chain

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)
OTHER = Outcome(status=2, reason=200, exit_code=1)


class Parts:
    """A listener and a relayer over one database, on one chain, with a clock of their own."""

    def __init__(self, chain, folder, **relayer):
        self.chain, self.folder, self.clock = chain, folder, Clock()
        self.engine = new_engine(folder)
        self.config = config_for(chain, folder, **relayer)
        self.restart()

    def restart(self):
        """New objects on the same database: what a new process would have."""
        self.listener = Listener(self.engine, self.chain.client, self.config, self.clock)
        self.relayer = Relayer(self.engine, self.chain.client, funded(2), self.config, self.clock)

    def posting(self, order=ORDER, outcome=OUTCOME):
        """A request that is deep enough, with its delivery in the outbox."""
        request = self.chain.request(funded(1), order)
        self.chain.mine()
        run(self.listener)
        post(self.engine, self.chain, request, outcome, self.relayer.address)
        return request

    def mine(self, blocks=1):
        """Mine, and let both loops come to rest."""
        self.chain.mine(blocks)
        run(self.listener)
        run(self.relayer)


@pytest.fixture
def parts(any_chain, tmp_path):
    return Parts(any_chain, tmp_path)


def test_a_delivery_is_sent_mined_and_done_and_its_job_final(parts):
    request = parts.posting()
    run(parts.relayer)
    assert item(parts.engine, request.hash).state is SendState.SENT

    parts.mine()
    assert item(parts.engine, request.hash).state is SendState.DONE
    assert job(parts.engine, request.hash).state is JobState.POSTED
    parts.mine(3)
    assert job(parts.engine, request.hash).state is JobState.FINAL
    assert parts.chain.bridge.result_of(request.id).state is OnChainState.FULFILLED
    assert parts.chain.bridge.credit_of(parts.relayer.address) == 7
    assert len(attempts(parts.engine, request.hash)) == 1


def test_a_strangers_delivery_that_leaves_the_chain_is_replaced_by_ours(parts):
    request = parts.posting()
    snapshot = parts.chain.snapshot()
    parts.chain.send(funded(3), parts.chain.deployment.bridge, parts.chain.fulfil_data(request, OUTCOME))
    parts.chain.mine()
    run(parts.listener)
    run(parts.relayer)
    assert job(parts.engine, request.hash).state is JobState.POSTED
    assert item(parts.engine, request.hash).state is SendState.DONE

    parts.chain.revert(snapshot)
    parts.chain.mine(2)
    run(parts.listener)
    run(parts.relayer)
    parts.mine()

    assert job(parts.engine, request.hash).state is JobState.POSTED
    assert len(attempts(parts.engine, request.hash)) == 1


def test_many_deliveries_keep_to_the_limit_in_flight_and_all_arrive_once(any_chain, tmp_path):
    parts = Parts(any_chain, tmp_path, max_in_flight=3, max_batch=1)
    requests = [parts.posting() for _ in range(7)]
    for _ in range(4):
        run(parts.relayer)
        assert sum(item(parts.engine, r.hash).state is SendState.SENT for r in requests) <= 3
        parts.mine()

    assert {job(parts.engine, request.hash).state for request in requests} <= {JobState.POSTED, JobState.FINAL}
    nonces = [attempt.nonce for request in requests for attempt in attempts(parts.engine, request.hash)]
    assert nonces == list(range(nonces[0], nonces[0] + 7))


def test_a_delivery_after_the_deadline_is_dead_and_says_why(parts):
    request = parts.posting(Order(spec=b"{}", ttl=30, unit_price=1000))
    parts.chain.client.ask("evm_increaseTime", 60)
    parts.chain.mine()
    run(parts.relayer)

    assert item(parts.engine, request.hash).state is SendState.DEAD
    assert "DeadlinePassed" in item(parts.engine, request.hash).detail


def test_overdue_requests_are_refunded_when_the_operator_wants_that(any_chain, tmp_path):
    parts = Parts(any_chain, tmp_path, expire_requests=True)
    request = any_chain.request(funded(1), Order(spec=b"{}", ttl=30, unit_price=1000))
    any_chain.mine()
    run(parts.listener)
    any_chain.client.ask("evm_increaseTime", 60)
    parts.mine(2)
    parts.mine()

    assert job(parts.engine, request.hash).state is JobState.EXPIRED
    assert item(parts.engine, request.hash, "expire").state is SendState.DONE
    assert any_chain.bridge.credit_of(funded(1).address) == 1000


def test_a_callback_gets_the_gas_that_its_order_asks_for(parts):
    book = parts.chain.deployment.result_book
    signed = parts.chain.send(funded(1), book, book_order_calldata(ORDER), ORDER.price)
    parts.chain.mine(2)
    parts.chain.mined(signed)
    run(parts.listener)
    gas = BookViews(parts.chain.client, book).callback_gas()
    order = Order(spec=ORDER.spec, ttl=3600, unit_price=1000, delivery_fee=7, callback=book, callback_gas=gas)
    request = parts.chain.request_of(1, order)
    post(parts.engine, parts.chain, request, OUTCOME, parts.relayer.address)
    run(parts.relayer)
    parts.mine()

    stored = job(parts.engine, request.hash)
    assert (stored.state, stored.callback_ok) == (JobState.POSTED, True)
    assert BookViews(parts.chain.client, book).result_of(1) == OUTCOME


def test_a_request_that_left_the_chain_is_not_answered(parts):
    snapshot = parts.chain.snapshot()
    request = parts.posting()
    parts.chain.revert(snapshot)
    parts.chain.mine(4)
    run(parts.listener)
    run(parts.relayer)

    assert job(parts.engine, request.hash).state is JobState.ORPHANED
    assert attempts(parts.engine, request.hash) == []


def test_a_delivery_in_flight_whose_request_left_the_chain_gives_its_nonce_back(parts):
    snapshot = parts.chain.snapshot()
    request = parts.posting()
    run(parts.relayer)
    (sent,) = attempts(parts.engine, request.hash)
    parts.chain.revert(snapshot)
    parts.chain.mine(4)
    run(parts.listener)
    other = parts.posting(Order(spec=b"{ }", ttl=3600, unit_price=1000))
    run(parts.relayer)
    parts.clock.now += 181
    parts.mine()
    parts.mine()

    assert job(parts.engine, request.hash).state is JobState.ORPHANED
    assert job(parts.engine, other.hash).state is JobState.POSTED
    assert parts.chain.client.nonce(parts.relayer.address) == sent.nonce + 2


def test_two_relayers_on_one_database_send_one_transaction(parts):
    request = parts.posting()
    other = Relayer(parts.engine, parts.chain.client, funded(2), parts.config, parts.clock)
    parts.relayer.step()
    other.step()
    parts.relayer.step()
    parts.mine()
    run(other)

    assert len(attempts(parts.engine, request.hash)) == 1
    assert job(parts.engine, request.hash).state is JobState.POSTED


def test_an_expiry_that_leaves_the_chain_is_sent_again(any_chain, tmp_path):
    parts = Parts(any_chain, tmp_path, expire_requests=True)
    request = any_chain.request(funded(1), Order(spec=b"{}", ttl=30, unit_price=1000))
    any_chain.client.ask("evm_increaseTime", 60)
    any_chain.mine(2)
    run(parts.listener)
    snapshot = any_chain.snapshot()
    run(parts.relayer)
    parts.mine()
    assert job(parts.engine, request.hash).state is JobState.EXPIRED

    any_chain.revert(snapshot)
    any_chain.mine(2)
    run(parts.listener)
    assert job(parts.engine, request.hash).state in (JobState.OBSERVED, JobState.READY)
    run(parts.relayer)
    parts.mine()
    assert job(parts.engine, request.hash).state is JobState.EXPIRED
    assert len(attempts(parts.engine, request.hash, "expire")) == 1
