"""Retries: bounded, named, and without waiting in tests."""

import pytest

from bridge.errors import RpcRefused, RpcUnavailable
from bridge.retrying import retry_call


def failing(times, error):
    calls = []

    def call():
        calls.append(1)
        if len(calls) <= times:
            raise error
        return len(calls)

    return call


def test_a_call_that_fails_for_a_while_succeeds_in_the_end():
    waits = []
    result = retry_call(
        failing(3, RpcUnavailable("no")), on=(RpcUnavailable,), attempts=5, deadline_seconds=60, sleep=waits.append
    )
    assert result == 4
    assert len(waits) == 3
    assert all(0 <= wait <= 10 for wait in waits)


def test_the_last_error_is_raised_as_it_is():
    with pytest.raises(RpcUnavailable, match="down"):
        retry_call(
            failing(9, RpcUnavailable("down")),
            on=(RpcUnavailable,),
            attempts=3,
            deadline_seconds=60,
            sleep=lambda _: None,
        )


def test_an_error_that_was_not_named_is_raised_at_once():
    waits = []
    with pytest.raises(RpcRefused):
        retry_call(
            failing(1, RpcRefused(1, "no")), on=(RpcUnavailable,), attempts=5, deadline_seconds=60, sleep=waits.append
        )
    assert waits == []


def test_no_wait_goes_beyond_the_deadline():
    with pytest.raises(RpcUnavailable):
        retry_call(failing(9, RpcUnavailable("no")), on=(RpcUnavailable,), attempts=9, deadline_seconds=0)
