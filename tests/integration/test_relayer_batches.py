"""Several results in one transaction: what goes together, what goes alone, and what the chain does to it."""

from dataclasses import replace

import pytest
from eth_abi import abi
from sqlalchemy import insert, select

from bridge.chain.contracts import book_order_calldata, compute_bridge, vouch_calldata
from bridge.chain.views import BookViews
from bridge.jobs import JobState
from bridge.store import outbox
from bridge.store.engine import transaction
from bridge.store.outbox import PAGE, SendState
from bridge.store.schema import jobs
from bridge.watch import Alarm
from executor.protocol.wire import OnChainState, label_hash
from tests.chain_nodes import funded
from tests.chain_proxy import error, ok
from tests.integration.bridge_parts import attempts, item, job, post, run
from tests.integration.relayer_parts import ORDER, OUTCOME, Relaying, die_at_call, die_at_commit, relaying

pytestmark = pytest.mark.chain


@pytest.fixture
def parts(any_chain, tmp_path):
    with relaying(any_chain, tmp_path) as made:
        yield made


@pytest.fixture
def on_anvil(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path) as made:
        yield made


def test_results_that_wait_together_go_out_in_one_transaction(parts):
    requests = parts.posting(5)
    parts.finish(requests)

    (sent,) = parts.sent(requests)
    assert len(sent.weights) == 5
    assert parts.chain.bridge.credit_of(parts.relayer.address) == 5 * 7
    assert (parts.value("batches"), parts.value("batched_deliveries")) == (1, 5)
    assert sent.cost > 0


def test_a_batch_is_no_larger_than_configured(any_chain, tmp_path):
    with relaying(any_chain, tmp_path, max_batch=2) as parts:
        requests = parts.posting(5)
        parts.finish(requests)

        assert sorted(len(sent.weights) for sent in parts.sent(requests)) == [1, 2, 2]


def test_a_batch_stays_within_its_gas(any_chain, tmp_path):
    with relaying(any_chain, tmp_path, max_batch_gas=300_000) as parts:
        requests = parts.posting(6)
        parts.finish(requests)

        assert all(sent.gas <= 300_000 for sent in parts.sent(requests))
        assert len(parts.sent(requests)) in (2, 3)


def test_large_results_are_split_below_the_chains_message_limit(on_anvil):
    requests = on_anvil.posting(5, spec=b"{" + b" " * 16_000 + b"}")
    on_anvil.finish(requests)

    assert sorted(len(sent.weights) for sent in on_anvil.sent(requests)) == [2, 3]
    assert all(len(sent.raw) < 64 * 1024 for sent in on_anvil.sent(requests))


def test_an_entry_that_would_be_skipped_is_left_out_and_judged_alone(parts):
    late = parts.posting(1, ttl=30)
    good = parts.posting(3)
    parts.chain.client.ask("evm_increaseTime", 60)
    parts.chain.mine()
    run(parts.relayer)

    assert parts.states(late) == [SendState.DEAD]
    assert "DeadlinePassed" in item(parts.engine, late[0].hash).detail
    assert Alarm.DELIVERY_DEAD in parts.raised()
    assert [len(sent.weights) for sent in parts.sent(good)] == [3]


def believes_all_entries(count):
    """A rule for an endpoint that simulates a batch on a state in which every entry is good."""
    selector = "0x" + compute_bridge().selector("fulfilMany").hex()
    flags = "0x" + abi.encode(["bool[]"], [[True] * count]).hex()

    def rule(request, forward):
        return ok(request, flags) if request["params"][0]["data"].startswith(selector) else forward(request)

    return rule


def test_an_entry_that_was_skipped_on_chain_after_all_is_sent_alone(parts):
    good = parts.posting(2)
    (bad,) = parts.posting(1, curator=funded(3).address)
    parts.proxy.rules["eth_call"] = believes_all_entries(3)
    run(parts.relayer)
    parts.chain.mine()
    parts.relayer.step()
    assert parts.states([*good, bad]) == [SendState.DONE, SendState.DONE, SendState.MINED]

    parts.chain.mine()
    run(parts.listener)
    run(parts.relayer)
    assert parts.states([bad]) == [SendState.MINED]  # the state that was shown may be of a block before

    parts.chain.mine()
    run(parts.listener)
    run(parts.relayer)
    assert parts.states([bad]) == [SendState.NEW]
    assert "MissingLabels" in item(parts.engine, bad.hash).detail
    words, node = [label_hash("node=admitted")], parts.chain.nodes[0].node_id
    parts.chain.send(funded(3), parts.chain.deployment.registry, vouch_calldata(node, words), gas=200_000)
    parts.chain.mine()
    run(parts.listener)
    parts.clock.now += 61
    parts.finish([*good, bad])
    assert [len(sent.weights) for sent in attempts(parts.engine, bad.hash)] == [3, 1]


