"""A contract that knows Lilypad v0's names alone orders a job on a devnet and is called back."""

import json
import re
import time

import pytest

from bridge.chain.client import ChainClient
from bridge.chain.contracts import ContractAbi, contract_abi
from bridge.chain.operate import send_and_wait
from bridge.demo.content import prepare
from bridge.devnet import net as devnet_net
from bridge.devnet.processes import ProcessGroup
from executor.agent.config import init_node
from tests.chain_nodes import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.chain, pytest.mark.timeout(240)]

WAIT = 60.0
FEE, DELIVERY_FEE, FAIL_PRICE = 2000, 10, 100
TERMS = (FEE, DELIVERY_FEE, FAIL_PRICE, 120, 600_000, 50_000)  # LilypadV0.Terms
STDOUT = 1


class Lilypad:
    """A devnet, LilypadV0 on it, and a caller as they were published for Lilypad v0."""

    def __init__(self, client, devnet, prepared, log):
        self.client, self.prepared, self.log = client, prepared, log
        self.payer = devnet.signer("requester")
        self.v0 = self.create(contract_abi("LilypadV0"), devnet.contract, devnet.curator, TERMS)
        self.caller = self.create(contract_abi("LilypadCaller"), self.v0)

    def create(self, abi: ContractAbi, *arguments):
        return send_and_wait(self.client, self.payer, None, abi.creation(*arguments)).contract_address

    def run(self, spec):
        """Order through the caller; the job's id."""
        data = contract_abi("LilypadCaller").encode("run", json.dumps(spec), STDOUT)
        send_and_wait(self.client, self.payer, self.caller, data, FEE)
        return self.read("lastJob")

    def read(self, function, *arguments):
        abi = contract_abi("LilypadCaller")
        return abi.decode(function, self.client.call(self.caller, abi.encode(function, *arguments)))[0]

    def spec(self, **changes):
        stored = {"StorageSource": "IPFS", "CID": str(self.prepared.logstat)}
        return {
            "Engine": "wasm",
            "Wasm": {"EntryModule": stored, "Parameters": ["/inputs/access.log"]},
            "inputs": [{"StorageSource": "IPFS", "CID": str(self.prepared.log), "path": "/inputs/access.log"}],
            "Timeout": 20,
        } | changes


@pytest.fixture(scope="module")
def lilypad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lilypad") / "net"
    folder.mkdir()
    with ProcessGroup(folder) as group:
        devnet = devnet_net.start(group, init_node, print)
        prepared = prepare(devnet, folder, with_image=False, clock=time.time())
        with ChainClient(devnet.rpc_url) as client:
            yield Lilypad(client, devnet, prepared, (folder / "access.log").read_text())


def counted(log):
    """What the program says of a log, counted anew."""
    words = log.split()
    stations = {word for word in words if re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", word)}
    return f"{log.count(chr(10))} lines, {len(words)} words, {len(stations)} stations, {words.count('ERROR')} errors\n"


def test_a_caller_of_lilypad_v0_gets_the_exact_standard_output(lilypad):
    job = lilypad.run(lilypad.spec())

    wait_for(lambda: lilypad.read("results", job), WAIT, "the callback")
    assert lilypad.read("results", job) == counted(lilypad.log)
    assert lilypad.read("errors", job) == ""


def test_a_caller_of_lilypad_v0_whose_spec_cannot_run_is_told_and_paid_back(lilypad):
    job = lilypad.run(lilypad.spec(Resources={"GPU": "1"}))

    wait_for(lambda: lilypad.read("errors", job), WAIT, "the cancellation")
    before = lilypad.client.balance(lilypad.caller)
    send_and_wait(
        lilypad.client, lilypad.payer, lilypad.v0, contract_abi("LilypadV0").encode("pushRefund", lilypad.caller)
    )
    assert lilypad.client.balance(lilypad.caller) - before == FEE - DELIVERY_FEE
    assert lilypad.read("results", job) == ""
