"""The node as a whole: put together, run until told to stop, looked at from outside."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from executor.agent.chainview import ChainView
from executor.agent.classes import Classes
from executor.agent.client import BridgeClient
from executor.agent.config import NodeConfig
from executor.agent.node import DRAIN_FILE, Node
from executor.agent.outside import outside_of
from executor.agent.parts import Parts
from executor.agent.retention import shred_left_over
from executor.agent.review import Review
from executor.agent.room import Room
from executor.agent.scanning import check_scanners
from executor.agent.secrets import check_secrets, reap_secrets
from executor.agent.staging import Staging, remove_tree
from executor.audit.policy import Policy
from executor.content.blockstore import BlockStore
from executor.content.roots import RootSet
from executor.content.web import Http, Signer
from executor.content.weburl import shown
from executor.egress.gate import Gates
from executor.errors import InvalidInput
from executor.holds import Holds
from executor.ledger import FolderLock, Ledger, is_locked
from executor.protocol.leases import Capacity
from executor.sandbox.types import JobCancelled, Probe, Sandbox

STOP_SECONDS = 20.0
OFFER_FILE = "offer.json"
LAST_JOBS = 20


def run_node(
    folder: Path,
    stop: threading.Event,
    sandboxes: Iterable[Sandbox] | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Run the node of a work folder until `stop` is set. InvalidInput for anything that is wrong with its set-up.

    `sandboxes`: those to probe and offer; by default one for each tier that the configuration wants.
    """
    folder = folder.resolve()
    config = NodeConfig.load(folder)
    with ExitStack() as stack:
        stack.enter_context(FolderLock(folder))
        door = _review_door(config, stack)
        gateway_door = _gateway_door(config, stack)
        try:
            parts = _parts(folder, config, stack, sandboxes, clock, stop)
        except JobCancelled:  # told to stop while it proved its limits
            return
        node = Node(parts)
        resumed = node.resume()
        if door is not None:
            _serve_reviewers(parts, door, stack)
        if gateway_door is not None:
            _serve_anybody(parts, gateway_door, stack)
        structlog.get_logger("insula.node").info(
            "node ready",
            key=parts.key.address,
            bridge=shown(config.bridge_url),
            tiers=list(parts.sandboxes),
            held=resumed,
        )
        try:
            while not stop.is_set():
                if not node.step():
                    stop.wait(node.pause_seconds)
        finally:
            structlog.get_logger("insula.node").info("stopping", running=node.running)
            node.stop(STOP_SECONDS)
            structlog.get_logger("insula.node").info("stopped", running=node.running)


def node_status(folder: Path) -> dict[str, Any]:
    """What a node is, does and did, read from its folder: works whether or not it runs. InvalidInput."""
    config = NodeConfig.load(folder)
    key = config.load_key(folder).address
    ledger = Ledger.open(folder / "ledger.db", key)
    try:
        root, size = ledger.log_root()
        running = [_shown(asdict(intent)) for intent in ledger.open_intents()]
        last = [_shown(asdict(intent)) for intent in ledger.last_intents(LAST_JOBS)]
        signed = ledger.signed_count()
    finally:
        ledger.close()
    return {
        "folder": str(folder),
        "key": key,
        "bridge": shown(config.bridge_url),
        "gateway": config.gateway_url or None,
        "chain_id": config.chain_id,
        "labels": list(config.labels),
        "is_running": is_locked(folder),
        "is_draining": (folder / DRAIN_FILE).exists(),
        "offer": _read_offer(folder),
        "signed": signed,
        "log_size": size,
        "log_root": f"0x{root.hex()}",
        "running": running,
        "last": last,
    }


def drain_node(folder: Path, *, is_draining: bool = True) -> None:
    """Make a node, running or not, take no more work; or take work again. Leases that it has go on to their end."""
    NodeConfig.load(folder)
    if is_draining:
        (folder / DRAIN_FILE).touch(mode=0o600)
    else:
        (folder / DRAIN_FILE).unlink(missing_ok=True)


def is_at_work(folder: Path) -> bool:
    """Whether the node runs and has an execution that is not at its end. InvalidInput."""
    if not is_locked(folder):
        return False
    ledger = Ledger.open(folder / "ledger.db", NodeConfig.load(folder).load_key(folder).address)
    try:
        return bool(list(ledger.open_intents()))
    finally:
        ledger.close()