def test_a_batch_with_callbacks_brings_each_its_gas(parts):
    book = parts.chain.deployment.result_book
    for _ in range(2):
        parts.chain.send(funded(1), book, book_order_calldata(ORDER), ORDER.price)
    parts.chain.mine(2)
    run(parts.listener)
    order = replace(ORDER, callback=book, callback_gas=BookViews(parts.chain.client, book).callback_gas())
    requests = [parts.chain.request_of(n, order) for n in (1, 2)]
    for request in requests:
        post(parts.engine, parts.chain, request, OUTCOME, parts.relayer.address)
    parts.finish(requests)

    assert [len(sent.weights) for sent in parts.sent(requests)] == [2]
    assert [job(parts.engine, request.hash).callback_ok for request in requests] == [True, True]


def test_a_batch_that_no_endpoint_takes_is_tried_again_one_by_one(on_anvil):
    parts = on_anvil
    requests = parts.posting(2)
    calls = []

    def refuse_first(request, forward):
        calls.append(request)
        return error(request, 1, "message too big") if len(calls) == 1 else forward(request)

    parts.proxy.rules["eth_sendRawTransaction"] = refuse_first
    parts.finish(requests, rounds=16)

    singles = [sent for sent in parts.sent(requests) if sent.mined_ok]
    assert [len(sent.weights) for sent in singles] == [1, 1]


def test_a_stranger_who_relays_one_of_a_batch_keeps_nothing_from_the_others(parts):
    requests = parts.posting(3)
    run(parts.relayer)
    data = parts.chain.fulfil_data(requests[1], OUTCOME)
    signed = parts.chain.send(funded(3), parts.chain.deployment.bridge, data)
    parts.chain.mine()
    parts.chain.mined(signed)
    parts.finish(requests)

    assert len(parts.sent(requests)) == 1


def test_refunds_go_alone(any_chain, tmp_path):
    with relaying(any_chain, tmp_path, expire_requests=True) as parts:
        requests = parts.requests(3, ttl=30)
        run(parts.listener)
        any_chain.client.ask("evm_increaseTime", 60)
        parts.mine(2)
        parts.mine()

        assert {job(parts.engine, request.hash).state for request in requests} == {JobState.EXPIRED}


@pytest.mark.parametrize("number", range(1, 15))
def test_a_kill_at_any_commit_loses_and_doubles_nothing_of_a_batch(on_anvil, number):
    parts = on_anvil
    requests = parts.posting(3)
    die_at_commit(parts, number)
    parts.restart()
    parts.finish(requests, rounds=8)

    assert len(parts.sent(requests)) == 1
    assert parts.chain.bridge.credit_of(parts.relayer.address) == 3 * 7


@pytest.mark.parametrize("number", range(1, 26, 2))
def test_a_kill_at_any_call_loses_and_doubles_nothing_of_a_batch(on_anvil, number):
    parts = on_anvil
    requests = parts.posting(3)
    die_at_call(parts, number)
    parts.restart()
    parts.finish(requests, rounds=8)

    assert all(len(sent.weights) in (1, 3) for sent in parts.sent(requests))
    assert parts.chain.bridge.credit_of(parts.relayer.address) == 3 * 7


def test_a_step_asks_for_everything_in_few_requests(on_anvil):
    parts = on_anvil
    requests = parts.posting(20)
    run(parts.relayer)
    parts.proxy.seen.clear()
    parts.relayer.step()

    assert len(parts.proxy.seen) <= 2
    assert set(parts.states(requests)) == {SendState.SENT}


def estimates(parts):
    return [call for call in parts.proxy.calls() if call["method"] == "eth_estimateGas"]


def with_a_batch_before(parts, size):
    """So many deliveries wait, and as many like them have just gone out together."""
    parts.posting(size)
    run(parts.relayer)
    parts.mine()
    parts.proxy.seen.clear()
    return parts.posting(size)


def test_a_batch_like_one_before_is_signed_by_the_estimate_that_was_made_for_that_one(parts):
    requests = with_a_batch_before(parts, 3)
    parts.finish(requests)

    (sent,) = parts.sent(requests)
    assert (len(sent.weights), sent.mined_ok) == (3, True)
    assert sent.gas_used < sent.gas < 2 * sent.gas_used
    assert estimates(parts) == []


