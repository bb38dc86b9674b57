"""The service's threads: what happens around a step that works, fails, or must end everything."""

import threading

import pytest

from bridge.errors import FatalError, RpcUnavailable
from bridge.service import MAX_UNEXPECTED, Loop, Threads


class Scripted:
    """A body whose steps do what a list says."""

    def __init__(self, *script):
        self.script = list(script)

    def step(self):
        action = self.script.pop(0)
        if isinstance(action, BaseException):
            raise action
        return action


def loop(body, fatal=None):
    return Loop("test", body, 5.0, threading.Event(), fatal or (lambda *_: pytest.fail("fatal")))


def test_a_busy_step_is_followed_at_once_by_the_next():
    assert loop(Scripted(True))._step() == 0.0


def test_an_idle_step_waits_the_idle_time():
    assert loop(Scripted(False))._step() == 5.0


def test_failures_in_a_row_wait_longer_each_time_and_a_success_ends_the_row():
    tried = loop(Scripted(RpcUnavailable(), RpcUnavailable(), True, RpcUnavailable()))

    assert [tried._step() for _ in range(4)] == [0.5, 1.0, 0.0, 0.5]


def test_an_unforeseen_error_does_not_end_the_loop():
    tried = loop(Scripted(ZeroDivisionError("nobody thought of it"), True))

    assert tried._step() > 0
    assert "ZeroDivisionError" in tried.state.last_error
    assert tried._step() == 0.0


def test_too_many_unforeseen_errors_in_a_row_are_fatal():
    fatal = []
    tried = loop(Scripted(*[ValueError()] * MAX_UNEXPECTED), lambda name, error: fatal.append(name))

    for _ in range(MAX_UNEXPECTED):
        tried._step()

    assert fatal == ["test"]


def test_a_fatal_error_stops_every_loop_and_names_the_one_it_came_from():
    threads = Threads()
    threads.add("listener", Scripted(FatalError("wrong chain")), 5.0)

    class Idle:
        def step(self):
            return False

    threads.add("relayer", Idle(), 60.0)

    with pytest.raises(FatalError, match="listener: wrong chain"):
        threads.run()
