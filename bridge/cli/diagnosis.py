"""What `insula doctor` looks at. Each finding says what was found, and if it is a problem, what to do."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.resources.abc import Traversable
from pathlib import Path

from bridge.chain.client import ChainClient
from bridge.chain.deployments import known_deployment
from bridge.cli.context import get_json
from bridge.cli.endpoint_checks import EndpointCheck, Expected, compared
from bridge.cli.findings import Finding, note, ok, problem
from bridge.cli.kubo_checks import check_kubos
from bridge.cli.relayer_checks import Caps, check_relayer
from bridge.cli.source_checks import check_sources
from bridge.config import BridgeConfig
from bridge.errors import RpcError
from bridge.redaction import endpoint_name, redacted
from executor.content.web import Http
from executor.errors import InsulaError, InvalidInput
from executor.protocol.wire import ZERO_ADDRESS

MIN_NODE = (22, 13)
RPC_SECONDS = 20.0


@dataclass(frozen=True)
class Plan:
    """What to look at. Empty: not at that."""

    bridge: str = ""
    rpcs: tuple[str, ...] = ()
    key: str = ""
    expected: Expected = field(default_factory=Expected)
    caps: Caps | None = None
    timeout_seconds: float = RPC_SECONDS
    runs: bool = True  # whether the bridge should be running
    kubos: tuple[str, ...] = ()
    replicas: int = 1
    node: Path | None = None  # a node's folder


def plan_of(config: BridgeConfig) -> Plan:
    """Everything that a bridge's configuration names."""
    chain, relayer = config.chain, config.relayer
    return Plan(
        bridge=f"http://{config.listen_host}:{config.listen_port}",
        rpcs=chain.rpc_urls,
        key=relayer.key,
        expected=Expected(
            chain.chain_id, chain.bridge_contract, chain.deploy_block, chain.finality_depth, chain.stale_head_seconds
        ),
        caps=Caps(
            relayer.max_fee_per_gas_wei,
            relayer.max_subsidy_wei,
            config.dispatch.min_delivery_fee,
            relayer.max_in_flight,
        ),
        timeout_seconds=chain.rpc_timeout_seconds,
        runs=False,
        kubos=config.content.kubo,
        replicas=config.content.replicas,
    )


def diagnose(
    plan: Plan, clock: Callable[[], float] = time.time, timer: Callable[[], float] = time.monotonic
) -> list[Finding]:
    """Everything that can be looked at with what was given. No URL is shown beyond its host."""
    found = [*_machine(), *_sandboxes()]
    found += deployment_findings(plan.expected)
    if plan.rpcs:
        found += _chain(plan, clock, timer)
    else:
        found.append(note("chain", "not looked at", "give --rpc and --contract, or --config"))
    if plan.bridge:
        found += _bridge(plan.bridge, runs=plan.runs)
    else:
        found.append(note("bridge", "not looked at", "give --bridge"))
    found += check_kubos(plan.kubos, plan.replicas)
    if plan.node is not None:
        found += check_sources(plan.node)
    return [replace(finding, detail=redacted(finding.detail, plan.rpcs)) for finding in found]


def deployment_findings(expected: Expected, folder: Traversable | None = None) -> Iterator[Finding]:
    """Whether the contract and its block are those of the chain's known deployment. Nothing where none is known."""
    known = known_deployment(expected.chain_id, folder) if expected.chain_id is not None and expected.contract else None
    if known is None:
        return
    address = known.contracts["ComputeBridge"]
    if address.lower() != expected.contract.lower():
        remedy = f"the one that ships with this version is {address}, from block {known.deploy_block}"
        yield note("deployment", f"{expected.contract} is another contract than the known one", remedy)
    elif expected.deploy_block is not None and expected.deploy_block > known.deploy_block:
        remedy = f"set chain.deploy_block to {known.deploy_block}"
        yield problem("deployment", f"requests before block {expected.deploy_block} would be missed", remedy)
    else:
        yield ok("deployment", f"{address} is the known one of chain {known.chain_id}")


def _machine() -> Iterator[Finding]:
    yield Finding("ok", "Python", platform.python_version())
    yield _node()
    free = shutil.disk_usage(Path.cwd()).free
    level = "ok" if free > 5 * 2**30 else "note"
    yield Finding(
        level, "disk", f"{free // 2**20} MiB free here", "" if level == "ok" else "outputs and images need room"
    )