@pytest.mark.parametrize("change", [{"spec": b"{" + b" " * 500 + b"}"}, {"callback_gas": 50_000}])
def test_a_batch_of_another_kind_gets_an_estimate_of_its_own(on_anvil, change):
    parts = on_anvil
    with_a_batch_before(parts, 3)
    run(parts.relayer)
    if "callback_gas" in change:
        change = change | {"callback": parts.chain.deployment.result_book}
    requests = parts.posting(3, **change)
    run(parts.relayer)

    assert len(estimates(parts)) == 1
    assert [len(sent.weights) for sent in parts.sent(requests)] == [3]


def test_an_estimate_that_a_call_does_not_confirm_is_made_anew(parts):
    requests = with_a_batch_before(parts, 3)

    def needs_more(request, forward):
        return error(request, -32000, "out of gas") if "gas" in request["params"][0] else forward(request)

    parts.proxy.rules["eth_call"] = needs_more
    parts.finish(requests)

    assert len(estimates(parts)) == 1
    assert [len(sent.weights) for sent in parts.sent(requests)] == [3]


def test_an_entry_that_a_known_batch_would_leave_out_is_judged_alone(on_anvil):
    parts = on_anvil
    parts.posting(3, ttl=3600)
    run(parts.relayer)
    parts.mine()
    (late,), good = parts.posting(1, ttl=30), parts.posting(2)
    parts.chain.client.ask("evm_increaseTime", 60)
    parts.chain.mine()
    run(parts.relayer)

    assert parts.states([late]) == [SendState.DEAD]
    assert [len(sent.weights) for sent in parts.sent(good)] == [2]


def test_a_batch_with_too_little_gas_after_all_loses_and_doubles_nothing(parts):
    requests = with_a_batch_before(parts, 3)
    poster = parts.relayer._poster
    poster._estimates[3] = replace(poster._estimates[3], gas=poster._estimates[3].gas // 2)
    parts.proxy.rules["eth_call"] = believes_all_entries(3)
    run(parts.relayer)
    parts.proxy.rules.clear()
    parts.finish(requests)

    assert [(len(sent.weights), sent.mined_ok) for sent in parts.sent(requests)] == [(3, False), *[(1, True)] * 3]
    assert parts.chain.bridge.credit_of(parts.relayer.address) == 6 * 7
    assert poster._estimates == {}


def test_with_nothing_to_send_nothing_is_asked(on_anvil):
    parts = on_anvil
    parts.finish(parts.posting(2))
    parts.mine(4)
    parts.proxy.seen.clear()
    for _ in range(3):
        parts.relayer.step()
        parts.clock.now += 61

    assert parts.proxy.seen == []


def test_two_bridges_with_databases_of_their_own_deliver_each_result_once(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path / "a") as one, relaying(anvil_chain, tmp_path / "b", account=3) as two:
        requests = one.posting(4)
        run(two.listener)
        for request in requests:
            post(two.engine, anvil_chain, request, OUTCOME, one.relayer.address)
        run(one.relayer)
        run(two.relayer)
        anvil_chain.mine()
        for parts in (one, two):
            parts.finish(requests, rounds=6)

        assert {anvil_chain.bridge.result_of(r.id).state for r in requests} == {OnChainState.FULFILLED}
        assert anvil_chain.bridge.credit_of(one.relayer.address) == 4 * 7
        assert not {Alarm.OUTCOME_CONFLICT, Alarm.DELIVERY_DEAD} & (one.raised() | two.raised())


def test_an_order_with_no_fee_and_one_with_a_fee_may_share(parts):
    free = parts.posting(1, delivery_fee=0)
    paid = parts.posting(1)
    run(parts.relayer)

    assert [len(sent.weights) for sent in parts.sent([*free, *paid])] == [2]
    assert attempts(parts.engine, free[0].hash) == attempts(parts.engine, paid[0].hash)


def test_a_crowd_of_deliveries_that_cannot_be_signed_hides_nobody_elses(anvil_chain, tmp_path):
    parts = Relaying(anvil_chain, tmp_path, None, anvil_chain.client)
    (model,) = parts.posting(1)
    calldata = item(parts.engine, model.hash).calldata
    with transaction(parts.engine) as connection:
        like = connection.execute(select(jobs).where(jobs.c.request_hash == model.hash)).one()._asdict()
        for number in range(PAGE):
            mark = number.to_bytes(32, "big")  # of a request that the endpoint does not show
            connection.execute(insert(jobs).values(like | {"request_hash": mark, "request_id": 10**6 + number}))
            outbox.enqueue(connection, mark, "fulfil", calldata, 1.0)
    mine = parts.posting(1)
    for _ in range(3):
        parts.relayer.step()
        parts.clock.now += 61
    assert parts.sent(mine)
