"""`insula doctor` on chains that are well, and on endpoints that misbehave: each finding says what to do."""

import json
import time

import pytest

from bridge.chain.client import ChainClient
from bridge.chain.contracts import compute_bridge
from bridge.cli.diagnosis import endpoint_names, plan_of
from bridge.cli.endpoint_checks import EndpointCheck, Expected, Seen, compared
from bridge.cli.main import _application, run
from bridge.cli.output import Exit
from bridge.cli.relayer_checks import Caps, check_relayer
from bridge.config import BridgeConfig
from bridge.devnet.chaos import Script
from bridge.devnet.chaos.script import Rewrite
from executor.protocol.wire import Outcome, Status
from tests.bridge_kit import order_of
from tests.chain_nodes import CHAIN_ID, FUNDED_SECRETS, anvil_node, funded, prepared
from tests.chain_proxy import DROP, Proxy, error, ok
from tests.chaos_kit import chaos

CAPS = Caps(max_fee_per_gas=10**12, max_subsidy=10**18, min_delivery_fee=0, max_in_flight=4)


def url_of(chain):
    return str(chain.client.transport.endpoint_uri)


def expected(chain, **changes):
    fields = {
        "chain_id": CHAIN_ID,
        "contract": chain.deployment.bridge,
        "deploy_block": chain.deployment.deploy_block,
        "finality_depth": 3,
        "stale_seconds": 10.0**9,
    }
    return Expected(**{**fields, **changes})


def looked(chain, url, clock=time.time, timer=time.monotonic, **changes):
    """Everything found at an endpoint: what -> finding."""
    with ChainClient(url, 10.0) as client:
        found = list(EndpointCheck("E", client, expected(chain, **changes), clock, timer).run())
    assert all(finding.remedy for finding in found if finding.level == "problem")
    return {finding.name.removeprefix("E").strip(): finding for finding in found}


def problems(found):
    return {name for name, finding in found.items() if finding.level == "problem"}


def test_a_chain_that_is_well_has_no_problem(any_chain):
    any_chain.mine(5)
    now = float(any_chain.client.head().timestamp)  # other tests have moved the chain's time
    found = looked(any_chain, url_of(any_chain), clock=lambda: now)

    assert problems(found) == set()
    assert found["contract"].detail.startswith(any_chain.deployment.bridge)
    assert found["batches"].level == "ok"
    assert found["history"].level == "ok"


#: a fault of an endpoint: rule by method, or for "batch" -> (what is found, its level, words)
FAULTS = {
    "another chain": ({"eth_chainId": lambda r, f: ok(r, "0x1")}, "chain", "problem", "is on chain 1"),
    "no contract": ({"eth_getCode": lambda r, f: ok(r, "0x")}, "contract", "problem", "there is no contract"),
    "another contract": ({"eth_call": lambda r, f: ok(r, "0x")}, "contract", "problem", "as a ComputeBridge"),
    "no finality tag": (
        {"eth_getBlockByNumber": lambda r, f: _unless(r, f, "finalized", error(r, 1, "FromBlock is not a hex"))},
        "finality",
        "note",
        "does not answer for the tag",
    ),
    "no logs at all": (
        {"eth_getLogs": lambda r, f: error(r, -32005, "block range exceeds maximum")},
        "eth_getLogs",
        "problem",
        "refuses even 100 blocks",
    ),
    "broken logs": ({"eth_getLogs": lambda r, f: ok(r, {"no": "list"})}, "eth_getLogs", "problem", "malformed"),
    "no old states": (
        {"eth_getBalance": lambda r, f: error(r, 1, "lookbacks of more than 24h0m0s are disallowed")},
        "states",
        "problem",
        "chain.finality_depth",
    ),
    "a parent that it does not know": (
        {"eth_getBlockByHash": lambda r, f: ok(r, None)},
        "blocks",
        "problem",
        "does not know the parent",
    ),
}


def _unless(request, forward, tag, answer):
    return answer if request["params"][0] == tag else forward(request)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_an_endpoint_is_found(anvil_chain, fault):
    rules, what, level, words = FAULTS[fault]
    anvil_chain.mine(5)
    with Proxy(url_of(anvil_chain)) as proxy:
        proxy.rules |= rules
        found = looked(anvil_chain, proxy.url)

    assert (found[what].level, words in found[what].detail) == (level, True), found[what]


