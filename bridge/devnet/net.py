"""The devnet: what is started, in which order, and what it leaves in its folder.

FOLDER/devnet.json      addresses and URLs, for the next command
FOLDER/env              the same as shell variables: `. FOLDER/env`
FOLDER/keys/NAME        well-known test keys: worthless anywhere else
FOLDER/bridge/          bridge.toml, database, content
FOLDER/nodes/NAME/      a node's work folder
FOLDER/logs/NAME.log    what each process says; chaos.log: what the chain did on purpose
FOLDER/processes.json   what runs
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from bridge.chain.client import ChainClient
from bridge.chain.deploy import Deployment, deploy_all
from bridge.chain.operate import join_key, register_node, vouch
from bridge.chain.signer import TxSigner
from bridge.devnet.chaos.run import ChaosRun, Depths
from bridge.devnet.processes import ProcessGroup
from bridge.errors import RpcError
from executor.content.web import Http
from executor.errors import InsulaError, InvalidInput
from executor.protocol.labels import ADMITTED
from executor.protocol.signing import Key

CHAIN_ID = 31415926  # FEVM's local networks
#: The accounts of Hardhat's test mnemonic, in its order. Everybody knows these keys.
TEST_KEYS = {
    "deployer": "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "relayer": "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "camera": "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "ap": "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "gpu": "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "requester": "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "rogue": "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    "stranger": "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    "vault": "dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    "reviewer": "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
}
START_SECONDS = 60.0
#: Short, so that a refund at the deadline takes seconds.
NOTICE, MIN_TTL, MAX_TTL, CANCEL_DELAY = 5, 5, 86_400, 5

Say = Callable[[str], None]
QUIET_PORTS = range(20_000, 32_000)  # below those that systems give to outgoing connections
MakeNode = Callable[..., dict[str, Any]]  # executor.agent.config.init_node: only the command line imports both sides


@dataclass(frozen=True)
class NodePlan:
    """A node of the devnet: its name is its operator's account's.

    module: a program to run with the node's folder in place of `insula node run`; empty: that.
    policy: the text of its policy.toml. The devnet adds that every known escape is accepted: it runs its owner's jobs.
    """

    name: str
    labels: tuple[str, ...]
    module: str = ""
    policy: str = ""


PLANS = (
    NodePlan("camera", ("site=camera",)),
    NodePlan("ap", ("site=ap",)),
    NodePlan("gpu", ("gpu=true", "zone=lab")),
)


@dataclass(frozen=True)
class DevnetNode:
    """A registered node."""

    name: str
    node_id: int
    key: str
    operator: str
    labels: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class Devnet:
    """Where everything is. `keys` maps account names to key references."""

    folder: str
    rpc_url: str
    bridge_url: str
    chain_id: int
    contract: str
    registry: str
    result_book: str
    lens: str
    deploy_block: int
    curator: str
    keys: dict[str, str]
    nodes: tuple[DevnetNode, ...]

    def signer(self, name: str) -> TxSigner:
        """The account `name`."""
        return TxSigner.load(self.keys[name])


def start(
    group: ProcessGroup,
    make_node: MakeNode,
    say: Say,
    chaos: ChaosRun | None = None,
    plans: Sequence[NodePlan] = PLANS,
    kubo: str = "",
) -> Devnet:
    """Start everything in `group.folder` (made anew) and wait until all of it answers.

    kubo: a daemon's RPC API, to which the bridge copies what becomes public.

    With `chaos`, bridge, nodes and everybody after them talk to the chain through it; deployment does not.
    """
    folder = group.folder
    keys = _write_keys(folder)
    say("starting a Hardhat node that mines every second")
    node_url = start_chain(group)
    rpc_url = chaos.front(node_url) if chaos else node_url
    if chaos:
        for line in chaos.introduction(rpc_url):
            say(line)
    with ChainClient(node_url) as client:
        deployed = _deploy(client, keys, say)
        bridge_url = f"http://127.0.0.1:{free_port()}"
        say(f"registering {len(plans)} nodes: each operator registers its labels, each key joins by its own signature,")
        say("  and the curator (the deployer) vouches for the labels")
        urls = node_url, rpc_url
        with ThreadPoolExecutor(len(plans)) as pool:
            nodes = tuple(pool.map(lambda p: _make_node(folder, p, keys, deployed, urls, bridge_url, make_node), plans))
        curator = TxSigner.load(keys["deployer"])
        for node in nodes:
            vouch(client, curator, deployed.registry, node.node_id, [*node.labels, ADMITTED])
    net = Devnet(
        folder=str(folder),
        rpc_url=rpc_url,
        bridge_url=bridge_url,
        chain_id=CHAIN_ID,
        contract=deployed.bridge,
        registry=deployed.registry,
        result_book=deployed.result_book,
        lens=deployed.lens,
        deploy_block=chaos.epochs.epoch_of(deployed.deploy_block) if chaos else deployed.deploy_block,
        curator=curator.address,
        keys=keys,
        nodes=nodes,
    )
    _write_files(net, chaos.depths if chaos else Depths(), kubo)
    say(f"starting the bridge and the {len(plans)} nodes, each a process of its own")
    start_bridge(group, net)
    for plan, node in zip(plans, nodes, strict=True):
        start_node(group, node, plan.module)
    wait_ready(group, net)
    return net


def load(folder: Path) -> Devnet:
    """The devnet that was started in `folder`. InvalidInput if there is none."""
    try:
        fields = json.loads((folder / "devnet.json").read_text())
        nodes = tuple(DevnetNode(**{**node, "labels": tuple(node["labels"])}) for node in fields.pop("nodes"))
        return Devnet(**fields, nodes=nodes)
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise InvalidInput(str(folder), "is no devnet's folder; start one with `insula devnet`") from exc


def start_chain(group: ProcessGroup) -> str:
    """A Hardhat node with the network `devnet` of hardhat/hardhat.config.ts; its URL once it answers."""
    project = hardhat_project()
    node = node_program()
    port = free_port()
    program = project / "node_modules" / "hardhat" / "dist" / "src" / "cli.js"
    group.start(
        "chain",
        [node, str(program), "node", "--network", "devnet", "--hostname", "127.0.0.1", "--port", str(port)],
        cwd=project,
        env={"HARDHAT_DISABLE_TELEMETRY_PROMPT": "true"},
    )
    url = f"http://127.0.0.1:{port}"
    with ChainClient(url, timeout_seconds=2.0) as client:
        group.wait_until("the chain", lambda: _answers(client), START_SECONDS)
    return url


def start_bridge(group: ProcessGroup, net: Devnet) -> None:
    """Start the bridge of a devnet."""
    group.start("bridge", [*insula(), "bridge", "run", "--config", f"{net.folder}/bridge/bridge.toml"])


def start_node(group: ProcessGroup, node: DevnetNode, module: str = "") -> None:
    """Start a node of a devnet; `module` is a plan's."""
    program = (
        [sys.executable, "-m", module, node.folder] if module else [*insula(), "node", "run", "--dir", node.folder]
    )
    group.start(f"node-{node.name}", program)


