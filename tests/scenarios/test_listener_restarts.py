"""Scenarios 40 and 43: another chain behind the same URL, and processes that are killed."""

import multiprocessing
import signal
import time
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from bridge.errors import FatalError
from bridge.jobs import JobState
from bridge.store.engine import _READING
from bridge.watch import Alarm
from tests.chain_nodes import anvil_node, wait_for
from tests.scenarios.conftest import World
from tests.scenarios.rig import ORDER
from tests.scenarios.victim import POINTS, live_until

pytestmark = pytest.mark.chain

# -- another chain ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def other_world(tmp_path_factory, _world):
    first = _world.chain.client.block_by_number(0)
    wait_for(
        lambda: time.time() >= first.timestamp + 1, 5, "another second: a first block is its time and nothing else"
    )
    with anvil_node(tmp_path_factory.mktemp("other")) as client:
        yield World(client)


def new_and_empty(chain):
    chain.client.ask("anvil_reset")
    chain.mine(2)


def new_and_as_far_with_the_same_contract(chain):
    chain.mine(40)


def new_and_longer_by_far(chain):
    chain.mine(150)


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("other", [new_and_as_far_with_the_same_contract, new_and_longer_by_far, new_and_empty])
def test_S40_a_new_chain_of_the_same_id_behind_the_url_halts_the_bridge(scenario, other_world, other, is_restarted):
    rig = scenario()
    rig.settle()
    request = rig.request()
    rig.chain.mine(9)
    rig.settle()
    rig.decide(request)
    before = rig.cursor(), rig.jobs()

    fresh = other_world.fresh() if other is not new_and_empty else other_world.chain
    other(fresh)
    assert fresh.deployment.bridge == rig.chain.deployment.bridge
    rig.endpoints[0].start(fresh.client.transport.endpoint_uri)
    if is_restarted:
        rig.restart()
    with pytest.raises(FatalError, match=r"first block|reset"):
        rig.polls(5)
    assert (rig.cursor(), rig.jobs()) == before
    rig.halted(Alarm.CHAIN_RESET)


def test_S40_a_chain_that_goes_on_below_what_was_final_halts_the_bridge(scenario):
    rig = scenario()
    rig.chain.mine(12)
    rig.settle()
    assert rig.cursor().final_number == rig.head() - 6
    rig.reorg(9)
    rig.chain.client.ask("evm_increaseTime", 3600)
    rig.chain.mine()
    with pytest.raises(FatalError, match="reset"):
        rig.polls(5)
    rig.halted(Alarm.CHAIN_RESET)


# -- kill -9 ------------------------------------------------------------------------------------------------------


def nothing_yet(rig):
    return rig.request()


def new_request(rig):
    rig.settle()
    return rig.request()


def deep_request(rig):
    request = new_request(rig)
    rig.settle()
    rig.chain.mine()
    return request


def long_absence(rig):
    request = new_request(rig)
    rig.chain.mine(70)
    return request


def moved_request(rig):
    rig.settle()
    signed = rig.offer()
    rig.chain.mine()
    rig.settle()
    rig.reorg(1, [], [signed])
    return rig.chain.request_of(1, ORDER)


def final_blocks(rig):
    request = new_request(rig)
    rig.chain.mine(7)
    return request


def decided(rig):
    request = deep_request(rig)
    rig.chain.mine()
    rig.settle()
    rig.decide(request)
    return request


def mined(rig):
    request = decided(rig)
    rig.settle()
    rig.chain.mine()
    return request


def settled(rig):
    request = mined(rig)
    rig.chain.mine(6)
    return request


#: what has happened before the process starts that dies at this point
BEFORE = {
    "the first cursor": nothing_yet,
    "a request": new_request,
    "a request is deep enough": deep_request,
    "a range far behind the head": long_absence,
    "blocks that left the chain": moved_request,
    "blocks that became final": final_blocks,
    "a transaction is signed": decided,
    "a transaction is handed in": decided,
    "the result is seen": mined,
    "the receipt": mined,
    "the delivery is done": mined,
    "the job is final": settled,
}


@pytest.fixture(scope="session")
def processes():
    """Starts processes from one that has the modules loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.scenarios.victim"])
    return context


@pytest.mark.parametrize("point", POINTS)
def test_S43_killed_with_sigkill_right_before_and_right_after_a_commit_it_loses_and_doubles_nothing(
    scenario, processes, point
):
    rig = scenario()
    request = BEFORE[point](rig)
    for is_before in (True, False):
        child = processes.Process(target=live_until, args=(rig.config, rig.clock.now, point, is_before))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        child.close()
    rig.restart()
    rig.rests(request)
    sent = {call["params"][0] for call in rig.script.calls("eth_sendRawTransaction")}
    assert len(sent) == len(rig.decided)


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def every_commit_fails_once(engine):
    """At each commit the process dies; tried again, it succeeds. How often it died."""
    commits, died = [], []

    def dies(connection):
        if connection.get_execution_options().get(_READING):
            return
        commits.append(1)
        if len(commits) % 2:
            died.append(1)
            raise Killed

    event.listen(engine, "commit", dies)
    yield died
    event.remove(engine, "commit", dies)


def lives_on(rig, steps=10):
    """Step, and start again after each death."""
    for _ in range(steps):
        try:
            rig.step()
        except Killed:
            rig.restart()


def test_S43_a_process_that_dies_at_every_single_commit_comes_to_the_same_end(scenario):
    rig = scenario()
    with every_commit_fails_once(rig.engine) as died:
        lives_on(rig)
        signed = rig.offer()
        rig.chain.mine()
        lives_on(rig)
        rig.reorg(1, [], [signed])
        rig.chain.mine(3)
        lives_on(rig)
        assert len(died) > 4
    request = rig.chain.request_of(1, ORDER)
    assert rig.job(request).state is JobState.READY
    rig.decide(request)
    with every_commit_fails_once(rig.engine) as died:
        for _ in range(10):
            rig.chain.mine()
            lives_on(rig)
        assert len(died) > 4
    rig.rests(request)
