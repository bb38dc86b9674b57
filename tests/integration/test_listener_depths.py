"""How deep is deep enough: depths, tags and optimism; and what the listener tells about a chain that goes wrong."""

import pytest

from bridge.chain.client import ChainClient
from bridge.chain.signer import TxSigner
from bridge.errors import FatalError
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store.chain import Scope, load_cursor
from bridge.store.engine import reading
from bridge.watch import Alarm, Watch
from executor.protocol.wire import Order, Outcome
from tests.chain_nodes import FUNDED_SECRETS, funded
from tests.chain_proxy import Proxy, error, ok
from tests.integration.bridge_parts import Clock, attempts, config_for, job, new_engine, post, run

pytestmark = pytest.mark.chain

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)


class Setup:
    def __init__(self, chain, folder, proxy, client):
        self.chain, self.proxy, self.client = chain, proxy, client
        self.engine = new_engine(folder)
        self.config = config_for(chain, folder, confirmation=2, posting=6, finality=8, max_subsidy_wei=10**18)
        self.clock = Clock(float(chain.client.head().timestamp))
        self.watch = Watch()

    def listener(self, **changes):
        """A listener whose chain settings are these; starts at rest."""
        self.config = self.config.model_copy(update={"chain": self.config.chain.model_copy(update=changes)})
        listener = Listener(self.engine, self.client, self.config, self.clock, watch=self.watch)
        run(listener)
        return listener

    def request(self):
        return self.chain.request(funded(1), ORDER)

    def state(self, request):
        return job(self.engine, request.hash).state

    def final(self):
        with reading(self.engine) as connection:
            return load_cursor(connection, Scope(31415926, self.chain.deployment.bridge)).final_number

    def head(self):
        return self.chain.client.head().number

    def alarms(self):
        return {raised.alarm for raised in self.watch.alarms()}

    def is_over(self, alarm):
        return next(raised for raised in self.watch.alarms() if raised.alarm is alarm).over_at is not None

    def tag(self, name, answer):
        """The endpoint answers for a tag with the block of a number, or as a rule says."""

        def rule(request, forward):
            if request["params"][0] != name:
                return forward(request)
            if callable(answer):
                return answer(request, forward)
            return forward({**request, "params": [hex(answer), False]})

        self.proxy.rules["eth_getBlockByNumber"] = rule


@pytest.fixture
def parts(anvil_chain, tmp_path):
    with Proxy(anvil_chain.client.transport.endpoint_uri) as proxy, ChainClient(proxy.url, 5.0) as client:
        yield Setup(anvil_chain, tmp_path, proxy, client)


# -- when a request runs ------------------------------------------------------------------------------------------


def test_an_optimistic_bridge_runs_a_request_at_once_and_posts_it_only_at_its_depth(parts):
    listener = parts.listener(optimistic=True)
    request = parts.request()
    run(listener)
    assert parts.state(request) is JobState.READY

    relayer = Relayer(parts.engine, parts.client, TxSigner.from_hex(FUNDED_SECRETS[2]), parts.config, parts.clock)
    post(parts.engine, parts.chain, request, OUTCOME, relayer.address)
    parts.chain.mine(5)
    run(listener)
    run(relayer)
    assert attempts(parts.engine, request.hash) == []

    parts.chain.mine()
    run(listener)
    run(relayer)
    assert len(attempts(parts.engine, request.hash)) == 1


def test_a_request_waits_for_its_depth_and_for_the_tag(parts):
    listener = parts.listener(confirmation_tag="safe")
    request = parts.request()
    where = parts.head()
    parts.tag("safe", where - 1)
    parts.chain.mine(3)
    run(listener)
    assert parts.state(request) is JobState.OBSERVED

    parts.tag("safe", where)
    parts.chain.mine()
    run(listener)
    assert parts.state(request) is JobState.READY


def test_a_tag_above_the_depth_does_not_make_a_request_run_earlier(parts):
    listener = parts.listener(confirmation_tag="safe")
    request = parts.request()
    parts.tag("safe", parts.head())
    run(listener)
    assert parts.state(request) is JobState.OBSERVED


