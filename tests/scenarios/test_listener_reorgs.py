"""Scenarios 17 to 23: the chain changes its mind."""

import pytest

from bridge.chain.cursor import DeepReorg
from bridge.devnet.chaos.script import Answer
from bridge.errors import RpcUnavailable
from bridge.jobs import JobState
from bridge.watch import Alarm
from tests.scenarios.rig import ORDER, OTHER_ORDER, OTHER_OUTCOME, OUTCOME

pytestmark = pytest.mark.chain

DEEP = {"confirmation": 1, "posting": 6, "finality": 9}


def seen(rig, order=ORDER):
    """A request that the bridge has seen in the newest block; its transaction too."""
    rig.settle()
    signed = rig.offer(order)
    rig.chain.mine()
    rig.settle()
    return rig.chain.request_of(rig.chain.bridge.request_count(), order), signed


def sent(rig):
    return rig.script.calls("eth_sendRawTransaction")


@pytest.mark.parametrize("state", [JobState.OBSERVED, JobState.RUNNING, JobState.POSTING])
def test_S17_a_request_that_a_reorg_moves_keeps_its_job_and_does_not_run_again(scenario, state):
    rig = scenario(depths={"confirmation": 0, "posting": 4, "finality": 6})
    request, signed = seen(rig)
    if state is JobState.RUNNING:
        rig.running(request)
    elif state is JobState.POSTING:
        rig.decide(request)
    before = rig.job(request)
    rig.reorg(1, [], [signed])
    rig.settle()

    after = rig.job(request)
    assert (after.block_number, after.block_hash != before.block_hash) == (before.block_number + 1, True)
    if state is not JobState.OBSERVED:
        assert after.state is state
    if state is JobState.RUNNING:
        rig.decide(request)
    rig.rests(request)


@pytest.mark.parametrize("decided", [False, True])
def test_S18_a_request_that_a_reorg_of_five_blocks_takes_away_for_good_is_orphaned_and_never_posted(scenario, decided):
    rig = scenario(depths=DEEP)
    request, _ = seen(rig)
    rig.chain.mine(4)
    rig.settle()
    if decided:
        rig.decide(request)
        rig.settle()
    rig.reorg(5, *[[]] * 8)
    rig.settle()
    assert rig.job(request).state is JobState.ORPHANED
    assert sent(rig) == []
    rig.chain.mine(8)
    rig.rests()
    assert sent(rig) == []


@pytest.mark.parametrize("is_sent", [False, True])
def test_S19_when_an_id_becomes_another_request_the_old_result_is_never_its_result(scenario, is_sent):
    rig = scenario(depths={"confirmation": 0, "posting": 0 if is_sent else 3, "finality": 9})
    first, _ = seen(rig)
    rig.decide(first, OTHER_OUTCOME)
    rig.settle()
    assert bool(sent(rig)) == is_sent
    old = [call["params"][0] for call in sent(rig)]
    rig.reorg(1)
    rig.offer(OTHER_ORDER)
    rig.chain.mine()
    for raw in old:  # whatever was sent before is still around
        rig.chain.client.ask("eth_sendRawTransaction", raw)
    rig.chain.mine()
    second = rig.chain.request_of(1, OTHER_ORDER)
    rig.settle()
    assert (first.id, second.id, first.hash != second.hash) == (1, 1, True)
    assert rig.job(first).state is JobState.ORPHANED

    rig.chain.mine(4)
    rig.settle()
    rig.decide(second, OUTCOME)
    rig.rests(second)


