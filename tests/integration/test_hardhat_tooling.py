"""Ignition's modules and the Hardhat tasks, on a running chain: deploy, export, quote, request, read, watch."""

import json
import os
import shutil
import subprocess

import pytest

from bridge.chain.contracts import cancel_calldata
from bridge.chain.deployments import known_deployment
from bridge.chain.views import BridgeViews
from executor.protocol.wire import OnChainState, Order
from tests.chain_nodes import CHAIN_ID, HARDHAT, funded, node_program
from tests.token_kit import Token

SPEC = b'{"version":"insula/v1"}'
SECONDS = 300


class Tooling:
    """Runs `npx hardhat ...` against one chain, with a deployment of its own."""

    def __init__(self, url, folder):
        self.folder, self.id = folder, f"test-{os.getpid()}"
        others = {name: value for name, value in os.environ.items() if not name.startswith("INSULA_")}
        self._environment = {**others, "INSULA_LOCALHOST_URL": url, "HARDHAT_IGNITION_CONFIRM_DEPLOYMENT": "true"}

    def run(self, *words, status=0, **variables):
        common = ("--network", "localhost", "--build-profile", "default")  # what npm test has built already
        argv = [node_program(), "node_modules/hardhat/dist/src/cli.js", *words, *common]
        done = subprocess.run(
            argv,
            cwd=HARDHAT,
            env=self._environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout if status in (0, 2) else done.stderr

    def insula(self, *words, status=0, folder=None, **variables):
        said = self.run("insula", *words, "--deployments", str(folder or self.folder), status=status, **variables)
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


@pytest.mark.timeout(2 * SECONDS)
def test_the_tasks_find_a_devnet_by_its_variables_and_say_what_an_open_request_waits_for(hardhat_chain, tmp_path):
    hardhat_chain.automine()
    tooling = Tooling(str(hardhat_chain.client.transport.endpoint_uri), tmp_path)
    bridge, lens = hardhat_chain.deployment.bridge, hardhat_chain.deployment.lens
    found = {"INSULA_CONTRACT": bridge.lower(), "INSULA_LENS": lens}
    spec = tmp_path / "spec.json"
    spec.write_bytes(SPEC)
    token = Token(hardhat_chain.client, funded(0))
    token.mint(funded(0).address, 100)  # the first account of the node is whom the tasks order as
    terms = (str(spec), "--curator", funded(4).address, "--unit-price", "5")
    paid = ("--token", token.address, "--ttl", "60")

    quoted = tooling.insula("quote", *terms, **found)
    assert (quoted["matchingNodes"], quoted["operators"], quoted["enoughOperators"]) == ("2", "2", True)
    assert tooling.insula("quote", *terms, INSULA_CONTRACT=bridge)["matchingNodes"] is None
    assert "--lens" in tooling.insula("quote", *terms, "--lens", "0x12", status=1, **found)
    assert "INSULA_CONTRACT" in tooling.insula("read", "1", status=1)

    placed = tooling.insula("request", *terms, *paid, **found)
    assert (placed["price"], token.balance_of(bridge)) == ("5", 5)
    assert "note" not in tooling.insula("read", placed["id"], **found)

    order = Order(spec=SPEC, ttl=60, curator=funded(4).address, token=token.address, unit_price=5)
    data = cancel_calldata(int(placed["id"]), order)
    hardhat_chain.mined(hardhat_chain.send(funded(0), bridge, data))
    assert "drawCancelled" in tooling.insula("read", placed["id"], **found)["note"]

    hardhat_chain.client.ask("evm_increaseTime", 61)
    hardhat_chain.mine()
    assert "deadline is over" in tooling.insula("read", placed["id"], **found)["note"]
    hardhat_chain.manual()
