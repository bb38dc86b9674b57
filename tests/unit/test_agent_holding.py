"""How long an output waits for its reviewers, and what it takes of a node meanwhile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.agent.holding import time_to_decide
from executor.agent.room import MAX_HELD, Room
from executor.protocol.leases import Capacity
from executor.protocol.spec import Limits


@pytest.mark.parametrize(
    ("wait", "deadline", "expected"),
    [(100, 1000, 100), (1800, 1000, 940), (1800, 60, 30), (1800, 0, 0), (1800, -5, -5)],
    ids=["the policy's time", "a minute before the deadline", "half of what is left", "no time", "too late"],
)
def test_the_time_to_decide(wait, deadline, expected):
    assert time_to_decide(0, wait, deadline) == expected


@given(now=st.floats(0, 1e10), wait=st.integers(1, 10**7), left=st.floats(0.001, 1e7))
def test_it_ends_before_the_deadline_and_within_the_policy_s_time(now, wait, left):
    until = time_to_decide(now, wait, now + left)

    assert until <= now + wait
    assert until <= now + left


TOTAL = Capacity(slots=2, cpu_millis=1000, memory_bytes=2**30, disk_bytes=10_000)
LIMITS = Limits(
    wall_seconds=1, cpu_millis=700, memory_bytes=2**29, disk_bytes=4_000, output_files=1, log_bytes=1, pids=1
)


def test_a_held_output_takes_disk_and_nothing_else():
    room = Room(TOTAL)
    room.enter("one")
    room.reserve("one", LIMITS)
    room.hold("one", LIMITS.disk_bytes)

    assert room.is_settled
    assert room.free == TOTAL.model_copy(update={"disk_bytes": 6_000})
    room.leave("one")
    assert room.free == TOTAL


def test_a_node_that_holds_very_many_outputs_takes_no_more_work():
    room = Room(TOTAL)
    for number in range(MAX_HELD):
        room.hold(str(number), 0)

    assert room.free.slots == 0
    room.leave("0")
    assert room.free.slots == 1
