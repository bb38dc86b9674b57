"""A chain that misbehaves on purpose: the way to it, scripts, and that the same seed does the same."""

import json
import time

import pytest
import requests

from bridge.chain.client import ChainClient
from bridge.devnet.chaos import Personality, Script, Settings, serve
from bridge.devnet.chaos.run import ChaosRun
from bridge.devnet.chaos.script import (
    Answer,
    Delay,
    DropAfter,
    DropBefore,
    Error,
    Hang,
    Raw,
    Replace,
    Rewrite,
    Status,
)
from bridge.errors import NullRound, RpcRefused, RpcUnavailable
from tests.chain_nodes import CHAIN_ID, funded, wait_for
from tests.chaos_kit import LOTUS, chaos, kinds, order_tx, ordered, post, refused

pytestmark = pytest.mark.chain

# -- the way to the endpoint ----------------------------------------------------------------------------------------

UNUSABLE = (
    "lost_requests", "lost_responses", "rate_limits", "rate_limits_bare", "server_errors", "resets", "hangs",
    "truncated_bodies", "wrong_ids", "garbage_gzip", "slow_bodies",
)  # fmt: skip


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_fault_of_the_way_is_an_endpoint_that_cannot_be_used_now(anvil_chain, kind):
    with chaos(anvil_chain, timeout=1.0, **{kind: 1.0}) as client:
        started = time.monotonic()
        with pytest.raises(RpcUnavailable):
            client.head()
        assert time.monotonic() - started < 5
        assert kinds(client) == [kind]
        try:
            answers = client.batch([("eth_chainId", ()), ("eth_blockNumber", ())])
        except RpcUnavailable:
            return
        assert all(isinstance(answer, RpcUnavailable) for answer in answers)


def test_an_answer_with_result_and_error_is_an_error(anvil_chain):
    with chaos(anvil_chain, mixed_errors=1.0) as client:
        body = post(client, "eth_chainId").json()
        assert {"result", "error"} <= body.keys()
        with pytest.raises((RpcUnavailable, RpcRefused)):
            client.chain_id()


def test_a_rate_limit_says_when_to_come_back_or_does_not(anvil_chain):
    with chaos(anvil_chain, rate_limits=1.0) as client:
        answer = post(client, "eth_chainId")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    with chaos(anvil_chain, rate_limits_bare=1.0) as client:
        answer = post(client, "eth_chainId")
        assert (answer.status_code, "retry-after" in answer.headers) == (429, False)


def test_a_lost_request_did_nothing_and_a_lost_response_acted(anvil_chain):
    for kind, happened in (("lost_requests", False), ("lost_responses", True)):
        signed = order_tx(anvil_chain)
        with chaos(anvil_chain, **{kind: 1.0}) as client, pytest.raises(RpcUnavailable):
            client.send_raw(signed.raw)
        found = anvil_chain.client.ask("eth_getTransactionByHash", "0x" + signed.hash.hex())
        assert (found is not None) is happened
    anvil_chain.mine()


def test_a_node_that_is_gone_is_a_bad_gateway():
    with serve(Personality("http://127.0.0.1:1", Settings(), 1)) as url:
        answer = requests.post(url, json={"id": 1, "method": "eth_chainId"}, timeout=5)
        assert answer.status_code == 502


