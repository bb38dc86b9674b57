"""How long an output waits for its reviewers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.agent.holding import time_to_decide


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
