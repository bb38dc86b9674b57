"""Several endpoints of one chain, some of which fail, lag, lie or are elsewhere: the bridge goes on with the rest."""

from contextlib import ExitStack, suppress

import pytest

from bridge.chain.endpoints import EndpointPool, endpoint_names
from bridge.chain.signer import TxSigner
from bridge.errors import FatalError, HistoryPruned, RpcError, RpcUnavailable
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store.chain import Scope, load_cursor
from bridge.store.engine import reading
from bridge.watch import Alarm, Watch
from executor.protocol.wire import Order
from tests.chain_nodes import FUNDED_SECRETS, funded
from tests.chain_proxy import DROP, Proxy, error, ok
from tests.integration.bridge_parts import Clock, config_for, jobs_now, new_engine, run

pytestmark = pytest.mark.chain

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)


class Setup:
    """A listener on a pool of proxies in front of one anvil."""

    def __init__(self, chain, folder, proxies):
        self.chain, self.proxies = chain, proxies
        self.config = config_for(chain, folder, finality=4)
        self.engine = new_engine(folder)
        self.clock = Clock(float(chain.client.head().timestamp))
        self.watch = Watch()
        self.waits = []
        self.pool = self.new_pool()
        self.listener = self.new_listener()

    def new_pool(self, **known):
        urls = [proxy.url for proxy in self.proxies]
        return EndpointPool(urls, self.config.chain, self.clock, self.watch, sleep=self.waits.append, **known)

    def new_listener(self, **changes):
        chain = self.config.chain.model_copy(update=changes)
        config = self.config.model_copy(update={"chain": chain})
        return Listener(self.engine, self.pool.client(), config, self.clock, watch=self.watch)

    def settle(self, steps=60):
        """Step as the loop does, failures and all, until two polls in a row find nothing; what was raised."""
        raised, quiet = [], 0
        for _ in range(steps):
            self.clock.now += 10
            try:
                quiet = 0 if self.listener.step() else quiet + 1
            except RpcError as exc:
                raised.append(exc)
            if quiet == 2:
                break
        return raised

    def cursor(self):
        with reading(self.engine) as connection:
            return load_cursor(connection, Scope(31415926, self.chain.deployment.bridge))

    def alarms(self):
        return {raised.alarm for raised in self.watch.alarms()}

    def calls(self):
        return [len(proxy.seen) for proxy in self.proxies]


@pytest.fixture
def of(anvil_chain, tmp_path):
    """Makes a setup with so many endpoints."""
    with ExitStack() as stack:

        def make(count):
            uri = anvil_chain.client.transport.endpoint_uri
            setup = Setup(anvil_chain, tmp_path, [stack.enter_context(Proxy(uri)) for _ in range(count)])
            stack.callback(setup.pool.close)
            return setup

        yield make


def lagging(blocks_behind):
    """A rule for eth_getBlockByNumber: the newest block is an older one."""

    def rule(request, forward):
        if request["params"][0] != "latest":
            return forward(request)
        head = int(forward(request)["result"]["number"], 16)
        return forward({**request, "params": [hex(head - blocks_behind), False]})

    return rule


def changed_block(tag, **fields):
    """A rule for eth_getBlockByNumber: the block of this tag, where it is one, has other fields."""

    def rule(request, forward):
        answer = forward(request)
        if request["params"][0] == tag:
            answer["result"] |= fields
        return answer

    return rule


FAULTS = {
    "connections are closed": lambda request, forward: DROP,
    "HTTP 502 with a page": lambda request, forward: (502, b"<html>bad gateway</html>"),
    "HTTP 403": lambda request, forward: (403, b"no"),
    "429 without end": lambda request, forward: (429, b"slow down"),
    "busy without end": lambda request, forward: error(request, 1, "server busy"),
    "null without end": lambda request, forward: ok(request, None),
    "cut JSON": lambda request, forward: b'{"jsonrpc"',
}


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
def test_no_step_asks_two_endpoints(of, method):
    parts = of(3)
    parts.config = config_for(parts.chain, parts.config.data_dir, finality=40)
    parts.listener = parts.new_listener()
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
        before = parts.calls()
        parts.clock.now += 10
        with suppress(RpcUnavailable):
            parts.listener.step()
        assert sum(now > then for now, then in zip(parts.calls(), before, strict=True)) <= 1
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


# -- too often ----------------------------------------------------------------------------------------------------


def test_s29_three_calls_in_ten_are_too_often_and_the_chain_is_followed_all_the_same(of):
    parts = of(1)
    count = [0]

    def sometimes(request, forward):
        count[0] += 1
        return (429, b"slow down") if count[0] % 10 in (3, 6, 9) else forward(request)

    parts.proxies[0].rules["*"] = sometimes
    requests = [parts.chain.request(funded(1), ORDER) for _ in range(4)]
    parts.chain.mine(6)
    parts.settle()
    assert set(jobs_now(parts.engine)) == {request.hash for request in requests}
    assert parts.waits
    assert set(parts.waits) <= {0.25, 0.5, 1.0}


