"""Fixtures for all tests, and the rule that CI skips nothing."""

import os

import pytest
import structlog
from hypothesis import settings

from tests.chain_nodes import _anvil, _hardhat, _standing, anvil_chain, any_chain, both_chains, devnet, hardhat_chain
from tests.docker_engine import docker_engine, gvisor_engine
from tests.integration.bridge_parts import close_engines
from tests.kubo_daemon import kubo, second_kubo

__all__ = [
    "_anvil",
    "_hardhat",
    "_standing",
    "anvil_chain",
    "any_chain",
    "both_chains",
    "devnet",
    "docker_engine",
    "gvisor_engine",
    "hardhat_chain",
    "kubo",
    "second_kubo",
]

# An example that takes longer than another one has no fault: other programs use the machine, too.
settings.register_profile("unhurried", settings(), deadline=None)
settings.load_profile("unhurried")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With CI=true a skip, for whatever reason, is a failure: a missing part must not pass for a tested one."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI skips nothing: {report.longrepr}"
        vars(report).pop("wasxfail", None)
    return report


@pytest.fixture(autouse=True)
def _logs_as_at_first():
    """No test hears of how another one set its logs up."""
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _databases_closed():
    """Idle connections are closed with their test."""
    yield
    close_engines()