def wait_ready(group: ProcessGroup, net: Devnet) -> None:
    """Wait until the bridge answers and every node has asked it for work."""
    with Http(net.bridge_url) as http:
        group.wait_until("the bridge", lambda: _get(http, "/healthz") is not None, START_SECONDS)
        group.wait_until("the nodes", lambda: _nodes_seen(http) >= len(net.nodes), START_SECONDS)


def insula() -> list[str]:
    """The command `insula` of this very installation."""
    return [sys.executable, "-m", "bridge.cli"]


def node_program() -> str:
    """The Node.js binary itself: what is on the PATH may be a wrapper, which dies without its child."""
    own = str(Path(sys.executable).parent)  # ./dev setup puts one beside Python where the machine's is too old
    found = shutil.which("node", path=own) or shutil.which("node")
    if found is None:
        raise InvalidInput("node", "Node.js >= 22.13 is not on the PATH; `./dev demo` sets it up")
    command = [found, "-p", "process.execPath"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as exc:
        raise InvalidInput("node", f"{found} does not run: {exc}") from exc
    return said


def hardhat_project() -> Path:
    """The folder hardhat/ of the source checkout, with its packages installed. InvalidInput if it is not there."""
    project = Path(__file__).resolve().parents[2] / "hardhat"
    if not (project / "node_modules" / "hardhat").is_dir():
        raise InvalidInput(
            "hardhat", f"{project} has no packages: the devnet needs a source checkout; run ./dev setup in it"
        )
    return project


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quiet_port() -> int:
    """Like `free_port`, of those that no outgoing connection takes meanwhile: it is used only some seconds later."""
    for _ in range(100):
        port = QUIET_PORTS[secrets.randbelow(len(QUIET_PORTS))]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    return free_port()


def _answers(client: ChainClient) -> bool:
    try:
        return client.chain_id() == CHAIN_ID
    except RpcError:
        return False


def _get(http: Http, path: str) -> Any:
    try:
        return json.loads(http.call("GET", path, seconds=2.0).body or b"null") or {}
    except (InsulaError, ValueError):
        return None


def _nodes_seen(http: Http) -> int:
    answer = _get(http, "/v1/nodes")
    return len(answer.get("nodes", ())) if isinstance(answer, dict) else 0


def _write_keys(folder: Path) -> dict[str, str]:
    (folder / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
    references = {}
    for name, secret in TEST_KEYS.items():
        path = folder / "keys" / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
        references[name] = f"file:{path}"
    return references


def _deploy(client: ChainClient, keys: dict[str, str], say: Say) -> Deployment:
    say("deploying NodeRegistry, ComputeBridge, ComputeLens and the example dApp ResultBook")
    return deploy_all(
        client,
        TxSigner.load(keys["deployer"]),
        notice=NOTICE,
        min_ttl=MIN_TTL,
        max_ttl=MAX_TTL,
        cancel_delay=CANCEL_DELAY,
    )


def _make_node(
    folder: Path,
    plan: NodePlan,
    keys: dict[str, str],
    deployed: Deployment,
    urls: tuple[str, str],
    bridge_url: str,
    make_node: MakeNode,
) -> DevnetNode:
    """Make a node and register it. `urls`: the chain's own, and the one that the node is to use."""
    work = folder / "nodes" / plan.name
    made = make_node(
        work,
        bridge_url=bridge_url,
        chain_id=CHAIN_ID,
        bridge_contract=deployed.bridge,
        registry=deployed.registry,
        labels=plan.labels,
        rpc_url=urls[1],
        slots=4,
        cpu_millis=4000,
        poll_seconds=2.0,
        gateway_port=quiet_port(),
        accepts_known_escapes=True,
    )
    with (work / "policy.toml").open("a") as file:
        file.write(plan.policy)
    operator = TxSigner.load(keys[plan.name])
    with ChainClient(urls[0]) as client:
        node_id = register_node(client, operator, deployed.registry, plan.labels, f"devnet node {plan.name}")
        join_key(client, operator, deployed.registry, node_id, Key.load(f"file:{work / 'key'}"))
    return DevnetNode(plan.name, node_id, made["key"], operator.address, plan.labels, str(work))


def _write_files(net: Devnet, depths: Depths, kubo: str) -> None:
    folder = Path(net.folder)
    (folder / "bridge").mkdir(exist_ok=True)
    (folder / "bridge" / "bridge.toml").write_text(_bridge_toml(net, depths, kubo))
    (folder / "devnet.json").write_text(json.dumps(asdict(net), indent=2) + "\n")
    (folder / "env").write_text(shell_variables(net))


def shell_variables(net: Devnet) -> str:
    """What `. FOLDER/env` sets: as little as the command line needs, quoted for any POSIX shell."""
    variables = {
        "INSULA_BRIDGE": net.bridge_url,
        "INSULA_RPC": net.rpc_url,
        "INSULA_LOCALHOST_URL": net.rpc_url,  # where Hardhat's network localhost is
        "INSULA_CONTRACT": net.contract,
        "INSULA_LENS": net.lens,
        "INSULA_KEY": net.keys["requester"],
        "INSULA_CURATOR": net.curator,
    }
    if "DOCKER_HOST" in os.environ:  # the engine that the nodes use
        variables["DOCKER_HOST"] = os.environ["DOCKER_HOST"]
    lines = [f"export {name}={quote(value)}\n" for name, value in variables.items()]
    lines.append(f"export PATH={quote(str(Path(sys.executable).parent))}:$PATH\n")
    return "".join(lines)


def _bridge_toml(net: Devnet, depths: Depths, kubo: str) -> str:
    requester = TxSigner.load(net.keys["requester"]).address
    return f"""# The bridge of a devnet: blocks every second, so depths and times are short.
data_dir = {json.dumps(f"{net.folder}/bridge")}
listen_port = {net.bridge_url.rpartition(":")[2]}
public_url = {json.dumps(net.bridge_url)}

[chain]
rpc_urls = [{json.dumps(net.rpc_url)}]
chain_id = {net.chain_id}
bridge_contract = "{net.contract}"
deploy_block = {net.deploy_block}
confirmation_depth = {depths.confirmation}
posting_depth = {depths.posting}
finality_depth = {depths.finality}
poll_seconds = 0.5

[relayer]
key = {json.dumps(net.keys["relayer"])}
max_in_flight = 16
max_subsidy_wei = "1000000000000000000"
bump_after_seconds = 15
resend_after_seconds = 5
expire_requests = true

[dispatch]
lease_seconds = 10
heartbeat_seconds = 2
delivery_margin_seconds = 4
max_running_per_requester = 64
agreement_grace_seconds = 5

[content]
upload_quota_bytes = {2**30}
upload_accounts = ["{requester}"]
kubo = {json.dumps(kubo)}
"""