def test_an_endpoint_that_does_not_answer_is_one_problem(anvil_chain):
    with Proxy(url_of(anvil_chain)) as proxy:
        proxy.rules["*"] = lambda request, forward: DROP
        found = looked(anvil_chain, proxy.url)

    assert list(found) == [""]
    assert problems(found) == {""}


def test_at_an_endpoint_of_another_chain_nothing_else_is_looked_at(anvil_chain):
    assert set(looked(anvil_chain, url_of(anvil_chain), chain_id=314)) == {"chain"}


def test_a_contract_whose_owner_paused_new_requests_is_noted(anvil_chain):
    with Proxy(url_of(anvil_chain)) as proxy:
        paused = "0x" + compute_bridge().encode("paused").hex()
        proxy.rules["eth_call"] = lambda r, f: ok(r, "0x" + "1".zfill(64)) if r["params"][0]["data"] == paused else f(r)
        found = looked(anvil_chain, proxy.url)["contract"]

    assert (found.level, "paused new ones" in found.detail) == ("note", True)


def test_an_endpoint_without_batches_is_noted(anvil_chain):
    with Proxy(url_of(anvil_chain)) as proxy:
        proxy.batch_rule = lambda requests, forward: (400, b"no batches")
        assert looked(anvil_chain, proxy.url)["batches"].level == "note"


@pytest.mark.parametrize(
    ("moved", "words"), [(3600.0, "3600 s old"), (-3600.0, "in the future")], ids=["a clock ahead", "a clock behind"]
)
def test_a_head_that_does_not_fit_the_clock_is_a_problem(anvil_chain, moved, words):
    stamp = anvil_chain.mine().timestamp
    found = looked(anvil_chain, url_of(anvil_chain), clock=lambda: stamp + moved, stale_seconds=240.0)["head"]

    assert (found.level, words in found.detail) == ("problem", True)


def test_a_head_from_a_little_ahead_is_no_problem_and_no_negative_age(anvil_chain):
    stamp = anvil_chain.mine().timestamp
    found = looked(anvil_chain, url_of(anvil_chain), clock=lambda: stamp - 12.0)["head"]

    assert (found.level, found.detail.partition(", ")[2]) == ("ok", "12 s ahead of this machine's clock")


def test_a_slow_endpoint_is_noted(anvil_chain):
    ticks = iter(range(0, 1000, 3))

    assert looked(anvil_chain, url_of(anvil_chain), timer=lambda: float(next(ticks)))["latency"].level == "note"


def test_the_largest_range_that_is_taken_is_named(anvil_chain):
    anvil_chain.client.ask("anvil_mine", "0xc00")
    too_much = "block range exceeds maximum of 1000"

    def rule(request, forward):
        query = request["params"][0]
        size = int(query["toBlock"], 16) - int(query["fromBlock"], 16)
        return error(request, -32005, too_much) if size > 1000 else forward(request)

    with Proxy(url_of(anvil_chain)) as proxy:
        proxy.rules["eth_getLogs"] = rule
        found = looked(anvil_chain, proxy.url)["eth_getLogs"]

    assert (found.level, "takes 1000 blocks" in found.detail) == ("note", True)


@pytest.mark.parametrize("dialect", ["lotus-1.31", "lotus-1.30", "lotus-null", "forest"])
def test_a_null_round_near_the_head_is_recognised_in_each_dialect(anvil_chain, dialect):
    anvil_chain.mine(8)
    with chaos(anvil_chain, dialect=dialect, null_rounds=0.4) as client:
        found = looked(anvil_chain, client.url, deploy_block=None)["null rounds"]

    assert (found.level, "that the bridge knows" in found.detail) == ("ok", True)


