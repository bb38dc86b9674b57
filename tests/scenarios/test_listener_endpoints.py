"""Scenarios 24 to 28, 41 and 44: nodes behind one name that differ, stand still, forget, or are on another chain."""

import pytest

from bridge.devnet.chaos.script import Answer, Error, Replace
from bridge.errors import FatalError, HistoryPruned, RpcUnavailable
from bridge.jobs import JobState
from bridge.watch import Alarm
from tests.scenarios.rig import OUTCOME

pytestmark = pytest.mark.chain

FINAL = 6


# -- a load balancer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoints", [1, 2])
def test_S24_heads_that_alternate_between_n_and_n_minus_3_rewind_and_skip_nothing(scenario, endpoints):
    rig = scenario(endpoints=endpoints, stale_heads=0.5, stale_lag=3)
    rig.chain.mine(4)
    requests, highest = [], 0
    for _ in range(5):
        requests.append(rig.request())
        for _ in range(4):
            rig.polls(1)
            scanned = rig.cursor().scanned_number if rig.cursor() else 0
            assert scanned >= highest
            highest = scanned
    assert rig.met("stale_heads") > 5
    assert {job.state for job in rig.jobs().values()} <= {JobState.OBSERVED, JobState.READY}
    rig.rests(*requests)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_S25_a_node_on_a_fork_behind_the_same_name_is_never_mixed_with_the_others(scenario, share):
    rig = scenario(forked_heads=share, fork_depth=2, depths={"finality": FINAL})
    requests = []
    for _ in range(6):
        requests.append(rig.request())
        rig.polls(3)
        for block in rig.window()[:-2]:  # below the fork there is one chain
            assert block == rig.block(rig.epochs.at_or_below(block.number))
    assert rig.met("forked_heads") > 5
    assert all(isinstance(error, RpcUnavailable) for error in rig.raised)
    rig.rests(*requests)


# -- a head that stands still -------------------------------------------------------------------------------------


def test_S26_a_head_frozen_for_ten_minutes_raises_an_alarm_changes_nothing_and_goes_on(scenario):
    rig = scenario(chain_options={"stale_head_seconds": 240.0})
    rig.settle()
    request = rig.request()
    rig.settle()
    frozen, before = rig.chain.client.head().number, (rig.cursor(), rig.jobs())

    def old(call, forward):
        return forward(call | {"params": [hex(frozen), False]}) if call["params"][0] == "latest" else forward(call)

    rig.script.on("eth_getBlockByNumber", Answer(old))
    rig.chain.mine(3)
    assert rig.polls(60) == []
    assert (rig.cursor(), rig.jobs()) == before
    assert rig.alarms() == {Alarm.STALE_HEAD}

    rig.script.clear()
    rig.chain.client.ask("evm_setNextBlockTimestamp", int(rig.clock.now))
    later = rig.request()
    rig.settle()
    assert rig.is_over(Alarm.STALE_HEAD)
    rig.rests(request, later)


# -- tags ---------------------------------------------------------------------------------------------------------

TAGGED = {"tags": True, "finalized_lag": 2, "chain_options": {"finality_tag": "finalized"}, "depths": {"finality": 9}}


def test_S27_a_finalized_block_that_goes_back_does_not_take_ours_back(scenario):
    rig = scenario(**TAGGED)
    request = rig.request()
    rig.chain.mine(12)
    rig.settle()
    final = rig.cursor().final_number
    assert final == rig.head() - 2

    rig.endpoints[0].start(tags_regress=1.0)
    rig.chain.mine()
    rig.settle()
    assert rig.met("tags_regress")
    assert rig.cursor().final_number == final
    assert rig.alarms() == {Alarm.FINALITY_REGRESSED}
    rig.rests(request)
    assert rig.cursor().final_number == rig.head() - 2
    assert rig.is_over(Alarm.FINALITY_REGRESSED)


@pytest.mark.parametrize("fault", ["tags_unsupported", "tags_latest"])
def test_S27_a_finalized_tag_that_is_of_no_use_leaves_the_depth_to_decide(scenario, fault):
    rig = scenario(**TAGGED, **{fault: 1.0})
    request = rig.request()
    rig.chain.mine(12)
    rig.settle()
    assert rig.met(fault)
    assert rig.cursor().final_number == rig.head() - 9
    assert rig.alarms() == set()
    rig.rests(request)
    assert rig.cursor().final_number == rig.head() - 2


