"""Several endpoints of one chain, some of which fail, lag, lie or are elsewhere: the bridge goes on with the rest."""

from contextlib import suppress

import pytest

from bridge.chain.endpoints import endpoint_names
from bridge.chain.signer import TxSigner
from bridge.errors import FatalError, RpcUnavailable
from bridge.relayer import Relayer
from bridge.watch import Alarm
from tests.chain_nodes import FUNDED_SECRETS, funded
from tests.chain_proxy import DROP, ok
from tests.integration.bridge_parts import jobs_now, run
from tests.integration.endpoint_kit import FAULTS, ORDER, changed_block, lagging, setups

pytestmark = pytest.mark.chain


@pytest.fixture
def of(anvil_chain, tmp_path):
    """Makes a setup with so many endpoints."""
    with setups(anvil_chain, tmp_path) as make:
        yield make


@pytest.mark.parametrize("fault", FAULTS)
def test_an_endpoint_that_fails_is_left_for_one_that_does_not(of, fault):
    parts = of(2)
    parts.settle()
    request = parts.chain.request(funded(1), ORDER)
    parts.chain.mine()

    parts.proxies[0].rules["*"] = FAULTS[fault]
    parts.settle()
    assert set(jobs_now(parts.engine)) == {request.hash}
    assert parts.alarms() == set()


@pytest.mark.parametrize("method", ["eth_getBlockByNumber", "eth_getBlockByHash", "eth_getLogs"])
def test_no_step_asks_two_endpoints_but_for_the_second_opinion_on_what_is_final(of, method):
    parts = of(3)
    parts.settle()
    request = parts.chain.request(funded(1), ORDER)
    parts.chain.mine(3)
    count = [0]

    def now_and_then(request, forward):
        count[0] += 1
        return DROP if count[0] % 7 == 1 else forward(request)

    for proxy in parts.proxies:
        proxy.rules[method] = now_and_then
    for _ in range(30):
        before, final = parts.calls(), parts.cursor().final_number
        parts.clock.now += 10
        with suppress(RpcUnavailable):
            parts.listener.step()
        asked = sum(now > then for now, then in zip(parts.calls(), before, strict=True))
        assert asked <= 1 or parts.cursor().final_number > final
    assert set(jobs_now(parts.engine)) == {request.hash}