def test_words_for_a_null_round_that_nobody_knows_are_a_problem(anvil_chain):
    anvil_chain.mine(8)

    def in_other_words(answer):
        return error(answer, 77, "nothing to see at this height") if answer.get("result", 0) is None else answer

    script = Script()
    script.on("eth_getBlockByNumber", Rewrite(in_other_words))
    with chaos(anvil_chain, dialect="lotus-null", null_rounds=0.4, script=script) as client:
        found = looked(anvil_chain, client.url, deploy_block=None)["null rounds"]

    assert (found.level, "nothing to see" in found.detail) == ("problem", True)


def test_a_deploy_block_beyond_the_head_is_a_problem(anvil_chain):
    assert "history" in problems(looked(anvil_chain, url_of(anvil_chain), deploy_block=10**9))


def agreement(*seen_and_clients):
    return list(compared([seen for seen, _ in seen_and_clients], [client for _, client in seen_and_clients]))


def test_endpoints_of_one_chain_agree(anvil_chain):
    anvil_chain.mine(8)
    head, genesis = anvil_chain.client.head(), anvil_chain.client.genesis_hash()
    pair = [(Seen(name, head, genesis), anvil_chain.client) for name in "AB"]

    assert [finding.level for finding in agreement(*pair)] == ["ok"]
    assert agreement(pair[0]) == []


def test_endpoints_of_two_chains_with_one_id_are_told_apart(anvil_chain, hardhat_chain):
    pair = [
        (Seen(chain.kind, chain.client.head(), chain.client.genesis_hash()), chain.client)
        for chain in (anvil_chain, hardhat_chain)
    ]
    (found,) = agreement(*pair)
    assert (found.level, "different first blocks" in found.detail) == ("problem", True)

    forked = [(Seen(seen.name, seen.head, None), client) for seen, client in pair]
    assert any("different blocks" in finding.detail for finding in agreement(*forked))


def test_an_endpoint_that_is_behind_is_named(anvil_chain):
    old = anvil_chain.client.head()
    new = anvil_chain.mine(8)
    found = agreement((Seen("A", old, None), anvil_chain.client), (Seen("B", new, None), anvil_chain.client))

    assert [(f.level, f.name) for f in found] == [("problem", "A height"), ("ok", "endpoints")]


# -- the relayer --------------------------------------------------------------------------------------------------


def relayer(chain, monkeypatch, caps=CAPS, secret=FUNDED_SECRETS[2], client=None):
    monkeypatch.setenv("RELAYER", secret)
    found = list(check_relayer(client or chain.client, "env:RELAYER", chain.deployment.bridge, caps))
    assert all(finding.remedy for finding in found if finding.level == "problem")
    return {finding.name: finding for finding in found}


def test_a_funded_relayer_has_no_problem(any_chain, monkeypatch):
    found = relayer(any_chain, monkeypatch)

    assert {finding.level for finding in found.values()} == {"ok"}
    assert "t410f" in found["relayer key"].detail
    assert "guessed" in found["relayer balance"].detail


def test_the_gas_of_a_delivery_is_read_from_recent_ones(anvil_chain, monkeypatch):
    request = anvil_chain.request(funded(1), order_of(curator=funded(4).address))
    outcome = Outcome(status=Status.FAILED, reason=200, exit_code=1)
    sent = anvil_chain.send(funded(2), anvil_chain.deployment.bridge, anvil_chain.fulfil_data(request, outcome))
    anvil_chain.mine()
    used = anvil_chain.mined(sent).gas_used
    anvil_chain.mine(2)

    assert f"{used} gas (the most that the last 1 " in relayer(anvil_chain, monkeypatch)["relayer balance"].detail


def test_an_empty_account_is_told_where_to_send_funds(anvil_chain, monkeypatch):
    found = relayer(anvil_chain, monkeypatch, secret="11" * 32)["relayer balance"]

    assert (found.level, "t410f" in found.remedy) == ("problem", True)


def test_transactions_that_wait_beyond_the_limit_are_a_problem(anvil_chain, monkeypatch):
    count = anvil_chain.client.nonce(funded(2).address)
    for nonce in range(count, count + 2):
        anvil_chain.send(funded(2), funded(2).address, b"", nonce=nonce, gas=21_000)
    few = Caps(**{**vars(CAPS), "max_in_flight": 1})

    assert relayer(anvil_chain, monkeypatch)["relayer nonce"].level == "ok"
    assert relayer(anvil_chain, monkeypatch, few)["relayer nonce"].level == "problem"
    anvil_chain.mine()


