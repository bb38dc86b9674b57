"""What one endpoint leaves out, forgets or contradicts: another is heard before anything is passed over for good."""

import pytest

from bridge.chain.cursor import DeepReorg
from bridge.errors import EndpointsDisagree, FatalError, HistoryPruned
from bridge.watch import Alarm
from tests.chain_nodes import funded
from tests.chain_proxy import error, ok
from tests.integration.bridge_parts import jobs_now
from tests.integration.endpoint_kit import FAULTS, ORDER, changed_block, lagging, setups

pytestmark = pytest.mark.chain


@pytest.fixture
def of(anvil_chain, tmp_path):
    """Makes a setup with so many endpoints."""
    with setups(anvil_chain, tmp_path) as make:
        yield make


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


def forked(request, forward):
    """A rule for eth_getBlockByNumber: every block but the newest and the first has another hash."""
    tag = request["params"][0]
    return forward(request) if tag in ("latest", "0x0") else changed_block(tag, hash="0x" + "22" * 32)(request, forward)


def test_two_endpoints_on_different_forks_stop_the_final_position(of):
    parts = of(2)
    parts.settle()
    before = parts.cursor()
    parts.proxies[1].rules["eth_getBlockByNumber"] = forked
    parts.chain.mine(6)
    raised = parts.settle(6)
    assert {type(exc) for exc in raised} == {EndpointsDisagree}
    assert parts.cursor().final_number == before.final_number
    assert Alarm.ENDPOINTS_DISAGREE in parts.alarms()

    parts.proxies[1].rules.clear()
    parts.settle()
    assert parts.cursor().final_number > before.final_number


@pytest.mark.parametrize("blocks", [6, 80])
def test_blocks_that_hold_events_are_not_made_final_either_while_two_endpoints_differ(of, blocks):
    parts = of(2)
    parts.settle()
    parts.proxies[1].rules["eth_getBlockByNumber"] = forked
    parts.chain.request(funded(1), ORDER)
    request = parts.cursor().scanned_number + 1
    parts.chain.mine(blocks)
    raised = parts.settle(6)
    assert EndpointsDisagree in {type(exc) for exc in raised}
    assert parts.cursor().final_number < request


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_of_three_endpoints_the_two_on_one_chain_go_on(of, wrong):
    parts = of(3)
    parts.settle()
    before = parts.cursor()
    parts.proxies[wrong].rules = {"eth_getBlockByNumber": forked}
    if wrong == 0:  # the one in use is on the fork itself: its logs are of no block of ours
        parts.proxies[0].rules["eth_getLogs"] = no_logs
    parts.chain.mine(6)
    parts.settle()
    assert parts.cursor().final_number > before.final_number


def left_the_chain(block):
    """The rules of an endpoint whose newest block descends from another block than ours."""

    def parents(request, forward):
        number = int(request["params"][0], 16)
        asked = {**request, "method": "eth_getBlockByNumber", "params": [hex(number - 1), False]}
        answer = forward(asked)["result"] | {"hash": request["params"][0]}
        return ok(request, answer | {"parentHash": "0x" + f"{number - 1 if number > block.number else 0:064x}"})

    def newest(request, forward):
        answer = forward(request)
        if request["params"][0] == "latest":
            number = int(answer["result"]["number"], 16)
            answer["result"] |= {"hash": "0x" + "44" * 32, "parentHash": "0x" + f"{number:064x}"}
        return answer

    return {"eth_getBlockByNumber": newest, "eth_getBlockByHash": parents}


def test_a_final_block_that_left_one_endpoints_chain_halts_nothing_while_it_stands_at_another(of):
    parts = of(2)
    parts.settle()
    final = parts.chain.client.block_by_number(parts.cursor().final_number)
    request = parts.chain.request(funded(1), ORDER)
    parts.proxies[0].rules = left_the_chain(final)
    parts.settle()
    assert set(jobs_now(parts.engine)) == {request.hash}
    assert Alarm.ENDPOINTS_DISAGREE in parts.alarms()


ALONE = {
    "no contract": ("eth_getCode", lambda request, forward: ok(request, "0x")),
    "another first block, after it was checked": ("eth_getBlockByNumber", changed_block("0x0", hash="0x" + "55" * 32)),
}


@pytest.mark.parametrize("lie", ALONE)
def test_what_one_endpoint_alone_says_of_a_reset_halts_nothing(of, lie):
    parts = of(2)
    parts.settle()
    before = parts.cursor()
    method, rule = ALONE[lie]
    parts.proxies[0].rules[method] = rule
    parts.listener = parts.new_listener()
    parts.chain.mine(6)
    parts.settle()

    assert parts.cursor().final_number > before.final_number
    assert {Alarm.ENDPOINTS_DISAGREE, Alarm.CHAIN_RESET} & parts.alarms() == {Alarm.ENDPOINTS_DISAGREE}


def test_a_contract_that_is_at_no_endpoint_halts(of):
    parts = of(2)
    parts.settle()
    for proxy in parts.proxies:
        proxy.rules["eth_getCode"] = ALONE["no contract"][1]
    parts.listener = parts.new_listener()
    with pytest.raises(FatalError, match="no longer"):
        parts.listener.step()
    assert Alarm.CHAIN_RESET in parts.alarms()


def test_a_final_block_that_left_every_endpoints_chain_halts(of):
    parts = of(2)
    parts.settle()
    final = parts.chain.client.block_by_number(parts.cursor().final_number)
    for proxy in parts.proxies:
        proxy.rules = left_the_chain(final)
        proxy.rules["eth_getBlockByNumber"] = both(proxy.rules["eth_getBlockByNumber"], hex(final.number))
    with pytest.raises(DeepReorg):
        parts.settle()
    assert Alarm.REORG_BELOW_FINALITY in parts.alarms()


def both(newest, tag):
    """`newest`, and another hash for the block of `tag`."""
    return lambda request, forward: (
        changed_block(tag, hash="0x" + "55" * 32)(request, forward)
        if request["params"][0] == tag
        else newest(request, forward)
    )


def test_an_endpoint_that_refuses_the_call_for_logs_is_left(of):
    parts = of(2)
    parts.settle()
    request = parts.chain.request(funded(1), ORDER)
    parts.proxies[0].rules["eth_getLogs"] = lambda request, forward: error(request, -32601, "method not available")
    parts.settle()
    assert set(jobs_now(parts.engine)) == {request.hash}


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