def _parts(
    folder: Path,
    config: NodeConfig,
    stack: ExitStack,
    sandboxes: Iterable[Sandbox] | None,
    clock: Callable[[], float],
    stop: threading.Event,
) -> Parts:
    key = config.load_key(folder)
    policy = config.load_policy(folder)
    check_secrets(policy.secrets, folder)
    ledger = Ledger.open(folder / "ledger.db", key.address)
    stack.callback(ledger.close)
    holds = Holds(ledger, config.quarantine_keys(folder, key.address))
    held = {hold.execution_id for hold in holds.open()}
    staying = held | {hold.execution_id for hold in holds.kept()}
    holds.keys.prepare()
    shred_left_over(holds.keys, staying)
    _close_crashed(ledger, held, clock)
    for execution_id in reap_secrets(key.address):
        structlog.get_logger("insula.node").warning("wiped left-over secrets", execution=execution_id)
    if sandboxes is None:
        sandboxes = make_sandboxes(config, key.address, policy.accept_escapes, folder / "containers")
    offered = _offer(folder, [sandbox for sandbox in sandboxes if policy.allows_tier(sandbox.tier)], stop)
    check_scanners(policy, folder, offered)
    # After the sandboxes have reaped: what they mounted there is gone now.
    _remove_left_over(folder / "executions", staying)
    http = Http(config.bridge_url, Signer(key, config.audience, clock))
    stack.callback(http.close)
    store = BlockStore(folder / "content")
    store.meter.set_limits(config.store_limits)
    classes = Classes(store, policy.data)
    outside = outside_of(config.gateways, config.kubo, store, classes)
    if outside is not None:
        stack.callback(outside.close)
    total = Capacity(
        slots=config.slots,
        cpu_millis=config.cpu_millis,
        memory_bytes=config.memory_bytes,
        disk_bytes=config.disk_bytes,
    )
    return Parts(
        folder=folder,
        config=config,
        policy=policy,
        key=key,
        client=BridgeClient(http),
        ledger=ledger,
        holds=holds,
        store=store,
        roots=RootSet(store),
        classes=classes,
        sandboxes=offered,
        chain=_chain_view(config, stack),
        room=Room(total),
        gates=_gates(policy),
        outside=outside,
        clock=clock,
    )


def _chain_view(config: NodeConfig, stack: ExitStack) -> ChainView | None:
    """The chain itself, where the operator names an endpoint."""
    if not config.rpc_url:
        return None
    rpc = Http(config.rpc_url)
    stack.callback(rpc.close)
    return ChainView(rpc, config.chain_id, config.bridge_contract, config.rpc_depth)


def _review_door(config: NodeConfig, stack: ExitStack) -> socket.socket | None:
    """The port for reviewers, if there is to be one. InvalidInput, before anything is begun, where it cannot be had."""
    if not config.review_port:
        return None
    from executor.agent.reviewserver import listen

    return stack.enter_context(listen(config.review_port))


def _serve_reviewers(parts: Parts, door: socket.socket, stack: ExitStack) -> None:
    """Let the policy's reviewers in until the stack ends. The web server's libraries are imported only here."""
    from executor.agent.reviewapi import create_app
    from executor.agent.reviewgate import Gate, reviewers
    from executor.agent.reviewserver import review_server

    log = structlog.get_logger("insula.node")
    allowed = reviewers(parts.policy)
    if not allowed:
        log.warning("review_port is set, and the policy names no reviewers: nobody will be let in")
    review = Review(parts.folder, parts.config, parts.key.address, parts.policy, parts.holds, parts.clock)
    gate = Gate(parts.config.scope, parts.key.address, allowed, parts.clock)
    server = review_server(create_app(review, gate), door)
    server.start()
    stack.callback(server.stop)
    log.info("reviewers are served", url=f"http://127.0.0.1:{parts.config.review_port}", reviewers=len(allowed))


def _gateway_door(config: NodeConfig, stack: ExitStack) -> socket.socket | None:
    """The port of the node's gateway, if there is to be one. InvalidInput, as of the port for reviewers."""
    if not config.gateway_port:
        return None
    from executor.agent.gatewayserver import gateway_door

    return stack.enter_context(gateway_door(config.gateway_host, config.gateway_port))


