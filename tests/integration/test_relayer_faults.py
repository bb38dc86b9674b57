"""The relayer and the listener killed at every commit and every call, and behind an endpoint that loses things."""

from dataclasses import replace

import pytest

from bridge.chain.client import ChainClient
from bridge.chain.contracts import book_order_calldata, cancel_calldata, draw_cancelled_calldata
from bridge.chain.views import BookViews
from bridge.errors import FatalError
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store.engine import reading, transaction
from bridge.store.outbox import SendState, attempts_at, enqueue, note_mined
from executor.protocol.wire import Outcome
from tests.chain_nodes import funded
from tests.chain_proxy import Proxy, error, ok
from tests.integration.bridge_parts import Clock, attempts, config_for, item, job, new_engine, post, run
from tests.integration.relayer_parts import ORDER, OUTCOME, die_at_call, die_at_commit

pytestmark = pytest.mark.chain


class Setup:
    def __init__(self, chain, folder, proxy, client):
        self.chain, self.folder, self.proxy, self.client, self.clock = chain, folder, proxy, client, Clock()
        self.engine = new_engine(folder)
        self.config = config_for(chain, folder)
        self.restart()

    def restart(self):
        self.listener = Listener(self.engine, self.client, self.config, self.clock)
        self.relayer = Relayer(self.engine, self.client, funded(2), self.config, self.clock)

    def posting(self):
        request = self.chain.request(funded(1), ORDER)
        self.chain.mine()
        run(self.listener)
        post(self.engine, self.chain, request, OUTCOME, self.relayer.address)
        return request

    def finish(self, request):
        """Go on until the job is final; time passes, blocks come."""
        for _ in range(12):
            run(self.relayer)
            self.chain.mine()
            run(self.listener)
            self.clock.now += 61
        run(self.relayer)
        assert job(self.engine, request.hash).state is JobState.FINAL
        assert item(self.engine, request.hash).state is SendState.DONE


@pytest.fixture
def parts(anvil_chain, tmp_path):
    with Proxy(anvil_chain.client.transport.endpoint_uri) as proxy, ChainClient(proxy.url, 5.0) as client:
        yield Setup(anvil_chain, tmp_path, proxy, client)


def test_a_receipt_that_never_comes_does_not_keep_the_delivery_from_being_done(parts):
    request = parts.posting()
    parts.proxy.rules["eth_getTransactionReceipt"] = lambda request, forward: ok(request, None)
    parts.finish(request)

    assert len(attempts(parts.engine, request.hash)) == 1


def test_a_refusal_that_says_nothing_known_keeps_the_bytes_and_tries_again(parts):
    request = parts.posting()
    parts.proxy.rules["eth_sendRawTransaction"] = lambda request, forward: error(
        request, -32000, "the moon is in the wrong house"
    )
    run(parts.relayer)
    assert item(parts.engine, request.hash).state is SendState.SENT
    parts.proxy.rules.clear()
    parts.finish(request)

    assert len(attempts(parts.engine, request.hash)) == 1


def test_fees_that_an_endpoint_finds_too_low_are_raised_at_once(parts):
    request = parts.posting()
    refusal = error({"id": 0}, 1, "replace by fee has too low GasPremium, increase GasPremium to 9")["error"]
    calls = []

    def refuse_first(request, forward):
        calls.append(request)
        return {"jsonrpc": "2.0", "id": request["id"], "error": refusal} if len(calls) == 1 else forward(request)

    parts.proxy.rules["eth_sendRawTransaction"] = refuse_first
    run(parts.relayer)
    first, second = attempts(parts.engine, request.hash)
    assert first.nonce == second.nonce
    parts.finish(request)


@pytest.mark.parametrize("number", range(1, 15))
def test_a_kill_at_any_commit_loses_and_doubles_nothing(parts, number):
    request = parts.posting()
    die_at_commit(parts, number)
    parts.restart()
    parts.finish(request)

    assert len(attempts(parts.engine, request.hash)) == 1
    assert parts.chain.bridge.credit_of(parts.relayer.address) == 7


@pytest.mark.parametrize("number", range(1, 40, 3))
def test_a_kill_at_any_call_loses_and_doubles_nothing(parts, number):
    request = parts.posting()
    die_at_call(parts, number)
    parts.restart()
    parts.finish(request)

    assert len(attempts(parts.engine, request.hash)) == 1
    assert parts.chain.bridge.credit_of(parts.relayer.address) == 7