BAD_REQUESTS = {
    "no JSON": (b"{", -32700),
    "a megabyte of brackets": (b"[" * 2**20, -32700),
    "an empty batch": (b"[]", -32600),
    "no object": (b"7", -32600),
    "no method": (b'{"id":1}', -32600),
    "params that are no list": (b'{"method":"eth_call","params":{"a":1}}', -32600),
    "params that are none": (b'{"id":1,"method":"eth_getBlockByNumber","params":[]}', -32602),
    "a filter that is none": (b'{"id":1,"method":"eth_getLogs","params":[7]}', -32602),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_gets_an_error(anvil_chain, case):
    body, code = BAD_REQUESTS[case]
    with chaos(anvil_chain, **LOTUS) as client:
        assert requests.post(client.url, data=body, timeout=5).json()["error"]["code"] == code


def test_a_request_has_a_size_limit(anvil_chain):
    with chaos(anvil_chain) as client:
        assert requests.post(client.url, data=b" " * (4 * 2**20 + 1), timeout=5).status_code == 413
        assert requests.post(client.url, data=iter([b"{}"]), timeout=5).status_code == 411


def test_a_page_in_a_browser_may_ask(anvil_chain):
    with chaos(anvil_chain) as client:
        assert requests.options(client.url, timeout=5).headers["access-control-allow-methods"] == "POST"
        assert post(client, "eth_chainId").headers["access-control-allow-origin"] == "*"


# -- scripts --------------------------------------------------------------------------------------------------------


def test_a_script_decides_call_by_call(anvil_chain):
    script = Script()
    with chaos(anvil_chain, script=script, timeout=2.0) as client:
        script.on("eth_chainId", Replace("0x9"), nth=2, times=1)
        assert [client.chain_id() for _ in range(3)] == [CHAIN_ID, 9, CHAIN_ID]
        script.on("eth_getLogs", Error(-32005, "block range exceeds maximum of 10 (got 11)", 11))
        refused(lambda: client.logs_by_range(0, 1, anvil_chain.deployment.bridge), -32005, "got 11")
        script.on("eth_blockNumber", Rewrite(lambda envelope: envelope | {"result": "0x5"}))
        assert client.ask("eth_blockNumber") == "0x5"
        script.on("eth_gasPrice", Answer(lambda request, forward: forward(request) | {"result": "0x6"}))
        assert client.ask("eth_gasPrice") == "0x6"
        script.on("eth_getCode", Status(503))
        script.on("eth_getBalance", Raw(b"\xff"))
        script.on("eth_call", Hang(30))
        for call in (client.code, client.balance):
            with pytest.raises(RpcUnavailable):
                call(funded(1).address)
        with pytest.raises(RpcUnavailable):
            client.call(funded(1).address, b"")
        script.on("eth_chainId", Delay(0.3))
        started = time.monotonic()
        client.chain_id()
        assert time.monotonic() - started >= 0.3
        assert script.methods()[:3] == ["eth_chainId"] * 3
        assert script.calls("eth_gasPrice")[0]["params"] == []
        assert json.loads(script.exchanges[1].reply.body)["result"] == "0x9"
        script.clear()


def test_a_script_loses_requests_and_responses(anvil_chain):
    script = Script()
    with chaos(anvil_chain, script=script) as client:
        signed = order_tx(anvil_chain)
        script.on("eth_sendRawTransaction", DropBefore(), times=1)
        script.on("eth_sendRawTransaction", DropAfter(), nth=2, where=lambda params: params[0].startswith("0x02"))
        for _ in range(2):
            with pytest.raises(RpcUnavailable):
                client.send_raw(signed.raw)
        anvil_chain.mine()
        assert anvil_chain.mined(signed).ok


def test_in_a_batch_each_call_has_its_rule_and_a_fault_of_the_way_is_the_whole_batchs(anvil_chain):
    script = Script()
    with chaos(anvil_chain, script=script) as client:
        calls = [("eth_chainId", ()), ("eth_blockNumber", ())]
        script.on("eth_blockNumber", Replace("0x7"))
        assert client.batch(calls) == [hex(CHAIN_ID), "0x7"]
        assert script.exchanges[-1].is_batch
        script.on("eth_blockNumber", DropBefore())
        with pytest.raises(RpcUnavailable):
            client.batch(calls)


# -- the whole ------------------------------------------------------------------------------------------------------


def test_a_client_in_the_same_process_needs_no_http(anvil_chain):
    personality = Personality(anvil_chain.client.transport, Settings(**LOTUS, lost_responses=0.5), 7)
    with ChainClient(personality.transport()) as client:
        outcomes = []
        for _ in range(20):
            try:
                outcomes.append(client.chain_id())
            except RpcUnavailable:
                outcomes.append(None)
        assert set(outcomes) == {CHAIN_ID, None}
        assert outcomes.count(None) == personality.counts["lost_responses"]


def acts_of(chain, seed):
    settings = Settings(
        **LOTUS, null_rounds=0.2, stale_heads=0.2, drop_logs=0.3, late_events=0.2, lost_responses=0.1, wrong_ids=0.1
    )
    personality = Personality(chain.client.transport, settings, seed)
    with ChainClient(personality.transport()) as client:
        for _ in range(40):
            for call in (client.head, lambda: client.logs_by_range(1, 2, chain.deployment.bridge), client.chain_id):
                try:
                    call()
                except (RpcUnavailable, RpcRefused, NullRound):
                    continue
    return list(personality.acts)


def test_the_same_seed_does_the_same_to_the_same_calls(anvil_chain):
    first = acts_of(anvil_chain, 7)

    assert len(first) > 10
    assert acts_of(anvil_chain, 7) == first
    assert acts_of(anvil_chain, 8) != first


def test_other_methods_pass_and_local_ones_too(anvil_chain):
    with chaos(anvil_chain, **LOTUS) as client:
        before = client.head().number
        client.ask("evm_mine")
        wait_for(lambda: client.head().number == before + 1, 5, "the block")
        assert client.ask("net_version") == str(CHAIN_ID)


def test_a_devnets_chaos_tells_and_logs_all_that_it_does(anvil_chain, tmp_path):
    said = []
    log = tmp_path / "logs" / "chaos.log"
    with ChaosRun(Settings(drop_logs=1.0, removed_logs=1.0), 7, log, said.append) as run:
        receipt = ordered(anvil_chain)
        with ChainClient(run.front(anvil_chain.client.transport.endpoint_uri)) as client:
            assert client.logs_by_hash(receipt.block_hash, anvil_chain.deployment.bridge) == []

    assert said[0].startswith("chaos: drop_logs eth_getLogs block 0x")
    assert said[1:] == ["chaos with seed 7, in all:", f"  {'drop_logs':<18} {1:>6}"]
    assert log.read_text().count("drop_logs eth_getLogs block 0x") == 1
