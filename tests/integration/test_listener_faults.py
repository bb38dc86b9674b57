"""The listener behind an endpoint that lies, forgets, refuses and breaks: nothing is lost, doubled or half stored."""

from contextlib import suppress

import pytest

from bridge.chain.client import ChainClient
from bridge.errors import FatalError, RpcError, RpcRefused, RpcUnavailable
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.store.chain import Scope, load_cursor
from bridge.store.engine import reading
from executor.protocol.wire import Order, Outcome
from tests.chain_nodes import funded
from tests.chain_proxy import DROP, Proxy, error, ok
from tests.integration.bridge_parts import config_for, job, jobs_now, new_engine, run

pytestmark = pytest.mark.chain

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)


class Setup:
    def __init__(self, chain, folder, proxy, client, **depths):
        self.chain, self.proxy = chain, proxy
        self.engine = new_engine(folder)
        self.listener = Listener(self.engine, client, config_for(chain, folder, **depths), lambda: 9.0)

    def cursor(self):
        with reading(self.engine) as connection:
            return load_cursor(connection, Scope(31415926, self.chain.deployment.bridge))


@pytest.fixture
def parts(anvil_chain, tmp_path):
    with Proxy(anvil_chain.client.transport.endpoint_uri) as proxy, ChainClient(proxy.url, 5.0) as client:
        yield Setup(anvil_chain, tmp_path, proxy, client, finality=4)


def once(action):
    """A rule that misbehaves the first time and forwards afterwards."""
    calls = []

    def rule(request, forward):
        calls.append(request)
        return action(request, forward) if len(calls) == 1 else forward(request)

    return rule


BROKEN = {
    "connection reset": lambda request, forward: DROP,
    "HTTP 429": lambda request, forward: (429, b"slow down"),
    "HTTP 502 with a page": lambda request, forward: (502, b"<html>bad gateway</html>"),
    "cut JSON": lambda request, forward: b'{"jsonrpc":"2.0","id":1,"res',
    "another call's id": lambda request, forward: forward(request) | {"id": 999_999_999},
    "null": lambda request, forward: b"null",
    "server busy": lambda request, forward: error(request, 1, "server busy. Timeout while waiting for rate limit"),
    "not executed yet": lambda request, forward: error(
        request, 1, "events for the requested block are not yet available"
    ),
    "a number as a string": lambda request, forward: ok(request, "1"),
}


@pytest.mark.parametrize("method", ["eth_chainId", "eth_getBlockByNumber", "eth_getBlockByHash", "eth_getLogs"])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_answer_stores_nothing_and_the_next_step_goes_on(parts, method, fault):
    run(parts.listener)
    request = parts.chain.request(funded(1), ORDER)
    parts.chain.mine()
    before = parts.cursor()

    parts.proxy.rules[method] = once(BROKEN[fault])
    with pytest.raises(RpcError):
        parts.listener.step()
    assert parts.cursor() == before
    assert jobs_now(parts.engine) == {}

    run(parts.listener)
    assert set(jobs_now(parts.engine)) == {request.hash}


def test_logs_that_were_left_out_before_a_long_absence_are_found_after_it(parts):
    run(parts.listener)
    request = parts.chain.request(funded(1), ORDER)
    parts.proxy.rules["eth_getLogs"] = lambda request, forward: ok(request, [])
    run(parts.listener)
    parts.proxy.rules.clear()

    parts.chain.mine(60)
    run(parts.listener)
    assert set(jobs_now(parts.engine)) == {request.hash}


def says(code, text):
    return lambda request: error(request, code, text)


def test_a_doubled_log_does_not_stand_for_a_missing_one(parts):
    run(parts.listener)
    requests = [parts.chain.request(funded(1), ORDER) for _ in range(2)]
    parts.chain.mine(6)

    def first_twice(request, forward):
        answer = forward(request)
        return ok(request, answer["result"][:1] * 2 if "fromBlock" in request["params"][0] else [])

    parts.proxy.rules["eth_getLogs"] = first_twice
    with pytest.raises(RpcUnavailable, match="the contract took 2 requests"):
        run(parts.listener)

    parts.proxy.rules.clear()
    run(parts.listener)
    assert set(jobs_now(parts.engine)) == {request.hash for request in requests}