OTHERS = {
    "S41: another chain id": ("eth_chainId", lambda request, forward: ok(request, "0x1")),
    "another first block": ("eth_getBlockByNumber", changed_block("0x0", hash="0x" + "11" * 32)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_endpoint_on_another_chain_is_refused_for_good_while_the_others_go_on(of, name):
    parts = of(2)
    parts.settle()
    method, rule = OTHERS[name]
    parts.proxies[1].rules[method] = rule
    parts.clock.now += 31
    parts.pool.step()
    assert parts.alarms() == {Alarm.ENDPOINT_REFUSED}

    parts.proxies[1].rules.clear()
    parts.proxies[0].rules["*"] = FAULTS["connections are closed"]
    asked = len(parts.proxies[1].seen)
    with pytest.raises(RpcUnavailable):
        run(parts.listener)
    assert len(parts.proxies[1].seen) == asked

    parts.proxies[0].rules.clear()
    request = parts.chain.request(funded(1), ORDER)
    parts.settle()
    assert set(jobs_now(parts.engine)) == {request.hash}


@pytest.mark.parametrize("name", OTHERS)
def test_when_all_endpoints_are_on_another_chain_the_bridge_halts(of, name):
    parts = of(2)
    parts.settle()
    parts.pool = parts.new_pool(genesis=parts.cursor().genesis_hash)
    parts.listener = parts.new_listener()
    method, rule = OTHERS[name]
    for proxy in parts.proxies:
        proxy.rules[method] = rule
    with pytest.raises(FatalError, match="rpc_urls"):
        parts.settle()
    assert Alarm.ENDPOINT_REFUSED in parts.alarms()
    assert (Alarm.CHAIN_RESET in parts.alarms()) == ("first block" in name)


def test_an_endpoint_that_comes_back_is_checked_before_it_is_used(of):
    parts = of(2)
    parts.settle()
    parts.proxies[0].rules["*"] = FAULTS["connections are closed"]
    parts.chain.mine()
    parts.settle()
    parts.proxies[0].rules = {"eth_chainId": lambda request, forward: ok(request, "0x1")}
    parts.clock.now += 301
    parts.pool.step()

    assert Alarm.ENDPOINT_REFUSED in parts.alarms()
    assert parts.proxies[0].methods()[-3:] == ["eth_chainId", "eth_getBlockByNumber", "eth_getBlockByNumber"]


def test_the_endpoint_in_use_is_checked_again_every_so_often(of):
    parts = of(1)
    parts.settle()
    parts.proxies[0].rules["eth_getBlockByNumber"] = changed_block("0x0", hash="0x" + "11" * 32)
    assert not parts.listener.step()
    parts.clock.now += 301
    with pytest.raises(FatalError, match="first block"):
        parts.listener.step()


def test_never_over_to_an_endpoint_that_is_behind_what_was_taken_in(of):
    parts = of(2)
    parts.settle()
    before = parts.cursor()
    parts.proxies[0].rules["*"] = FAULTS["connections are closed"]
    parts.proxies[1].rules["eth_getBlockByNumber"] = lagging(2)
    raised = parts.settle(6)
    assert len(raised) == 6
    assert parts.cursor() == before

    parts.proxies[1].rules.clear()
    request = parts.chain.request(funded(1), ORDER)
    parts.settle()
    assert set(jobs_now(parts.engine)) == {request.hash}


def test_an_endpoint_that_falls_behind_is_left(of):
    parts = of(2)
    parts.settle()
    parts.pool.step()
    parts.proxies[0].rules["eth_getBlockByNumber"] = lagging(3)
    request = parts.chain.request(funded(1), ORDER)
    parts.chain.mine(3)
    parts.pool.step()
    parts.settle()
    assert set(jobs_now(parts.engine)) == {request.hash}


# -- at rest ----------------------------------------------------------------------------------------------------------


def batches_refused(requests, forward):
    return (400, b'{"error":"no batches"}')


@pytest.mark.parametrize("endpoints", [1, 2, 3])
def test_a_bridge_at_rest_makes_at_most_three_requests_per_poll_and_endpoint(of, endpoints):
    parts = of(endpoints)
    relayer = Relayer(
        parts.engine, parts.pool.client(), TxSigner.from_hex(FUNDED_SECRETS[2]), parts.config, parts.clock
    )
    parts.settle()
    run(relayer)  # checks once that the chain is the right one
    for quiet in (False, True) * 5:
        before = parts.calls()
        if not quiet:
            parts.chain.mine()
        parts.clock.now += 10
        run(parts.listener)
        run(relayer)
        parts.pool.step()
        made = [now - then for now, then in zip(parts.calls(), before, strict=True)]
        assert max(made) <= 3, made
        assert not quiet or sum(made) <= endpoints
    assert parts.cursor().final_number == parts.chain.client.head().number - 4


def test_an_endpoint_without_batches_is_polled_with_a_request_for_each_call(of):
    parts = of(1)
    parts.proxies[0].batch_rule = batches_refused
    parts.settle()
    parts.proxies[0].seen.clear()
    parts.clock.now += 10
    assert not parts.listener.step()
    assert parts.proxies[0].methods() == ["eth_chainId", "eth_getBlockByNumber"]


# -- names and calls that stand alone -------------------------------------------------------------------------------


def test_an_endpoint_is_named_without_what_may_be_a_credential():
    urls = ["https://u:secret@a.test/v1/key", "http://b.test:8545?token=x", "https://a.test/v1/other", "http://[::1]/"]
    assert endpoint_names(urls) == ["a.test:443", "b.test:8545", "a.test:443#3", "::1:80"]


def test_calls_that_stand_alone_go_to_whichever_endpoint_is_sound(of):
    parts = of(2)
    client = parts.pool.client(each_call=True)
    assert client.chain_id() == 31415926
    parts.proxies[0].rules["*"] = FAULTS["connections are closed"]
    with pytest.raises(RpcUnavailable):
        client.chain_id()
    assert client.chain_id() == 31415926
    client.close()
    assert client.chain_id() == 31415926


def test_requests_seconds_and_failures_are_counted_by_endpoint(of):
    parts = of(2)
    parts.settle()
    parts.proxies[0].rules["*"] = FAULTS["connections are closed"]
    parts.settle()
    names = endpoint_names([proxy.url for proxy in parts.proxies])
    samples = parts.watch.samples()
    assert samples["rpc_errors", (("endpoint", names[0]), ("kind", "transport"))] == 1
    assert samples["rpc_requests", (("endpoint", names[1]),)] > 0
    assert samples["endpoint_head", (("endpoint", names[1]),)] == parts.chain.client.head().number