def _serve_anybody(parts: Parts, door: socket.socket, stack: ExitStack) -> None:
    """Serve what is public until the stack ends. The web server's libraries are imported only here."""
    from executor.agent.gatewayserver import NodeGateway

    gateway = NodeGateway(parts, door)
    gateway.start()
    stack.callback(gateway.stop)
    structlog.get_logger("insula.node").info("what is public is served", url=parts.config.gateway_url)


def _gates(policy: Policy) -> Gates | None:
    """What jobs are given a way out with, if the policy grants any and this process can make one; says why not."""
    if not policy.egress.grants:
        return None
    gates = Gates(policy.egress)
    problem = gates.problem()
    if problem:
        structlog.get_logger("insula.node").warning("egress not offered", problem=problem)
        return None
    return gates


def make_sandboxes(
    config: NodeConfig, node: str = "check", accepted: Sequence[str] = (), state: Path | None = None
) -> list[Sandbox]:
    """One sandbox for each wanted tier; their libraries are imported only here.

    node: marks containers as this node's, so that it reaps its own only; [A-Za-z0-9_.-]. accepted: known escapes of
    container runtimes that the operator's policy accepts. state: a folder for the ids of containers that were started.
    """
    found: list[Sandbox] = []
    if "wasm" in config.tiers:
        from executor.sandbox.wasm import WasmSandbox

        found.append(WasmSandbox())
    if {"container", "gvisor"}.intersection(config.tiers):
        from executor.sandbox.docker import DockerSandbox

        if "container" in config.tiers:
            found.append(DockerSandbox(node, "runc", accept_escapes=accepted, state=state))
        if "gvisor" in config.tiers:
            found.append(DockerSandbox(node, "runsc", accept_escapes=accepted, state=state))
    return found


def _offer(folder: Path, sandboxes: Iterable[Sandbox], stop: threading.Event) -> dict[str, Sandbox]:
    """Reap what a crash left, prove the limits, and keep the sandboxes that hold them; says why others do not.

    JobCancelled when told to stop meanwhile.
    """
    log = structlog.get_logger("insula.node")
    offered: dict[str, Sandbox] = {}
    probes: list[Probe] = []
    for sandbox in sandboxes:
        for execution_id in sandbox.reap(set()):
            log.warning("reaped a left-over execution", tier=sandbox.tier, execution=execution_id)
        probe = sandbox.probe(lambda: "the node is stopping" if stop.is_set() else None)
        probes.append(probe)
        for escape in probe.accepted:
            log.warning("the policy accepts a known escape", tier=sandbox.tier, escape=escape)
        if probe.usable:
            offered[sandbox.tier] = sandbox
            log.info("tier offered", tier=sandbox.tier, version=probe.version, checks=len(probe.checks))
        else:
            log.warning("tier not offered", tier=sandbox.tier, problem=probe.problem)
    _write_private(folder / OFFER_FILE, json.dumps([asdict(probe) for probe in probes], indent=1))
    if not offered:
        problems = "; ".join(f"{probe.tier}: {probe.problem}" for probe in probes) or "no tier is wanted"
        raise InvalidInput("tiers", f"no sandbox can be used on this node: {problems}")
    return offered


def _write_private(path: Path, text: str) -> None:
    """In place of what was there, for the node's own eyes; a reader never sees half of it."""
    partial = path.with_suffix(".tmp")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def _close_crashed(ledger: Ledger, held: set[str], clock: Callable[[], float]) -> None:
    log = structlog.get_logger("insula.node")
    for intent in ledger.open_intents():
        if intent.execution_id in held:
            continue
        log.warning("an execution was cut short", execution=intent.execution_id, phase=intent.state)
        ledger.finish(intent.execution_id, "crashed", f"the node ended during: {intent.state}", clock())


def _remove_left_over(executions: Path, staying: set[str]) -> None:
    if executions.exists() and not executions.is_dir():
        raise InvalidInput(
            str(executions), "is a file; move it away: the node makes a folder of this name for its jobs"
        )
    executions.mkdir(mode=0o700, exist_ok=True)
    for path in executions.iterdir():
        try:
            if path.name in staying:
                Staging(path).remove(keep_quarantine=True)
            else:
                remove_tree(path)
        except OSError as exc:
            structlog.get_logger("insula.node").warning("cannot remove", path=str(path), error=str(exc))


def _read_offer(folder: Path) -> list[dict[str, Any]]:
    try:
        value = json.loads((folder / OFFER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return value if isinstance(value, list) else []


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: f"0x{value.hex()}" if isinstance(value, bytes) else value for name, value in row.items()}
