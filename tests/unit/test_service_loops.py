"""The service's threads: what happens around a step that works, fails, or must end everything."""

import errno
import logging
import threading

import pytest
from structlog.testing import capture_logs

from bridge.errors import FatalError, RpcUnavailable, StoreFull, StoreUnavailable
from bridge.repeats import Repeats, TellOnce
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


#: name -> what the environment does to a step
ENVIRONMENT = {
    "the disk is full": OSError(errno.ENOSPC, "No space left on device"),
    "no descriptor is left": OSError(errno.EMFILE, "Too many open files"),
    "the database has no room": StoreFull("full"),
    "the database is locked": StoreUnavailable("locked"),
}


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_failure_of_the_environment_never_ends_the_process(name):
    tried = loop(Scripted(*[ENVIRONMENT[name]] * (3 * MAX_UNEXPECTED), True))

    for _ in range(3 * MAX_UNEXPECTED):
        assert tried._step() > 0
    assert tried._step() == 0.0


def test_foreseen_failures_do_not_count_among_the_unforeseen():
    tried = loop(Scripted(*[ValueError(), OSError(errno.EMFILE, "Too many open files")] * MAX_UNEXPECTED))

    for _ in range(2 * MAX_UNEXPECTED):
        assert tried._step() > 0


class Faulty:
    def step(self):
        raise ZeroDivisionError("nobody thought of it")


def test_an_unforeseen_failure_that_repeats_is_told_in_full_once():
    tried = loop(Faulty())
    with capture_logs() as lines:
        for _ in range(5):
            tried._step()

    assert [line["exc_info"] is not None for line in lines] == [True, False, False, False, False]
    assert lines[4]["failures_in_a_row"] == 5


def test_a_librarys_record_of_a_failure_that_repeats_is_one_line(caplog):
    logger = logging.getLogger("tests.repeats")
    once = TellOnce()
    logger.addFilter(once)
    try:
        for _ in range(3):
            try:
                Faulty().step()
            except ZeroDivisionError:
                logger.exception("failed")
        logger.error("nothing raised")
    finally:
        logger.removeFilter(once)

    first, second, third, plain = caplog.records
    assert first.exc_info
    assert not second.exc_info
    assert third.getMessage() == "failed: ZeroDivisionError: nobody thought of it; 3 times by now"
    assert plain.getMessage() == "nothing raised"


def test_no_more_than_so_many_different_failures_are_remembered():
    repeats = Repeats()
    repeats.count(ValueError())
    for number in range(300):
        repeats.count(type(f"Error{number}", (Exception,), {})())

    assert repeats.count(ValueError()) == 1
