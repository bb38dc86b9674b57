"""Catching up over many ranges of final blocks, each read while the last one is stored: nothing is lost or doubled."""

import pytest

from bridge.chain.client import ChainClient
from bridge.errors import RpcError, RpcUnavailable
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.store.engine import reading
from bridge.store.jobs import count_by_state
from tests.bench.crowds import CONTRACT, crowd
from tests.chain_proxy import DROP, Proxy
from tests.integration.bridge_parts import config_for, jobs_now, new_engine, run

pytestmark = pytest.mark.chain

GAP = 700  # blocks between two crowds: more than one range
CROWDS, BLOCKS, JOBS = 3, 2, 3


class Setup:
    def __init__(self, chain, folder, proxy, client):
        self.chain, self.proxy = chain, proxy
        self.engine = new_engine(folder)
        config = config_for(chain, folder, finality=4)
        start = chain.client.head().number + 1
        chain_config = config.chain.model_copy(update={"bridge_contract": CONTRACT, "deploy_block": start})
        self.config = config.model_copy(update={"chain": chain_config})
        for number in range(CROWDS):
            crowd(chain.client, BLOCKS, JOBS, first=1 + number * BLOCKS * JOBS)
            chain.client.ask("anvil_mine", hex(GAP))
        self.listener = Listener(self.engine, client, self.config, lambda: 9.0)

    def ids(self):
        return sorted(job.request.id for job in jobs_now(self.engine).values())


ALL = list(range(1, CROWDS * BLOCKS * JOBS + 1))


@pytest.fixture
def parts(anvil_chain, tmp_path):
    with Proxy(anvil_chain.client.transport.endpoint_uri) as proxy, ChainClient(proxy.url, 5.0) as client:
        yield Setup(anvil_chain, tmp_path, proxy, client)


def test_a_long_history_is_stored_with_what_became_of_it(parts):
    run(parts.listener)

    assert parts.ids() == ALL
    assert {job.state for job in jobs_now(parts.engine).values()} == {JobState.FINAL}
    with reading(parts.engine) as connection:
        assert count_by_state(connection) == {"final": len(ALL)}


def test_each_range_is_asked_for_once(parts):
    run(parts.listener)

    asked = [call["params"][0] for call in parts.proxy.calls() if call["method"] == "eth_getLogs"]
    firsts = [int(query["fromBlock"], 16) for query in asked if "fromBlock" in query]
    assert len(firsts) >= CROWDS
    assert len(set(firsts)) == len(firsts)


@pytest.mark.parametrize("lost", [1, 2, 3, 5, 8])
def test_an_answer_that_is_lost_while_reading_ahead_costs_one_step_and_no_request(parts, lost):
    count = iter(range(10**6))

    def rule(request, forward):
        return DROP if next(count) == lost else forward(request)

    parts.proxy.rules["eth_getLogs"] = rule
    parts.proxy.rules["eth_getBlockByNumber"] = rule
    failures = 0
    for _ in range(60):
        try:
            if not parts.listener.step():
                break
        except RpcError:
            failures += 1
    assert failures <= 1
    assert parts.ids() == ALL


def test_a_killed_process_begins_again_with_the_range_it_had_not_stored(parts):
    parts.listener.step()
    parts.listener.step()
    known = parts.ids()
    again = Listener(parts.engine, parts.listener._client, parts.config, lambda: 9.0)
    run(again)

    assert known != ALL
    assert parts.ids() == ALL


def test_a_log_of_a_block_that_is_not_canonical_keeps_its_range_out(parts):
    def elsewhere(request, forward):
        answer = forward(request)
        for entry in answer["result"] or []:
            entry["blockHash"] = "0x" + "99" * 32
        return answer

    parts.proxy.rules["eth_getLogs"] = elsewhere
    with pytest.raises(RpcUnavailable, match="contradicts itself"):
        run(parts.listener)
    assert parts.ids() == []
