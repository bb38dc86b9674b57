"""Real chains for tests: a Hardhat node and an anvil, on free loopback ports, stopped by their process id.

    @pytest.mark.chain
    def test_x(devnet): ...        # `devnet`: a DevChain with the contracts deployed, a block every second
    def test_y(hardhat_chain): ... # mining only by `chain.mine()`; `anvil_chain` likewise

Without Node.js or the npm packages, tests skip loudly; with CI=true that is a failure.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bridge.chain.client import Block, ChainClient, TxReceipt
from bridge.chain.contracts import fulfil_calldata
from bridge.chain.deploy import Deployment, deploy_all
from bridge.chain.operate import join_key, register_node, vouch
from bridge.chain.signer import SignedTransaction, Transaction, TxSigner
from bridge.chain.views import BridgeViews, RegistryViews
from bridge.errors import RpcError
from executor.protocol.signing import Key, Scope, attestation_message
from executor.protocol.wire import ZERO_ADDRESS, Attestation, Order, Outcome, Request

ROOT = Path(__file__).resolve().parents[1]
HARDHAT = ROOT / "hardhat"
ANVIL = HARDHAT / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
CHAIN_ID = 31415926
START_SECONDS = 60.0
STOP_SECONDS = 10.0

#: The accounts that both nodes fund by themselves: public keys of every devnet, worth nothing anywhere else.
FUNDED_SECRETS = (
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "0x92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    "0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
)


def funded(index: int) -> TxSigner:
    """The funded account of this index: 0 deployer, 1 requester, 2 relayer, 3 stranger, 4 curator, 5.. operators."""
    return TxSigner.from_hex(FUNDED_SECRETS[index])


def missing(what: str) -> None:
    """Skip, or fail where CI must have everything."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing; run ./dev setup")
    pytest.skip(f"{what} is missing; run ./dev setup")


def node_program() -> str:
    """A Node.js: the one in .venv, else on PATH."""
    local = ROOT / ".venv" / "bin" / "node"
    found = str(local) if local.exists() else shutil.which("node")
    if found is None or not (HARDHAT / "node_modules" / "hardhat").is_dir():
        missing("Node.js with the npm packages of hardhat/")
    # the binary itself: what .venv has is a wrapper, which dies without its child
    return subprocess.run(
        [str(found), "-p", "process.execPath"], capture_output=True, text=True, check=True
    ).stdout.strip()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until `condition` gives something true; fails the test when the time is over."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"{what} did not come within {seconds:g} s")
        time.sleep(0.02)


