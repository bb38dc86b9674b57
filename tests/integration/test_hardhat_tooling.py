"""Ignition's modules and the Hardhat tasks, on a running chain: deploy, export, quote, request, read, watch."""

import json
import os
import shutil
import subprocess

import pytest

from bridge.chain.deployments import known_deployment
from bridge.chain.views import BridgeViews
from executor.protocol.wire import OnChainState
from tests.chain_nodes import CHAIN_ID, HARDHAT, funded, node_program

SPEC = b'{"version":"insula/v1"}'
SECONDS = 300


class Tooling:
    """Runs `npx hardhat ...` against one chain, with a deployment of its own."""

    def __init__(self, url, folder):
        self.folder, self.id = folder, f"test-{os.getpid()}"
        self._environment = {**os.environ, "INSULA_LOCALHOST_URL": url, "HARDHAT_IGNITION_CONFIRM_DEPLOYMENT": "true"}

    def run(self, *words, status=0):
        common = ("--network", "localhost", "--build-profile", "default")  # what npm test has built already
        argv = [node_program(), "node_modules/hardhat/dist/src/cli.js", *words, *common]
        done = subprocess.run(
            argv,
            cwd=HARDHAT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout if status in (0, 2) else done.stderr

    def insula(self, *words, status=0):
        said = self.run("insula", *words, "--deployments", str(self.folder), status=status)
        return json.loads(said) if status in (0, 2) else said


@pytest.fixture
def tooling(devnet, tmp_path):
    url = str(devnet.client.transport.endpoint_uri)
    tooling = Tooling(url, tmp_path)
    words = ("ignition/modules/LilypadV0.ts", "--parameters", "ignition/parameters/localhost.json")
    try:
        tooling.run("ignition", "deploy", *words, "--deployment-id", tooling.id)
        tooling.insula("export-deployment", "--deployment-id", tooling.id)
        yield tooling
    finally:
        shutil.rmtree(HARDHAT / "ignition" / "deployments" / tooling.id, ignore_errors=True)


@pytest.mark.timeout(2 * SECONDS)
def test_a_deployment_is_exported_to_where_python_and_the_tasks_find_it(devnet, tooling, tmp_path):
    known = known_deployment(CHAIN_ID, tmp_path)
    assert set(known.contracts) == {"NodeRegistry", "ComputeBridge", "ComputeLens", "LilypadV0"}
    assert all(devnet.client.code(address) for address in known.contracts.values())
    views = BridgeViews(devnet.client, known.contracts["ComputeBridge"])

    spec = tmp_path / "spec.json"
    spec.write_bytes(SPEC)
    curator, prices = funded(4).address, ("--unit-price", "5", "--delivery-fee", "2")
    terms = (str(spec), "--curator", curator, *prices, "--nodes", "3", "--ttl", "60")
    quoted = tooling.insula("quote", *terms)
    assert quoted == {"price": "17", "matchingNodes": "0", "operators": "0", "quorum": 2, "enoughOperators": False}

    placed = tooling.insula("request", *terms)
    assert (placed["id"], placed["price"]) == ("1", "17")
    assert "0x" + views.request_hash(1).hex() == placed["requestHash"]

    read = tooling.insula("read", "1")
    assert (read["state"], read["deadline"]) == ("Requested", placed["deadline"])
    assert tooling.insula("watch", "1", "--timeout", "0", status=2)["state"] == "Requested"
    assert views.request_of(1).state == OnChainState.REQUESTED

    assert "--curator" in tooling.insula("quote", str(spec), status=1)
    assert "there is no request 9" in tooling.insula("read", "9", status=1)