def test_a_database_that_is_lost_is_rebuilt_from_the_chain_without_a_second_effect(parts, tmp_path):
    request = parts.posting()
    run(parts.relayer)
    parts.chain.mine()
    folder = tmp_path / "rebuilt"
    folder.mkdir()
    parts.engine = new_engine(folder)
    parts.restart()
    run(parts.listener)

    assert job(parts.engine, request.hash).state is JobState.POSTED
    run(parts.relayer)
    assert parts.proxy.methods().count("eth_sendRawTransaction") == 1


def test_a_filler_that_is_lost_is_sent_again_and_then_raised(parts):
    request = parts.posting()
    nonce = parts.chain.client.nonce(parts.relayer.address)
    parts.proxy.rules["eth_sendRawTransaction"] = lambda request, forward: error(request, 1, "message too big")
    run(parts.relayer)
    parts.proxy.rules["eth_sendRawTransaction"] = lambda request, forward: error(request, 1, "who knows")
    for seconds in (181, 61, 121):
        parts.clock.now += seconds
        run(parts.relayer)
    with reading(parts.engine) as connection:
        under = attempts_at(connection, parts.relayer.address, nonce)

    assert [not attempt.weights for attempt in under] == [False, True, True]
    assert under[1].fees.max_fee < under[2].fees.max_fee
    assert item(parts.engine, request.hash).state is SendState.DEAD


def test_a_filler_whose_fees_may_not_be_raised_is_sent_again_as_it_is(parts):
    parts.posting()
    nonce = parts.chain.client.nonce(parts.relayer.address)
    parts.proxy.rules["eth_sendRawTransaction"] = lambda request, forward: error(request, 1, "message too big")
    run(parts.relayer)
    parts.proxy.rules["eth_sendRawTransaction"] = lambda request, forward: error(request, 1, "who knows")
    parts.clock.now += 181
    run(parts.relayer)
    with reading(parts.engine) as connection:
        filler = attempts_at(connection, parts.relayer.address, nonce)[-1]
    cap = {"max_fee_per_gas_wei": filler.fees.max_fee}
    parts.config = parts.config.model_copy(update={"relayer": parts.config.relayer.model_copy(update=cap)})
    parts.restart()
    parts.proxy.rules.clear()
    parts.clock.now += 181
    run(parts.relayer)
    parts.chain.mine()

    with reading(parts.engine) as connection:
        assert attempts_at(connection, parts.relayer.address, nonce)[-1].tx_hash == filler.tx_hash
    assert parts.chain.client.receipt(filler.tx_hash).ok


def stale_state(number):
    """A rule that answers calls from the state of an older block, as a node that is behind does."""
    return lambda request, forward: forward({**request, "params": [request["params"][0], hex(number)]})


def test_a_receipt_whose_block_left_the_chain_before_its_effect_was_seen_is_forgotten(parts):
    request = parts.posting()
    snapshot = parts.chain.snapshot()
    head = parts.chain.client.head().number
    parts.proxy.rules["eth_call"] = stale_state(head)
    run(parts.relayer)
    parts.chain.mine()
    run(parts.relayer)
    assert item(parts.engine, request.hash).state is SendState.MINED

    parts.chain.revert(snapshot)
    parts.chain.mine(2)
    run(parts.relayer)
    assert item(parts.engine, request.hash).state is SendState.SENT
    parts.proxy.rules.clear()
    parts.finish(request)
    assert len(attempts(parts.engine, request.hash)) == 1


def test_a_receipt_that_was_noted_before_a_kill_is_forgotten_when_its_block_left_the_chain(parts):
    request = parts.posting()
    snapshot = parts.chain.snapshot()
    run(parts.relayer)
    parts.chain.mine()
    (attempt,) = attempts(parts.engine, request.hash)
    receipt = parts.client.receipt(attempt.tx_hash)
    with transaction(parts.engine) as connection:  # and the row is still SENT: the process died here
        note_mined(connection, receipt, None)

    parts.chain.revert(snapshot)
    parts.chain.mine(2)
    parts.restart()
    parts.finish(request)
    assert len(attempts(parts.engine, request.hash)) == 1


