"""What `insula doctor` looks at. Each finding says what was found, and if it is a problem, what to do."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.chain.client import ChainClient
from bridge.chain.signer import TxSigner
from bridge.chain.views import BridgeViews
from bridge.cli.context import get_json
from executor.content.web import Http
from executor.errors import InsulaError
from executor.protocol.wire import ZERO_ADDRESS, checksum_address

MIN_NODE = (22, 13)
STALE_HEAD_SECONDS = 240  # eight epochs of Filecoin
DELIVERY_GAS = 400_000  # a delivery with a callback that stores a CID


@dataclass(frozen=True)
class Finding:
    """One look. `level`: ok, note (fine, but know it) or problem."""

    level: str
    name: str
    detail: str
    remedy: str = ""


def diagnose(*, bridge: str, rpc: str, contract: str, key: str) -> list[Finding]:
    """Everything that can be looked at with what was given."""
    return [
        *_machine(),
        *_sandboxes(),
        *(
            _chain(rpc, contract, key)
            if rpc
            else [Finding("note", "chain", "not looked at", "give --rpc and --contract")]
        ),
        *(_bridge(bridge) if bridge else [Finding("note", "bridge", "not looked at", "give --bridge")]),
    ]


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

    nobody = NodeConfig(
        bridge_url="http://127.0.0.1", chain_id=1, bridge_contract=ZERO_ADDRESS, registry=ZERO_ADDRESS
    )  # only its list of tiers is looked at
    for sandbox in make_sandboxes(nobody):
        probe = sandbox.probe()
        name = f"sandbox {probe.tier}"
        if probe.usable:
            held = sum(check.held for check in probe.checks)
            yield Finding("ok", name, f"{probe.version}; {held} of {len(probe.checks)} limits proved")
        else:
            yield Finding("note", name, "not offered by a node on this machine", probe.problem)


def _chain(rpc: str, contract: str, key: str) -> Iterator[Finding]:
    try:
        with ChainClient(rpc) as client:
            yield Finding("ok", "chain", f"chain id {client.chain_id()}")
            yield _head(client)
            if contract:
                yield _contract(client, contract)
            if key:
                yield _balance(client, key)
    except InsulaError as exc:
        yield Finding("problem", "chain", str(exc), "check --rpc, --contract and --key")


def _head(client: ChainClient) -> Finding:
    head = client.head()
    age = time.time() - head.timestamp
    if abs(age) > STALE_HEAD_SECONDS:
        return Finding(
            "problem", "head", f"block {head.number} is {age:.0f} s old", "the endpoint lags, or this clock is wrong"
        )
    return Finding("ok", "head", f"block {head.number}, {age:.0f} s old")


def _contract(client: ChainClient, contract: str) -> Finding:
    address = checksum_address(contract, "--contract")
    if not client.code(address):
        return Finding("problem", "contract", f"there is no contract at {address}", "check --contract and --rpc")
    views = BridgeViews(client, address)
    bounds = views.bounds()
    return Finding(
        "ok",
        "contract",
        f"{address}: {views.request_count()} requests, registry {views.registry()}, "
        f"ttl {bounds.min_ttl} to {bounds.max_ttl} s",
    )


def _balance(client: ChainClient, key: str) -> Finding:
    signer = TxSigner.load(key)
    base, tip = client.fees()
    cost = DELIVERY_GAS * (2 * base + tip)
    deliveries = client.balance(signer.address) // max(cost, 1)
    if deliveries < 10:
        told = f"{signer.address} can pay {deliveries} transactions of {DELIVERY_GAS} gas"
        return Finding("problem", "balance of --key", told, "send it funds")
    told = f"{signer.address} can pay about {deliveries} transactions of {DELIVERY_GAS} gas at today's fees"
    return Finding("ok", "balance of --key", told)


def _bridge(url: str) -> Iterator[Finding]:
    try:
        with Http(url) as http:
            status = get_json(http, "/v1/status")
            nodes = get_json(http, "/v1/nodes").get("nodes", [])
    except InsulaError as exc:
        yield Finding("problem", "bridge", str(exc), "is it running? its log says more")
        return
    failing = [loop for loop in status.get("loops", []) if loop.get("failures_in_a_row", 0) > 2]
    if failing:
        yield Finding("problem", "bridge", f"these loops fail: {failing}", "see the bridge's log")
    else:
        yield Finding("ok", "bridge", f"follows contract {status.get('contract')} on chain {status.get('chainId')}")
    level = "ok" if nodes else "note"
    yield Finding(level, "nodes", f"{len(nodes)} known to the bridge", "" if nodes else "start one: insula node run")