def test_without_the_tag_that_is_waited_for_no_request_runs(parts):
    listener = parts.listener(confirmation_tag="finalized")
    request = parts.request()
    parts.tag("finalized", lambda request, forward: error(request, 1, "unknown tag"))
    parts.chain.mine(4)
    run(listener)
    assert parts.state(request) is JobState.OBSERVED


# -- what is final ------------------------------------------------------------------------------------------------


def test_what_the_endpoint_calls_final_is_final_before_its_depth(parts):
    listener = parts.listener(finality_tag="finalized")
    parts.chain.mine(4)
    parts.tag("finalized", parts.head() - 2)
    run(listener)
    assert parts.final() == parts.head() - 2
    assert parts.alarms() == set()


def elsewhere(number):
    def rule(request, forward):
        answer = forward({**request, "params": [hex(number), False]})
        answer["result"]["hash"] = "0x" + "33" * 32
        return answer

    return rule


ODD_TAGS = {
    "S27: unsupported": lambda head: lambda request, forward: error(request, 1, "unknown tag"),
    "S27: none": lambda head: lambda request, forward: ok(request, None),
    "S27: the newest block": lambda head: head,
    "deeper than the depth": lambda head: head - 10,
    "of another fork": lambda head: elsewhere(head - 1),
}


@pytest.mark.parametrize("name", ODD_TAGS)
def test_a_tag_that_is_of_no_use_leaves_the_depth_to_decide(parts, name):
    listener = parts.listener(finality_tag="finalized")
    parts.chain.mine(9)
    parts.tag("finalized", ODD_TAGS[name](parts.head()))
    run(listener)
    assert parts.final() == parts.head() - 8


# -- what is told -------------------------------------------------------------------------------------------------


def test_a_node_that_lags_below_what_is_final_is_waited_for(parts):
    parts.chain.mine(20)
    listener = parts.listener()
    parts.tag("latest", parts.head() - 15)
    for _ in range(10):
        assert not listener.step()
    assert Alarm.CHAIN_RESET not in parts.alarms()


RESETS = {
    "another first block": {
        "eth_getBlockByNumber": lambda request, forward: (
            forward(request) | {"result": forward(request)["result"] | {"hash": "0x" + "11" * 32}}
            if request["params"][0] == "0x0"
            else forward(request)
        )
    },
    "no contract any more": {"eth_getCode": lambda request, forward: ok(request, "0x")},
}


@pytest.mark.parametrize("name", RESETS)
def test_s40_a_chain_that_was_reset_is_told_before_the_bridge_halts(parts, name):
    parts.listener()
    parts.proxy.rules = RESETS[name]
    with pytest.raises(FatalError, match="reset"):
        parts.listener()
    assert parts.alarms() == {Alarm.CHAIN_RESET}


def test_late_and_refused_logs_are_counted_and_told(parts):
    listener = parts.listener()
    parts.request()
    parts.proxy.rules["eth_getLogs"] = lambda request, forward: (
        ok(request, []) if "blockHash" in request["params"][0] else forward(request)
    )
    run(listener)
    parts.chain.mine(8)
    run(listener)
    assert parts.alarms() == {Alarm.LATE_LOGS}
    assert parts.watch.samples()["late_logs", ()] == 1

    parts.proxy.rules["eth_getLogs"] = lambda request, forward: (
        forward(request) | {"result": [{**entry, "data": "0x" + "ff" * 64} for entry in forward(request)["result"]]}
    )
    parts.request()
    run(listener)
    assert parts.watch.samples()["undecodable_logs", ()] == 1


def test_the_position_and_reorgs_are_measured(parts):
    listener = parts.listener()
    snapshot = parts.chain.snapshot()
    parts.chain.mine(3)
    run(listener)
    parts.chain.revert(snapshot)
    parts.chain.send(funded(1), funded(1).address, b"", gas=21_000)
    parts.chain.mine(9)
    run(listener)

    samples = parts.watch.samples()
    assert samples["head", ()] == parts.head()
    assert samples["finalized", ()] == parts.final() == parts.head() - 8
    assert (samples["reorgs", ()], samples["reorged_blocks", ()], samples["reorg_depth", ()]) == (1, 3, 3)
    assert samples["head_age_seconds", ()] == parts.clock.now - parts.chain.client.head().timestamp