def test_an_end_that_left_the_chain_before_the_listener_saw_it_is_looked_at_again(parts):
    request = parts.posting()
    snapshot = parts.chain.snapshot()
    other = Outcome(status=2, reason=200, exit_code=1)
    parts.chain.send(funded(3), parts.chain.deployment.bridge, parts.chain.fulfil_data(request, other))
    parts.chain.mine()
    run(parts.relayer)
    assert item(parts.engine, request.hash).state is SendState.SUPERSEDED

    parts.chain.revert(snapshot)
    parts.chain.mine(2)
    parts.finish(request)


def test_a_refund_that_left_the_chain_before_the_listener_saw_it_is_sent_again(parts):
    parts.config = config_for(parts.chain, parts.folder, expire_requests=True)
    parts.restart()
    request = parts.chain.request(funded(1), replace(ORDER, ttl=60))
    parts.chain.client.ask("evm_increaseTime", 100)
    parts.chain.mine(2)
    run(parts.listener)
    snapshot = parts.chain.snapshot()
    run(parts.relayer)
    parts.chain.mine()
    run(parts.relayer)
    assert item(parts.engine, request.hash, "expire").state is SendState.DONE

    parts.chain.revert(snapshot)
    parts.chain.mine(2)
    for _ in range(8):
        run(parts.listener)
        run(parts.relayer)
        parts.chain.mine()
    assert job(parts.engine, request.hash).state is JobState.FINAL


def test_a_cancelled_requests_refund_is_drawn_when_it_is_in_the_outbox(parts):
    request = parts.chain.request(funded(1), ORDER)
    parts.chain.send(funded(1), parts.chain.deployment.bridge, cancel_calldata(request.id, ORDER), gas=200_000)
    parts.chain.mine(2)
    run(parts.listener)
    with transaction(parts.engine) as connection:
        enqueue(connection, request.hash, "draw", draw_cancelled_calldata(request.id, ORDER), 1000.0)
    run(parts.relayer)
    assert "CancelPending" in item(parts.engine, request.hash, "draw").detail
    parts.chain.client.ask("evm_increaseTime", 10)
    parts.chain.mine()
    parts.clock.now += 61
    run(parts.relayer)
    parts.chain.mine()
    run(parts.listener)
    run(parts.relayer)

    assert job(parts.engine, request.hash).state is JobState.CANCELLED
    assert item(parts.engine, request.hash, "draw").state is SendState.DONE


def test_another_chain_behind_the_endpoint_halts(parts):
    parts.posting()
    parts.proxy.rules["eth_chainId"] = lambda request, forward: ok(request, "0x1")
    with pytest.raises(FatalError, match="chain"):
        parts.relayer.step()


def test_before_the_listener_has_started_nothing_is_done(parts):
    assert not parts.relayer.step()


def test_a_delivery_that_is_put_in_again_with_other_calldata_starts_over(parts):
    request = parts.posting()
    run(parts.relayer)
    data = parts.chain.fulfil_data(request, OUTCOME, funded(3).address)
    with transaction(parts.engine) as connection:
        enqueue(connection, request.hash, "fulfil", data, 1000.0)
        enqueue(connection, request.hash, "fulfil", data, 1000.0)
    assert item(parts.engine, request.hash).state is SendState.NEW
    parts.finish(request)
    assert len(attempts(parts.engine, request.hash)) <= 2


def test_an_estimate_that_forgets_the_callbacks_gas_is_made_up_for(parts):
    book = parts.chain.deployment.result_book
    parts.chain.send(funded(1), book, book_order_calldata(ORDER), ORDER.price)
    parts.chain.mine(2)
    run(parts.listener)
    gas = BookViews(parts.client, book).callback_gas()
    request = parts.chain.request_of(1, replace(ORDER, callback=book, callback_gas=gas))
    post(parts.engine, parts.chain, request, OUTCOME, parts.relayer.address)

    def used_only(request, forward):
        answer = forward(request)
        return answer | {"result": hex(int(answer["result"], 16) - gas)}

    parts.proxy.rules["eth_estimateGas"] = used_only
    parts.finish(request)
    assert [attempt.mined_ok for attempt in attempts(parts.engine, request.hash)] == [True]
    assert job(parts.engine, request.hash).callback_ok is True


def test_an_endpoint_that_refuses_an_estimate_is_asked_again_later(parts):
    request = parts.posting()
    parts.proxy.rules["eth_estimateGas"] = lambda request, forward: error(request, -32601, "method not found")
    run(parts.relayer)
    assert "method not found" in item(parts.engine, request.hash).detail
    parts.proxy.rules.clear()
    parts.clock.now += 61
    parts.finish(request)