RANGE_REFUSALS = {
    "S9: lotus 1.36": says(-32005, "block range exceeds maximum of 2880 (got 3000)"),
    "S9: lotus 1.35": says(
        1, "failed to parse eth filter spec: invalid epoch range: range between blocks is too large"
    ),
    "S9: too many events": says(1, "filter matches too many events, try a more restricted filter"),
    "S9: Infura": says(-32005, "query returned more than 10000 results. Try with this block range [0x1, 0x4]."),
    "S9: QuickNode": says(-32614, "eth_getLogs is limited to a 4 range"),
    "S9: HTTP 413": lambda request: (413, b"<html>"),
    "S9: an answer without end": lambda request: b"[" + b" " * 2**26 + b"]",
}


@pytest.mark.parametrize("dialect", RANGE_REFUSALS)
def test_a_range_that_is_too_much_is_made_smaller_until_it_passes(parts, dialect):
    requests = [parts.chain.request(funded(1), ORDER) for _ in range(5)]
    parts.chain.mine(60)

    def narrow(request, forward):
        query = request["params"][0]
        if "fromBlock" in query and int(query["toBlock"], 16) - int(query["fromBlock"], 16) > 4:
            return RANGE_REFUSALS[dialect](request)
        return forward(request)

    parts.proxy.rules["eth_getLogs"] = narrow
    run(parts.listener)
    assert set(jobs_now(parts.engine)) == {request.hash for request in requests}


def test_a_range_that_is_refused_for_another_reason_is_not_made_smaller(parts):
    parts.chain.mine(60)
    parts.listener.step()
    parts.proxy.rules["eth_getLogs"] = lambda request, forward: error(request, -32602, "invalid params")
    parts.proxy.seen.clear()
    with pytest.raises(RpcRefused, match="invalid"):
        run(parts.listener)
    assert parts.proxy.methods().count("eth_getLogs") == 1


def test_a_range_that_gets_no_answer_is_smaller_the_next_time(parts):
    parts.chain.mine(90)
    parts.listener.step()
    asked = []

    def slow(request, forward):
        query = request["params"][0]
        if "fromBlock" not in query:
            return forward(request)
        asked.append(int(query["toBlock"], 16) - int(query["fromBlock"], 16) + 1)
        return DROP if asked[-1] > 20 else forward(request)

    parts.proxy.rules["eth_getLogs"] = slow
    for _ in range(6):
        with suppress(RpcUnavailable):
            run(parts.listener)
    assert asked[0] > 20
    assert asked[-1] <= 20
    assert parts.cursor().final_number == parts.chain.client.head().number - 4


def test_a_log_of_another_block_is_refused_as_a_whole(parts):
    run(parts.listener)
    parts.chain.request(funded(1), ORDER)

    def foreign(request, forward):
        answer = forward(request)
        return answer | {"result": [{**entry, "blockHash": "0x" + "77" * 32} for entry in answer["result"]]}

    parts.proxy.rules["eth_getLogs"] = foreign
    with pytest.raises(RpcUnavailable, match="malformed"):
        run(parts.listener)
    assert jobs_now(parts.engine) == {}


def test_a_log_that_does_not_decode_is_counted_and_stepped_over(parts):
    run(parts.listener)
    parts.chain.request(funded(1), ORDER)

    def garbled(request, forward):
        answer = forward(request)
        return answer | {"result": [{**entry, "data": "0x" + "ff" * 64} for entry in answer["result"]]}

    parts.proxy.rules["eth_getLogs"] = garbled
    run(parts.listener)
    assert parts.listener.undecodable == 1

    parts.proxy.rules.clear()
    good = parts.chain.request(funded(1), ORDER)
    run(parts.listener)
    assert set(jobs_now(parts.engine)) == {good.hash}


def test_a_chain_that_was_reset_behind_the_same_address_halts(parts):
    parts.chain.mine(3)
    run(parts.listener)

    def reset(request, forward):
        answer = forward(request)
        if request["params"][0] == "0x0":
            answer["result"]["hash"] = "0x" + "11" * 32
        return answer

    parts.proxy.rules["eth_getBlockByNumber"] = reset
    restarted = Listener(parts.engine, parts.listener._client, config_for_same(parts), lambda: 9.0)
    with pytest.raises(FatalError, match="first block"):
        restarted.step()


def config_for_same(parts):
    from pathlib import Path

    return config_for(parts.chain, Path("/nonexistent"), finality=4)