@pytest.mark.parametrize("comes_back", [False, True])
def test_S20_a_reorg_deeper_than_the_confirmation_holds_back_the_result_of_what_already_ran(scenario, comes_back):
    rig = scenario(depths=DEEP)
    request, signed = seen(rig)
    rig.chain.mine(2)
    rig.settle()
    assert rig.job(request).state is JobState.READY
    rig.decide(request)
    rig.settle()
    assert sent(rig) == []

    rig.reorg(3, [], [], [], [])
    rig.settle()
    assert rig.job(request).state is JobState.ORPHANED
    rig.chain.mine(4)
    rig.settle()
    assert sent(rig) == []
    if not comes_back:
        rig.rests()
        return

    rig.chain.client.send_raw(signed.raw)
    rig.chain.mine(6)
    rig.settle()
    assert sent(rig) == []  # deep enough for the run, not for the posting
    assert rig.job(request).state in (JobState.READY, JobState.OBSERVED)
    rig.decide(request)
    rig.rests(request)


def test_S21_a_reorg_below_what_was_final_halts_with_an_alarm_and_posts_nothing(scenario):
    rig = scenario(depths={"confirmation": 1, "posting": 4, "finality": 6})
    rig.chain.mine(8)
    request, _ = seen(rig)
    rig.chain.mine(2)
    rig.settle()
    rig.decide(request)
    rig.reorg(10, *[[]] * 14)
    for _ in range(2):
        with pytest.raises(DeepReorg, match="rebuild"):
            rig.settle()
        rig.restart()
    assert sent(rig) == []
    rig.halted(Alarm.REORG_BELOW_FINALITY)


def test_S22_a_shorter_chain_is_waited_for_and_then_followed(scenario):
    rig = scenario(depths=DEEP)
    kept, _ = seen(rig)
    gone = rig.request()
    rig.chain.mine(3)
    rig.settle()
    top = rig.cursor().scanned_number
    rig.reorg(4, [])
    rig.polls(1)
    assert rig.cursor().scanned_number == top  # a lower head may be a node that is behind
    rig.settle()
    assert rig.cursor().scanned_number == top - 3
    assert rig.job(gone).state is JobState.ORPHANED
    ranges = [call["params"][0] for call in rig.script.calls("eth_getLogs") if "fromBlock" in call["params"][0]]
    assert all(int(query["fromBlock"], 16) <= int(query["toBlock"], 16) for query in ranges)
    rig.rests(kept)


def test_S23_two_reorgs_in_succession_leave_what_the_last_branch_says(scenario):
    rig = scenario(depths=DEEP)
    first, signed = seen(rig)
    rig.reorg(1)
    rig.offer(OTHER_ORDER)
    rig.chain.mine(2)
    rig.polls(1)
    second = rig.chain.request_of(1, OTHER_ORDER)
    rig.reorg(2, [], [signed], [])
    rig.settle()
    assert rig.job(second).state is JobState.ORPHANED
    rig.rests(first)


AT = {
    "a parent": ("eth_getBlockByHash", lambda params: True),
    "the logs of a block": ("eth_getLogs", lambda params: "blockHash" in params[0]),
    "the logs of a range": ("eth_getLogs", lambda params: "fromBlock" in params[0]),
    "the contract's count": ("eth_call", lambda params: True),
}


@pytest.mark.parametrize("away", [4, 70])
@pytest.mark.parametrize("at", AT)
def test_S23_a_reorg_in_the_middle_of_a_scan_stores_nothing_of_two_branches(scenario, at, away):
    method, where = AT[at]
    rig = scenario(depths={"confirmation": 1, "posting": 2, "finality": 12})
    rig.settle()
    rig.chain.mine(away)
    gone = rig.request()
    rig.chain.mine(2)
    struck = []

    def changes_its_mind(call, forward):
        if not struck:
            struck.append(call)
            rig.reorg(3, [], [])
            rig.offer(OTHER_ORDER, index=3)
            rig.chain.mine(2)
        return forward(call)

    rig.script.on(method, Answer(changes_its_mind), where=where)
    rig.settle()
    assert struck or not rig.script.calls(method)
    if not struck:
        rig.chain.mine(12)
        rig.settle()
    assert struck
    assert all(isinstance(error, RpcUnavailable) for error in rig.raised)
    assert gone.hash not in rig.jobs() or rig.job(gone).state is JobState.ORPHANED
    rig.rests(rig.chain.request_of(1, OTHER_ORDER))
