"""The node's HTTP API for its reviewers: real HTTP to a real node that holds an output, by friends and by strangers."""

import hashlib
import http.client
import json
import secrets
import socket
import time
from contextlib import closing
from urllib.parse import quote

import pytest

from bridge.cli.output import Exit
from executor.agent import reviewserver
from executor.agent.config import NodeConfig, init_node
from executor.agent.review import open_review
from executor.agent.reviewclient import open_remote
from executor.agent.service import run_node
from executor.errors import InvalidInput
from executor.protocol.nodeauth import Audience, review_audience, sign_call
from executor.protocol.release import Held, Subject, sign_release
from executor.protocol.signing import Key, Scope
from executor.protocol.wire import Status
from tests.agent_twin import CHAIN_ID, CONTRACT, BridgeTwin
from tests.integration.test_agent_release import (
    KEYS,
    SECRET,
    STRANGER,
    Traps,  # noqa: F401 - its module's fixtures are not ours
    Writes,
    attested,
    held,
    job,
    key_file,
    policy,
    running,
    still_held,
    subject,
)

ANNE, BEN, OTHER = KEYS  # Anne reviews everything; Ben too where a test says so; the other one only a data class
SCOPE = Scope(CHAIN_ID, CONTRACT)


@pytest.fixture
def twin():
    with BridgeTwin().running() as running_twin:
        yield running_twin


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def folder(tmp_path, twin, port):
    fields = {"bridge_url": twin.url, "chain_id": CHAIN_ID, "bridge_contract": CONTRACT, "registry": CONTRACT}
    sizes = {"poll_seconds": 0.1, "slots": 1, "disk_bytes": 2**30, "memory_bytes": 2**29}
    init_node(tmp_path / "node", **fields, **sizes, review_port=port, rpc_url="http://127.0.0.1:1")
    config = tmp_path / "node" / "node.toml"
    policy(tmp_path / "node", mode="person", signers=[ANNE.address], more=data_class())
    config.write_text(config.read_text())
    return tmp_path / "node"