def test_a_result_is_mirrored_when_the_whole_history_is_read_at_once(parts):
    settled = parts.chain.request(funded(1), ORDER)
    parts.chain.send(funded(3), parts.chain.deployment.bridge, parts.chain.fulfil_data(settled, OUTCOME))
    parts.chain.mine(80)
    still_open = parts.chain.request(funded(1), ORDER)
    parts.chain.mine(2)
    run(parts.listener)

    assert job(parts.engine, settled.hash).state is JobState.FINAL
    assert job(parts.engine, still_open.hash).state is JobState.READY


def test_a_database_that_follows_another_contract_halts(parts):
    run(parts.listener)
    parts.chain.automine()
    parts.chain.deploy_again()
    parts.chain.manual()
    other = Listener(parts.engine, parts.listener._client, config_for_same(parts), lambda: 9.0)

    with pytest.raises(FatalError, match="another contract"):
        other.step()


@pytest.fixture
def slow_finality(anvil_chain, tmp_path):
    with Proxy(anvil_chain.client.transport.endpoint_uri) as proxy, ChainClient(proxy.url, 5.0) as client:
        yield Setup(anvil_chain, tmp_path, proxy, client, finality=20)


def reorg_while_away(parts):
    """A request is seen; then the chain goes back before it, and on for long, unwatched."""
    snapshot = parts.chain.snapshot()
    request = parts.chain.request(funded(1), ORDER)
    run(parts.listener)
    parts.chain.revert(snapshot)
    parts.chain.send(funded(1), funded(1).address, b"", gas=21_000)
    parts.chain.mine(80)
    return request


def test_a_reorg_during_a_long_absence_orphans_what_it_took_away(slow_finality):
    run(slow_finality.listener)
    request = reorg_while_away(slow_finality)
    run(slow_finality.listener)

    assert job(slow_finality.engine, request.hash).state is JobState.ORPHANED


def test_a_reorg_below_the_final_block_during_a_long_absence_halts(slow_finality):
    snapshot = slow_finality.chain.snapshot()
    slow_finality.chain.mine(25)
    run(slow_finality.listener)
    slow_finality.chain.revert(snapshot)
    slow_finality.chain.send(funded(1), funded(1).address, b"", gas=21_000)
    slow_finality.chain.mine(90)

    with pytest.raises(FatalError, match="rebuild"):
        run(slow_finality.listener)


def test_a_node_that_shows_none_of_our_blocks_is_no_reorg(slow_finality):
    run(slow_finality.listener)
    slow_finality.chain.mine(80)
    slow_finality.proxy.rules["eth_getBlockByNumber"] = lambda request, forward: (
        forward(request) if request["params"][0] in ("latest", "0x0") else ok(request, None)
    )
    with pytest.raises(RpcUnavailable, match="does not show"):
        run(slow_finality.listener)


def test_a_header_that_contradicts_the_logs_stores_nothing(slow_finality):
    slow_finality.chain.request(funded(1), ORDER)
    slow_finality.chain.mine(80)
    slow_finality.listener.step()
    before = slow_finality.cursor()

    def foreign(request, forward):
        answer = forward(request)
        return answer | {"result": [{**entry, "blockHash": "0x" + "77" * 32} for entry in answer["result"]]}

    slow_finality.proxy.rules["eth_getLogs"] = foreign
    with pytest.raises(RpcUnavailable, match="contradicts"):
        run(slow_finality.listener)
    assert slow_finality.cursor() == before


def test_a_parent_that_the_endpoint_does_not_know_is_asked_for_again(parts):
    run(parts.listener)
    parts.chain.mine(3)
    parts.proxy.rules["eth_getBlockByHash"] = lambda request, forward: ok(request, None)
    with pytest.raises(RpcUnavailable, match="parent"):
        parts.listener.step()
    parts.proxy.rules.clear()
    assert parts.listener.step()


def test_an_endpoint_without_old_state_is_not_counted_against(parts):
    run(parts.listener)
    request = parts.chain.request(funded(1), ORDER)
    parts.proxy.rules["eth_call"] = lambda request, forward: error(request, 1, "state is pruned")
    parts.chain.mine(6)
    run(parts.listener)
    assert set(jobs_now(parts.engine)) == {request.hash}


def test_a_chain_whose_first_block_cannot_be_read_is_followed_all_the_same(parts):
    parts.proxy.rules["eth_getBlockByNumber"] = lambda request, forward: (
        error(request, 1, "lookbacks of more than 24h0m0s are disallowed")
        if request["params"][0] == "0x0"
        else forward(request)
    )
    run(parts.listener)
    assert parts.cursor().genesis_hash == bytes(32)
