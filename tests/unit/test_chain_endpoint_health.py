"""Which of several endpoints is asked, by what is known of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.chain.endpoint_health import (
    CHECK_SECONDS,
    FRESH_SECONDS,
    HEARD_SECONDS,
    LONGEST_PAUSE,
    MOST_LAG,
    PRUNED_SECONDS,
    Health,
    choose,
    cost,
    is_behind,
)

NOW = 10_000.0


def sound(head=100, latency=0.1, heard_at=NOW, **more):
    return Health(head=head, latency=latency, heard_at=heard_at, checked_at=NOW, **more)


#: what two endpoints are like, which is in use, and which is asked next; we have taken in block 100
CHOICES = {
    "equal ones: the first of the list": ((sound(), sound()), None, 0),
    "the one in use stays when the other is a little better": ((sound(latency=0.9), sound(latency=0.1)), 0, 0),
    "it is left when the other is much better": ((sound(latency=9.0), sound(latency=0.1)), 0, 1),
    "it is left after a failure": ((sound().failed(), sound()), 0, 1),
    "a failed one is asked when there is no other": ((sound().failed(), sound(refused="another chain")), 0, 0),
    "of two that failed the one with fewer failures": ((sound().failed().failed(), sound().failed()), 0, 1),
    "one that is behind what was taken in": ((sound(head=99), sound()), 0, 1),
    "never over to one that is behind": ((sound().throttled(NOW, 60), sound(head=99)), 0, None),
    "one whose head is not known now is asked": (
        (sound().throttled(NOW, 60), sound(head=99, heard_at=NOW - FRESH_SECONDS)), 0, 1,
    ),
    "all are behind: the chain may have become shorter": ((sound(head=99), sound(head=98)), 0, 0),
    "the one that was not behind is long gone": (
        (sound(heard_at=NOW - HEARD_SECONDS).throttled(NOW, 60), sound(head=99)), 0, 1,
    ),
    "one that lags": ((sound(head=100), sound(head=110)), 0, 1),
    "one that asked to be left alone": ((sound().throttled(NOW, 60), sound()), 0, 1),
    "all asked to be left alone": ((sound().throttled(NOW, 60), sound().throttled(NOW, None)), 0, None),
    "one that lacks history": ((sound().lacks_history(NOW), sound(latency=9.0)), 0, 1),
    "one that lacked history long ago": ((sound().lacks_history(NOW - PRUNED_SECONDS), sound()), 0, 0),
    "one that is refused is never asked": ((sound(refused="x"), sound(refused="y")), 0, None),
    "one that boasts of a head gains a bounded amount": ((sound(latency=0.1), sound(head=2**62, latency=20.0)), 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_the_endpoint_that_is_asked(name):
    healths, current, expected = CHOICES[name]
    assert choose(healths, NOW, 100, current) == expected


def test_one_that_was_tried_in_vain_is_not_chosen_again():
    assert choose((sound(), sound()), NOW, 100, 0, {0}) == 1
    assert choose((sound(),), NOW, 100, 0, {0}) is None


def test_an_endpoint_that_says_when_is_left_alone_until_then_and_no_longer_than_two_minutes():
    health = sound().throttled(NOW, 30.0)
    assert health.is_left_alone(NOW + 29)
    assert not health.is_left_alone(NOW + 30)
    forever = sound().throttled(NOW, 1e9)
    assert not forever.is_left_alone(NOW + LONGEST_PAUSE)
    assert not forever.is_left_alone(NOW - 1)  # the clock was set back


def test_one_that_does_not_say_when_is_left_alone_twice_as_long_each_time():
    health, pauses = sound(), []
    for _ in range(9):
        health = health.throttled(NOW, None)
        pauses.append(health.not_before - NOW)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, LONGEST_PAUSE, LONGEST_PAUSE]
    assert health.answered(0.1).throttled(NOW, None).not_before == NOW + 1


def test_an_endpoint_is_checked_first_after_a_failure_and_every_so_often():
    assert Health().needs_check(NOW)
    assert not sound().needs_check(NOW)
    assert sound().failed().needs_check(NOW)
    assert sound().needs_check(NOW + CHECK_SECONDS)
    assert sound().needs_check(NOW - 1)  # the clock was set back
    assert not Health().showed(5, NOW, checked=True).needs_check(NOW)
    assert Health().showed(5, NOW, checked=False).needs_check(NOW)


def test_a_refused_one_keeps_its_reason():
    assert sound().refuse("another chain").refused == "another chain"


def test_an_endpoint_that_was_not_heard_lately_is_not_called_behind():
    healths = (sound(head=5, heard_at=NOW - FRESH_SECONDS), sound())
    assert not is_behind(healths, 0, 100, NOW)
    assert is_behind((sound(head=5), sound()), 0, 100, NOW)


healths = st.builds(
    Health,
    head=st.integers(-1, 2**63),
    heard_at=st.floats(0, 2 * NOW),
    checked_at=st.floats(0, 2 * NOW),
    latency=st.floats(0, 60),
    errors=st.floats(0, 1),
    failures=st.integers(0, 100),
    throttles=st.integers(0, 100),
    not_before=st.floats(0, 2 * NOW),
    pruned_at=st.floats(0, 2 * NOW),
    refused=st.sampled_from(["", "", "another chain"]),
)


@given(st.lists(healths, min_size=1, max_size=8), st.integers(0, 2**63), st.integers(0, 7))
def test_what_is_chosen_may_be_asked_and_a_choice_is_stable(known, floor, current):
    place = choose(known, NOW, floor, current)
    if place is None:
        assert all(
            health.refused or health.is_left_alone(NOW) or is_behind(known, at, floor, NOW)
            for at, health in enumerate(known)
        )
        return
    assert not known[place].refused
    assert not known[place].is_left_alone(NOW)
    assert not is_behind(known, place, floor, NOW)
    assert choose(known, NOW, floor, place) == place


@given(healths, st.integers(-1, 2**63))
def test_a_boast_costs_the_others_no_more_than_a_bounded_amount(health, boast):
    best = max(health.head, boast)
    assert 0 <= cost(health, best, NOW) - cost(health, health.head, NOW) <= MOST_LAG


@given(st.lists(st.one_of(st.none(), st.floats(0, 30)), max_size=50))
def test_the_error_rate_stays_a_rate(calls):
    health = Health()
    for seconds in calls:
        health = health.failed() if seconds is None else health.answered(seconds)
    assert 0 <= health.errors <= 1
    assert 0 <= health.latency <= 30