def test_s29_an_endpoint_that_names_a_time_is_left_alone_until_then(of):
    parts = of(1)
    parts.settle()
    proxy = parts.proxies[0]
    proxy.headers["retry-after"] = "60"
    proxy.rules["*"] = FAULTS["429 without end"]
    with pytest.raises(RpcUnavailable):
        parts.listener.step()
    asked = len(proxy.seen)
    proxy.rules.clear()
    parts.clock.now += 59
    with pytest.raises(RpcUnavailable, match="no endpoint can be asked now"):
        parts.listener.step()
    assert len(proxy.seen) == asked

    parts.clock.now += 1
    assert not parts.listener.step()
    assert parts.waits == []


# -- a second opinion ---------------------------------------------------------------------------------------------


def no_logs(request, forward):
    return ok(request, [])


def no_state(request, forward):
    return error(request, 1, "state is pruned")


def test_logs_that_only_another_endpoint_shows_are_taken_before_their_block_is_passed_over(of):
    parts = of(2)
    parts.settle()
    parts.proxies[0].rules = {"eth_getLogs": no_logs, "eth_call": no_state}
    request = parts.chain.request(funded(1), ORDER)
    parts.chain.mine(6)
    parts.settle()

    assert set(jobs_now(parts.engine)) == {request.hash}
    assert {Alarm.ENDPOINTS_DISAGREE, Alarm.LATE_LOGS} <= parts.alarms()


def test_logs_that_another_endpoint_shows_far_behind_the_head_are_taken(of):
    parts = of(2)
    parts.settle()
    parts.proxies[0].rules = {"eth_getLogs": no_logs, "eth_call": no_state}
    request = parts.chain.request(funded(1), ORDER)
    parts.chain.mine(80)
    parts.settle()

    assert set(jobs_now(parts.engine)) == {request.hash}


def test_two_endpoints_on_different_forks_stop_the_final_position(of):
    parts = of(2)
    parts.settle()
    before = parts.cursor()
    parts.proxies[1].rules["eth_getBlockByNumber"] = lambda request, forward: (
        changed_block(request["params"][0], hash="0x" + "22" * 32)(request, forward)
        if request["params"][0] not in ("latest", "0x0")
        else forward(request)
    )
    parts.chain.mine(6)
    raised = parts.settle(6)
    assert any("disagree" in str(exc) for exc in raised)
    assert parts.cursor().final_number == before.final_number
    assert Alarm.ENDPOINTS_DISAGREE in parts.alarms()

    parts.proxies[1].rules.clear()
    parts.settle()
    assert parts.cursor().final_number > before.final_number


NO_OPINION = {
    "dead": {"*": FAULTS["connections are closed"]},
    "behind": {"eth_getBlockByNumber": lagging(20)},
    "refuses": {"eth_getLogs": lambda request, forward: error(request, 1, "block range is too wide")},
    "does not show the block": {
        "eth_getBlockByNumber": lambda request, forward: (
            forward(request) if request["params"][0] in ("latest", "0x0") else ok(request, None)
        )
    },
}


@pytest.mark.parametrize("name", NO_OPINION)
def test_an_endpoint_that_cannot_say_keeps_nobody_waiting(of, name):
    parts = of(2)
    parts.settle()
    before = parts.cursor()
    parts.proxies[1].rules = NO_OPINION[name]
    parts.chain.mine(6)
    parts.settle()
    assert parts.cursor().final_number > before.final_number


def test_a_log_that_only_another_endpoint_shows_and_that_is_of_another_block_is_not_taken(of):
    parts = of(2)
    parts.settle()
    before = parts.cursor()
    parts.proxies[0].rules = {"eth_getLogs": no_logs, "eth_call": no_state}

    def foreign(request, forward):
        answer = forward(request)
        return answer | {"result": [{**entry, "blockHash": "0x" + "77" * 32} for entry in answer["result"]]}

    parts.proxies[1].rules = {"eth_getLogs": foreign, "eth_call": no_state}
    parts.chain.request(funded(1), ORDER)
    parts.chain.mine(6)
    parts.settle(8)
    assert jobs_now(parts.engine) == {}
    assert parts.cursor().final_number == before.final_number
    assert Alarm.ENDPOINTS_DISAGREE in parts.alarms()


# -- history that is gone -------------------------------------------------------------------------------------------


def pruned(request, forward):
    return error(request, 1, "lookbacks of more than 24h0m0s are disallowed")


def test_s44_pruned_history_is_read_from_another_endpoint(of):
    parts = of(2)
    parts.settle()
    request = parts.chain.request(funded(1), ORDER)
    parts.chain.mine(90)
    parts.proxies[0].rules = {"eth_getLogs": pruned}
    parts.settle()
    assert set(jobs_now(parts.engine)) == {request.hash}


def test_s44_pruned_history_that_nobody_has_halts_the_position_loudly_and_passes_over_nothing(of):
    parts = of(2)
    parts.settle()
    before = parts.cursor()
    request = parts.chain.request(funded(1), ORDER)
    parts.chain.mine(90)
    for proxy in parts.proxies:
        proxy.rules = {"eth_getLogs": pruned}
    raised = parts.settle(6)
    assert {type(exc) for exc in raised} == {HistoryPruned}
    assert parts.cursor() == before
    assert Alarm.HISTORY_PRUNED in parts.alarms()

    parts.proxies[1].rules.clear()
    parts.settle()
    assert set(jobs_now(parts.engine)) == {request.hash}
    assert all(r.over_at is not None for r in parts.watch.alarms() if r.alarm is Alarm.HISTORY_PRUNED)


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