@contextmanager
def running(argv: list[str], cwd: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child process, with its output in `log`; stopped by its id."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)


def _answers(client: ChainClient, process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        pytest.fail(f"the node ended with status {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
    try:
        return client.chain_id() == CHAIN_ID
    except RpcError:
        return False


@contextmanager
def started(argv: list[str], cwd: Path, port: int, log: Path) -> Iterator[ChainClient]:
    """A node process that answers on `port`."""
    with running(argv, cwd, log) as process, ChainClient(f"http://127.0.0.1:{port}", 20.0) as client:
        wait_for(lambda: _answers(client, process, log), START_SECONDS, f"the node at port {port}")
        yield client


@contextmanager
def hardhat_node(folder: Path) -> Iterator[ChainClient]:
    """`hardhat node --network devnet`: FEVM's chain id, gas limit and opcodes; a block every second."""
    port = free_port()
    cli = HARDHAT / "node_modules" / "hardhat" / "dist" / "src" / "cli.js"
    argv = [node_program(), str(cli), "node", "--network", "devnet", "--hostname", "127.0.0.1", "--port", str(port)]
    with started(argv, HARDHAT, port, folder / "hardhat.log") as client:
        yield client


@contextmanager
def anvil_node(folder: Path, *, states: int | None = 1000) -> Iterator[ChainClient]:
    """anvil with FEVM's chain id and gas limit; a block for each transaction until told otherwise.

    states: how many blocks' states it keeps. It copies all it has for each of them; None keeps none, for long chains.
    """
    if not ANVIL.exists():
        missing("anvil (npm @foundry-rs/anvil)")
    port = free_port()
    argv = [str(ANVIL), "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID)]
    argv += ["--hardfork", "cancun", "--gas-limit", "10000000000", "--accounts", "10", "--silent"]
    # states in memory; else thousands of them go to a folder that nobody cleans
    argv += ["--prune-history"] if states is None else ["--prune-history", str(states)]
    with started(argv, folder, port, folder / "anvil.log") as client:
        yield client


@dataclass
class TestNode:
    """A registered node of a chain: id, operator, attestation key."""

    __test__ = False
    node_id: int
    operator: TxSigner
    key: Key


@dataclass
class DevChain:
    """A chain with the contracts on it, and hands to move it."""

    client: ChainClient
    deployment: Deployment
    kind: str
    nodes: list[TestNode] = field(default_factory=list)

    @property
    def bridge(self) -> BridgeViews:
        return BridgeViews(self.client, self.deployment.bridge)

    @property
    def registry(self) -> RegistryViews:
        return RegistryViews(self.client, self.deployment.registry)

    @property
    def scope(self) -> Scope:
        return Scope(CHAIN_ID, self.deployment.bridge)

    def mine(self, blocks: int = 1) -> Block:
        """Mine so many blocks; the head."""
        for _ in range(blocks):
            self.client.ask("evm_mine")
        return self.client.head()

    def manual(self) -> None:
        """From now on mine only when told."""
        self.client.ask("evm_setAutomine", False)
        self.client.ask("evm_setIntervalMining", 0)

    def automine(self) -> None:
        """From now on mine each transaction at once."""
        self.client.ask("evm_setIntervalMining", 0)
        self.client.ask("evm_setAutomine", True)

    def snapshot(self) -> Any:
        """A state of the chain to come back to, once."""
        return self.client.ask("evm_snapshot")

    def revert(self, snapshot: Any) -> None:
        """Take back all blocks since a snapshot."""
        assert self.client.ask("evm_revert", snapshot) is True

    def signed(
        self, signer: TxSigner, to: str, data: bytes, value: int = 0, *, nonce: int | None = None, gas: int = 8_000_000
    ) -> SignedTransaction:
        """A signed transaction with plenty of fees."""
        base, tip = self.client.fees()
        count = self.client.nonce(signer.address, "pending") if nonce is None else nonce
        fields = Transaction(
            chain_id=CHAIN_ID, nonce=count, to=to, data=data, gas=gas, max_fee=base * 3 + tip, tip=tip, value=value
        )
        return signer.sign_transaction(fields)

    def send(self, signer: TxSigner, to: str, data: bytes, value: int = 0, **options: Any) -> SignedTransaction:
        """Send without mining."""
        signed = self.signed(signer, to, data, value, **options)
        self.client.send_raw(signed.raw)
        return signed

    def mined(self, signed: SignedTransaction) -> TxReceipt:
        """The receipt; the transaction must have succeeded."""
        receipt: TxReceipt = wait_for(lambda: self.client.receipt(signed.hash), 20, "the receipt")
        assert receipt.ok
        return receipt

    def request(self, requester: TxSigner, order: Order) -> Request:
        """Order a job at the bridge in a block of its own; the request as the chain took it."""
        from bridge.chain.contracts import request_job_calldata

        signed = self.send(requester, self.deployment.bridge, request_job_calldata(order), order.price)
        self.mine()
        self.mined(signed)
        return self.request_of(self.bridge.request_count(), order)

    def request_of(self, request_id: int, order: Order) -> Request:
        """The request that stands under an id now."""
        view = self.bridge.request_of(request_id)
        return Request(
            chain_id=CHAIN_ID,
            contract=self.deployment.bridge,
            id=request_id,
            requester=view.requester,
            order=order,
            deadline=view.deadline,
        )

    def attest(self, node: TestNode, request: Request, outcome: Outcome, relayer: str = ZERO_ADDRESS) -> Attestation:
        """A node's signature over an outcome."""
        fields: dict[str, Any] = {"receipt_hash": b"\x01" * 32, "log_root": b"\x02" * 32, "log_size": 1}
        message = attestation_message(
            self.scope, request_hash=request.hash, outcome_hash=outcome.hash, relayer=relayer, **fields
        )
        return Attestation(**fields, relayer=relayer, signature=node.key.sign(message))

    def fulfil_data(self, request: Request, outcome: Outcome, relayer: str = ZERO_ADDRESS) -> bytes:
        """Calldata of `fulfil` with the attestations of as many nodes as the order's quorum."""
        given = [self.attest(node, request, outcome, relayer) for node in self.nodes[: request.order.quorum]]
        return fulfil_calldata(request.id, request.order, outcome, given)

    def deploy_again(self) -> None:
        """Fresh contracts, with the same nodes registered: tests of one session do not see each other's requests."""
        self.deployment = deploy(self.client)
        self.nodes = [add_node(self.client, self.deployment, n, ("tier=wasm",)) for n in range(2)]


def deploy(client: ChainClient) -> Deployment:
    """The three contracts with short times."""
    return deploy_all(client, funded(0), notice=5, min_ttl=1, max_ttl=86_400, cancel_delay=5, deadline_seconds=60)


def add_node(client: ChainClient, deployment: Deployment, index: int, labels: tuple[str, ...]) -> TestNode:
    """Register a node of operator 5 + index, join a key, let the curator (account 4) vouch for its labels."""
    operator = funded(5 + index)
    key = Key.from_hex(f"{0x1000 + index + client.head().number * 16:064x}")
    node_id = register_node(client, operator, deployment.registry, labels)
    join_key(client, operator, deployment.registry, node_id, key)
    vouch(client, funded(4), deployment.registry, node_id, [*labels, "node=admitted"])
    return TestNode(node_id, operator, key)


@pytest.fixture(scope="session")
def _hardhat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainClient]:
    with hardhat_node(tmp_path_factory.mktemp("hardhat")) as client:
        yield client


@pytest.fixture(scope="session")
def _anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainClient]:
    with anvil_node(tmp_path_factory.mktemp("anvil")) as client:
        yield client


def prepared(client: ChainClient, kind: str) -> DevChain:
    """A node with fresh contracts and two nodes of ours, which mines only when told."""
    chain = DevChain(client, Deployment("", "", "", 0, ""), kind)
    chain.automine()
    chain.deploy_again()
    chain.manual()
    return chain


@pytest.fixture
def hardhat_chain(_hardhat: ChainClient) -> DevChain:
    """A Hardhat node with fresh contracts and two nodes; mines only when told."""
    return prepared(_hardhat, "hardhat")


@pytest.fixture
def anvil_chain(_anvil: ChainClient) -> DevChain:
    """An anvil with fresh contracts and two nodes; mines only when told."""
    return prepared(_anvil, "anvil")


@pytest.fixture(params=["hardhat", "anvil"])
def any_chain(request: pytest.FixtureRequest) -> DevChain:
    """Both of them, one after the other."""
    chain: DevChain = request.getfixturevalue(f"{request.param}_chain")
    return chain


@pytest.fixture(scope="session")
def _standing() -> dict[str, DevChain]:
    """kind -> a chain whose contracts stay deployed, made when first wanted."""
    return {}


@pytest.fixture(params=["hardhat", "anvil"])
def both_chains(request: pytest.FixtureRequest, _standing: dict[str, DevChain]) -> DevChain:
    """Both of them, with contracts that earlier tests used; those tests' requests lie below `deploy_block`.

    For many short tests, since deploying takes longer than most of them.
    """
    kind: str = request.param
    if kind not in _standing:
        _standing[kind] = prepared(request.getfixturevalue(f"_{kind}"), kind)
    chain = _standing[kind]
    chain.manual()
    chain.deployment = replace(chain.deployment, deploy_block=chain.mine().number)
    return chain


@pytest.fixture
def devnet(_hardhat: ChainClient) -> Iterator[DevChain]:
    """A Hardhat node with fresh contracts and two nodes, with a block every second."""
    chain = prepared(_hardhat, "hardhat")
    chain.client.ask("evm_setIntervalMining", 1000)
    yield chain
    chain.manual()