def _node() -> Finding:
    program = shutil.which("node")
    remedy = "only the devnet needs it; ./dev setup puts one into .venv"
    if program is None:
        return Finding("note", "Node.js", "not found", remedy)
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
        version = tuple(int(part) for part in said.strip().removeprefix("v").split(".")[:2])
    except (OSError, subprocess.SubprocessError, ValueError):
        return Finding("note", "Node.js", f"{program} does not say its version", remedy)
    if version < MIN_NODE:
        return Finding("note", "Node.js", f"{said.strip()}; the devnet needs 22.13 or newer", remedy)
    return Finding("ok", "Node.js", said.strip())


def _sandboxes() -> Iterator[Finding]:
    from executor.agent.config import NodeConfig
    from executor.agent.service import make_sandboxes
    from executor.sandbox.escapes import names

    nobody = NodeConfig(
        bridge_url="http://127.0.0.1", chain_id=1, bridge_contract=ZERO_ADDRESS, registry=ZERO_ADDRESS
    )  # only its list of tiers is looked at
    for sandbox in make_sandboxes(nobody, accepted=names()):  # what else is wrong is worth knowing, too
        probe = sandbox.probe()
        name = f"sandbox {probe.tier}"
        if probe.usable:
            held = sum(check.held for check in probe.checks)
            yield Finding("ok", name, f"{probe.version}; {held} of {len(probe.checks)} limits proved")
            for escape in probe.accepted:
                remedy = "upgrade it; a node offers this tier only if its policy.toml names it in accept_escapes"
                yield Finding("note", name, escape, remedy)
        else:
            yield Finding("note", name, "not offered by a node on this machine", probe.problem)


def _chain(plan: Plan, clock: Callable[[], float], timer: Callable[[], float]) -> Iterator[Finding]:
    names = endpoint_names(plan.rpcs)
    checks, clients = [], []
    with ExitStack() as stack:
        for name, url in zip(names, plan.rpcs, strict=True):
            try:
                client = stack.enter_context(ChainClient(url, plan.timeout_seconds))
            except InvalidInput as exc:
                yield problem(name, str(exc), "correct its URL")
                continue
            check = EndpointCheck(name, client, plan.expected, clock, timer)
            yield from check.run()
            if check.seen is not None:
                checks.append(check.seen)
                clients.append(client)
        yield from compared(checks, clients)
        if plan.key and clients:
            try:
                yield from check_relayer(clients[0], plan.key, plan.expected.contract, plan.caps)
            except RpcError as exc:
                yield problem("relayer", str(exc), "try again; if it stays, replace the first endpoint")
        elif plan.key:
            yield note("relayer", "not looked at: no endpoint of its chain answers", "correct the endpoints first")


def endpoint_names(urls: Sequence[str]) -> list[str]:
    """Scheme, host and port of each; a number where two are the same."""
    found = [endpoint_name(url) for url in urls]
    return [name if found.count(name) == 1 else f"{name}#{place + 1}" for place, name in enumerate(found)]


def _bridge(url: str, *, runs: bool) -> Iterator[Finding]:
    try:
        with Http(url) as http:
            status = get_json(http, "/v1/status")
            nodes = get_json(http, "/v1/nodes").get("nodes", [])
    except InsulaError as exc:
        yield Finding("problem" if runs else "note", "bridge", str(exc), "is it running? its log says more")
        return
    standing = status.get("standing")
    conclusion = str(standing.get("conclusion", "")) if isinstance(standing, dict) else ""
    if conclusion.startswith("nothing is wrong"):
        yield ok("bridge standing", conclusion)
    elif conclusion:
        yield note("bridge standing", conclusion, "insula bridge status says more")
    alarms = status.get("alarms")
    if isinstance(alarms, list) and alarms:
        names = ", ".join(str(alarm.get("alarm")) for alarm in alarms if isinstance(alarm, dict))
        yield problem("alarms", names, "insula bridge alarms says what to do about each")
    loops = status.get("loops")
    states = [loop for loop in loops if isinstance(loop, dict)] if isinstance(loops, list) else []
    failing = [str(loop.get("name")) for loop in states if _number(loop.get("failures_in_a_row")) > 2]
    if failing:
        yield problem("bridge", f"these loops fail: {', '.join(failing)}", "insula bridge status, or its log, says why")
    else:
        yield Finding("ok", "bridge", f"follows contract {status.get('contract')} on chain {status.get('chainId')}")
    level = "ok" if nodes else "note"
    yield Finding(level, "nodes", f"{len(nodes)} known to the bridge", "" if nodes else "start one: insula node run")


def _number(value: object) -> float:
    return value if isinstance(value, (int, float)) else 0