# -- a node that is behind ----------------------------------------------------------------------------------------

FUTURE = Error(1, "requested a future epoch (beyond 'latest')")
BY_NUMBER = {
    "a block": ("eth_getBlockByNumber", lambda params: params[0].startswith("0x") and params[0] != "0x0"),
    "logs": ("eth_getLogs", lambda params: "toBlock" in params[0]),
    "the contract's count": ("eth_call", lambda params: True),
}


@pytest.mark.parametrize("away", [0, 70])
@pytest.mark.parametrize("what", BY_NUMBER)
def test_S28_a_future_epoch_where_the_endpoint_just_showed_that_number_is_asked_for_again(scenario, what, away):
    rig = scenario()
    rig.settle()
    request = rig.request()
    rig.chain.mine(away)
    method, where = BY_NUMBER[what]
    rig.script.on(method, FUTURE, where=where, times=3)
    rig.chain.mine(7)
    raised = rig.settle()
    asked = [call for call in rig.script.calls(method) if where(call["params"])]
    assert all(isinstance(error, RpcUnavailable) and "future epoch" in str(error) for error in raised)
    assert raised or len(asked) == 1  # near the head no number is asked for but once, at the start
    rig.rests(request)


# -- another chain ------------------------------------------------------------------------------------------------


def test_S41_an_endpoint_with_another_chain_id_is_refused_and_never_asked_again(scenario):
    rig = scenario(endpoints=2)
    wrong = rig.endpoints[1]
    wrong.script.on("eth_chainId", Replace("0x1"))
    rig.settle()
    rig.clock.now += 31
    rig.pool.step()
    assert rig.alarms() == {Alarm.ENDPOINT_REFUSED}
    wrong.script.clear()
    asked = len(wrong.script.exchanges)

    rig.endpoints[0].stop()
    request = rig.request()
    assert len(rig.polls(3)) == 3  # rather nothing than that one
    assert len(wrong.script.exchanges) == asked
    rig.rests(request)


@pytest.mark.parametrize("endpoints", [1, 2])
def test_S41_when_every_endpoint_has_another_chain_id_the_bridge_halts(scenario, endpoints):
    rig = scenario(endpoints=endpoints)
    for endpoint in rig.endpoints:
        endpoint.script.on("eth_chainId", Replace("0x1"))
    rig.request()
    with pytest.raises(FatalError, match="chain 1"):
        rig.settle()
    assert rig.cursor() is None
    rig.halted(Alarm.ENDPOINT_REFUSED)


# -- history that is gone -----------------------------------------------------------------------------------------

LOOKBACK = 40  # epochs, for the 24 hours of a gateway


def two_days_off(rig):
    """The bridge was down for longer than the endpoint looks back; a request was made meanwhile."""
    rig.settle()
    request = rig.request()
    rig.chain.mine(90)
    rig.clock.now += 2 * 86_400
    rig.restart()
    return request


def test_S44_history_that_the_only_endpoint_no_longer_shows_is_never_skipped_silently(scenario):
    rig = scenario(lookback=LOOKBACK)
    request = two_days_off(rig)
    before = rig.cursor()
    raised = rig.polls(8)
    assert {type(error) for error in raised} == {HistoryPruned}
    assert rig.cursor() == before
    assert rig.alarms() == {Alarm.HISTORY_PRUNED}
    assert not rig.is_over(Alarm.HISTORY_PRUNED)

    rig.rests(request)  # an archive node takes its place
    assert rig.is_over(Alarm.HISTORY_PRUNED)


def test_S44_history_that_one_endpoint_no_longer_shows_is_read_from_another(scenario):
    rig = scenario(endpoints=2)
    rig.endpoints[0].start(lookback=LOOKBACK)
    request = two_days_off(rig)
    rig.settle()
    assert rig.job(request).state is JobState.READY
    assert rig.endpoints[1].script.calls("eth_getLogs")
    rig.decide(request, OUTCOME)
    rig.rests(request)
