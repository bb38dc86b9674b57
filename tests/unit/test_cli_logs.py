"""Logs of the long-running verbs: an unforeseen error shows where it happened, and no local variable."""

import io
import logging
import sys

import pytest
import structlog

from bridge.cli.logs import set_up_logs

SECRET = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"


class Screen(io.StringIO):
    """Standard error, on a terminal or not."""

    terminal = True

    def isatty(self):
        return self.terminal


@pytest.fixture
def logging_restored():
    handlers = list(logging.root.handlers)
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers


def failing():
    secret = SECRET
    raise ZeroDivisionError(len(secret))


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize("terminal", [True, False], ids=["a terminal", "a file"])
def test_an_unforeseen_error_shows_its_place_and_no_local_variable(monkeypatch, terminal):
    screen = Screen()
    screen.terminal = terminal
    monkeypatch.setattr(sys, "stderr", screen)
    set_up_logs()
    try:
        failing()
    except ZeroDivisionError as exc:
        structlog.get_logger("test").warning("step failed", exc_info=exc)

    assert "test_cli_logs.py" in screen.getvalue()
    assert "ZeroDivisionError: 64" in screen.getvalue()
    assert SECRET not in screen.getvalue()
