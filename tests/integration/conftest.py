"""Fixtures of the integration tests."""

import logging
import os

import pytest
import structlog

from bridge.cli.main import _application, run


@pytest.fixture
def insula(capsys, monkeypatch, tmp_path):
    """Call the program in this process; its exit code and what it printed."""
    for name in list(os.environ):
        if name.startswith("INSULA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("INSULA_HOME", str(tmp_path / "home"))
    application = _application()

    def call(*words):
        capsys.readouterr()  # what a server in this process has said so far
        code = run(lambda: application(list(words)))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    handlers = list(logging.root.handlers)
    umask = os.umask(0o022)
    yield call
    os.umask(umask)  # `bridge run` keeps what it writes to itself
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