#: answers about nonces -> level
NONCES = {
    "pending is not told": (
        lambda r, f: _unless_pending(r, f, error(r, 1, "cannot parse block param: pending")),
        "note",
    ),
    "pending is behind": (lambda r, f: ok(r, "0x1" if r["params"][1] == "pending" else "0x5"), "note"),
}


def _unless_pending(request, forward, answer):
    return answer if request["params"][1] == "pending" else forward(request)


@pytest.mark.parametrize("case", NONCES)
def test_odd_answers_about_nonces_are_noted(anvil_chain, monkeypatch, case):
    rule, level = NONCES[case]
    with Proxy(url_of(anvil_chain)) as proxy, ChainClient(proxy.url) as client:
        proxy.rules["eth_getTransactionCount"] = rule
        assert relayer(anvil_chain, monkeypatch, client=client)["relayer nonce"].level == level


#: caps -> whether they hold today
BINDING = {
    "a cap below the base fee": {"max_fee_per_gas": 1},
    "a subsidy that pays for nothing": {"max_subsidy": 1},
}


@pytest.mark.parametrize("case", BINDING)
def test_caps_that_stop_every_delivery_are_a_problem(anvil_chain, monkeypatch, case):
    found = relayer(anvil_chain, monkeypatch, Caps(**{**vars(CAPS), **BINDING[case]}))

    assert found["fees"].level == "problem"


# -- the verb -----------------------------------------------------------------------------------------------------


@pytest.fixture
def punctual_chain(tmp_path):
    """A chain whose clock no other test has moved."""
    with anvil_node(tmp_path) as client:
        yield prepared(client, "anvil")


def test_the_verb_takes_everything_from_a_configuration(punctual_chain, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RELAYER", FUNDED_SECRETS[2])
    punctual_chain.mine(5)
    path = tmp_path / "bridge.toml"
    with Proxy(url_of(punctual_chain)) as proxy:
        path.write_text(config_text(punctual_chain, f"{proxy.url}/v1/secretsecretsecret", tmp_path))
        code = run(lambda: _application()(["doctor", "--config", str(path), "--json"]), as_json=True)
    out, err = capsys.readouterr()
    found = {finding["name"]: finding for finding in json.loads(out)["findings"]}

    assert code == Exit.OK, out
    assert "secretsecretsecret" not in out + err
    assert FUNDED_SECRETS[2].removeprefix("0x") not in out + err
    assert found["relayer balance"]["level"] == "ok"
    assert found["bridge"]["level"] == "note"


def test_a_problem_is_an_exit_code(anvil_chain, capsys):
    code = run(lambda: _application()(["doctor", "--rpc", "http://127.0.0.1:9", "--json"]), as_json=True)

    assert code == Exit.NOT_SO
    assert not json.loads(capsys.readouterr().out)["ok"]


def config_text(chain, url, folder):
    return f"""
data_dir = "{folder}"
listen_port = 9
public_url = "http://127.0.0.1:9"
[chain]
rpc_urls = ["{url}"]
chain_id = {CHAIN_ID}
bridge_contract = "{chain.deployment.bridge}"
deploy_block = {chain.deployment.deploy_block}
confirmation_depth = 1
posting_depth = 1
finality_depth = 3
[relayer]
key = "env:RELAYER"
max_subsidy_wei = "1000000000000000000"
"""


def test_a_plan_holds_what_the_configuration_names(anvil_chain, tmp_path):
    path = tmp_path / "bridge.toml"
    path.write_text(config_text(anvil_chain, "http://127.0.0.1:9", tmp_path))
    plan = plan_of(BridgeConfig.load(path))

    assert (plan.rpcs, plan.key, plan.expected.finality_depth) == (("http://127.0.0.1:9",), "env:RELAYER", 3)


def test_endpoints_are_called_by_their_hosts():
    urls = ["http://a/key1", "http://a/key2", "https://b:8545/x"]

    assert endpoint_names(urls) == ["http://a#1", "http://a#2", "https://b:8545"]
