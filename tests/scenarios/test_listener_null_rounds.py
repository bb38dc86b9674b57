"""Scenarios 1 to 7: epochs without a block."""

from itertools import pairwise

import pytest

from bridge.watch import Alarm

pytestmark = pytest.mark.chain

RUN = 10


def passes_a_null_round(scenario, chain, dialect):
    """At the start, at the head and at the end of a long absence, with a request on each side."""
    head, deployed = chain.client.head().number, chain.deployment.deploy_block
    # below the contract, right above the head, and where the catching up will look for its last block
    rig = scenario(dialect=dialect, null_epochs=(deployed, head + 3, head + 2 + 60 + 3 - 6))
    before = rig.request()
    rig.settle()
    after = rig.request()
    assert rig.epochs.is_null(head + 3)
    rig.settle()
    rig.chain.mine(60)
    last = rig.request()
    rig.settle()
    rig.rests(before, after, last)
    assert not rig.alarms()


def test_S01_a_null_round_at_the_head_told_by_code_12_is_passed(scenario, chain):
    passes_a_null_round(scenario, chain, "lotus-1.36")


def test_S02_a_null_round_told_by_an_old_text_with_code_1_is_passed(scenario, chain):
    passes_a_null_round(scenario, chain, "lotus-1.30")


def test_S03_a_null_round_told_by_null_is_passed(scenario, chain):
    passes_a_null_round(scenario, chain, "lotus-null")


def test_S04_a_null_round_answered_with_the_block_before_is_never_stored_under_its_number(scenario, chain):
    passes_a_null_round(scenario, chain, "forest")


def test_S05_ten_null_rounds_in_which_the_head_stands_and_then_jumps_lose_nothing(scenario, chain):
    head = chain.client.head().number
    options = {"stale_head_seconds": 240.0}  # as by default: ten null rounds are longer
    rig = scenario(deferred=True, null_epochs=range(head + 2, head + 2 + RUN), chain_options=options)
    rig.settle()
    request = rig.request()  # its block is the newest: included, not executed, while the epochs pass
    rig.settle()
    before = rig.cursor()
    assert rig.polls(RUN * 3) == []
    assert rig.cursor() == before
    assert rig.alarms() == {Alarm.STALE_HEAD}

    rig.chain.mine()
    rig.clock.now = float(rig.chain.client.head().timestamp)
    rig.settle()
    rig.chain.mine()
    rig.settle()
    window = rig.window()
    assert max(b.number - a.number for a, b in pairwise(window)) == RUN + 1
    assert rig.watch.samples()["null_rounds", ()] == RUN
    rig.rests(request)
    assert rig.alarms() == {Alarm.STALE_HEAD}
    assert rig.is_over(Alarm.STALE_HEAD)


def at_its_start(deployed, head):
    return deployed  # the epoch below the contract's block: the first range begins there


def at_its_end(deployed, head):
    return head + 80 - 6  # the last final epoch of the absence


def at_the_tag(deployed, head):
    return head + 80 - 9  # what the endpoint's tag would name


@pytest.mark.parametrize("place", [at_its_start, at_its_end, at_the_tag])
@pytest.mark.parametrize("dialect", ["lotus-1.36", "forest"])
def test_S06_a_null_round_exactly_at_a_ranges_edge_or_at_the_final_tag_is_passed(scenario, chain, place, dialect):
    head = chain.client.head().number
    null = place(chain.deployment.deploy_block, head)
    options = {"finality_tag": "finalized"}
    rig = scenario(dialect=dialect, null_epochs=(null,), tags=True, finalized_lag=9, chain_options=options)
    first = rig.request()
    rig.chain.mine(77)
    second = rig.request()
    assert rig.epochs.epoch_of(rig.head()) == head + 80
    assert rig.epochs.is_null(null)
    rig.settle()
    rig.rests(first, second)
    assert not rig.alarms()


@pytest.mark.parametrize("missed", [0, 70])
def test_S07_a_request_in_the_block_right_after_a_null_run_is_seen_once(scenario, chain, missed):
    head = chain.client.head().number
    rig = scenario(null_epochs=range(head + 1, head + 1 + RUN))
    rig.settle()
    request = rig.request()
    rig.chain.mine(1 + missed)
    rig.settle()
    assert rig.job(request).block_number == head + 1 + RUN
    rig.rests(request)
