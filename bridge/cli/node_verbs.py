"""`insula node ...`: for operators. The process never holds a funded key; `register` uses the operator's."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from bridge.cli import log_verbs, registry_verbs, slash_verbs, stake_verbs
from bridge.cli.context import (
    BridgeOption,
    ContractOption,
    KeyOption,
    RpcOption,
    bridge_at,
    chain_at,
    contract_of,
    get_json,
    required,
    signer_of,
)
from bridge.cli.logs import set_up_logs
from bridge.cli.node_call import NotNow
from bridge.cli.output import Exit, JsonFlag, emit, fail
from bridge.cli.registry_verbs import LabelOption
from bridge.cli.texts import node_text
from executor.content.weburl import shown
from executor.errors import InvalidInput, PeerError
from executor.protocol.labels import Label
from executor.protocol.signing import Key
from executor.protocol.wire import label_hash

app = typer.Typer(help="Compute nodes.", no_args_is_help=True)

POLL_SECONDS = 0.2
SETTLE_SECONDS = 2.0

DirOption = Annotated[Path, typer.Option("--dir", help="The node's work folder.")]


@app.command()
def init(
    folder: DirOption,
    bridge: BridgeOption = "",
    rpc: RpcOption = "",
    contract: ContractOption = "",
    label: LabelOption = [],  # noqa: B006 - typer reads it, nobody writes it
    slots: Annotated[int, typer.Option(help="Jobs at the same time.")] = 2,
    cpu_millis: Annotated[int, typer.Option(help="Processor for jobs, in thousandths of a core.")] = 2000,
    memory_bytes: Annotated[int, typer.Option(help="Memory for jobs.")] = 2 * 2**30,
    disk_bytes: Annotated[int, typer.Option(help="Disk for jobs.")] = 4 * 2**30,
    min_unit_price: Annotated[int, typer.Option(help="Do not work for less, in wei.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Make a work folder with a new attestation key and node.toml."""
    from bridge.chain.views import BridgeViews
    from executor.agent.config import init_node

    address = contract_of(contract)
    with chain_at(rpc) as client:
        chain_id = client.chain_id()
        registry = BridgeViews(client, address).registry()
    made = init_node(
        folder,
        bridge_url=required(bridge, "--bridge", "INSULA_BRIDGE"),
        chain_id=chain_id,
        bridge_contract=address,
        registry=registry,
        rpc_url=rpc,
        labels=tuple(str(Label.parse(word)) for word in label),
        slots=slots,
        cpu_millis=cpu_millis,
        memory_bytes=memory_bytes,
        disk_bytes=disk_bytes,
        min_unit_price=min_unit_price,
    )
    next_step = f"insula node register --dir {quote(str(folder))} --key <the operator's key>"
    emit({"ok": True, **made, "next": next_step}, as_json=as_json)


@app.command()
def register(
    folder: DirOption,
    key: KeyOption = "",
    rpc: RpcOption = "",
    node_id: Annotated[
        int, typer.Option(min=0, max=2**48 - 1, help="Finish a registration that was cut off: join the key to it.")
    ] = 0,
    metadata: Annotated[str, typer.Option(help="Free text, at most 1024 bytes, on-chain.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Register the node on-chain with its labels, and let its key join. The operator's key pays."""
    from bridge.chain.operate import join_key, register_node
    from bridge.chain.views import RegistryViews
    from executor.agent.config import NodeConfig

    config = NodeConfig.load(folder)
    operator = signer_of(key)
    attestation_key: Key = config.load_key(folder)
    with chain_at(rpc or config.rpc_url) as client:
        if client.chain_id() != config.chain_id:
            raise InvalidInput("--rpc", f"is chain {client.chain_id()}; the node is for chain {config.chain_id}")
        taken = RegistryViews(client, config.registry).node_of_key(attestation_key.address)
        if taken is not None:  # seen now, before a node is registered that the key cannot join
            problem = (
                f"{attestation_key.address}, the key in {folder}, has joined node {taken} already; nothing was sent"
            )
            raise NotNow(f"{problem}. Another node needs a key of its own: insula node init with another --dir")
        if not node_id:
            node_id = register_node(client, operator, config.registry, config.labels, metadata)
        receipt = join_key(client, operator, config.registry, node_id, attestation_key)
    emit(
        {
            "ok": True,
            "nodeId": node_id,
            "operator": operator.address,
            "key": attestation_key.address,
            "labels": {word: label_hash(word) for word in config.labels},
            "transaction": receipt.tx_hash,
            "next": "labels count once a curator vouches for them; then: insula node run --dir " + quote(str(folder)),
        },
        as_json=as_json,
    )


@app.command()
def run(folder: DirOption) -> None:
    """Run the node until it is told to stop (SIGTERM, Ctrl-C). Jobs that run are given back."""
    from executor.agent.service import run_node

    set_up_logs()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_node(folder, stop)


@app.command()
def status(folder: DirOption, as_json: JsonFlag = False) -> None:
    """What the node's ledger says: signed outcomes, running jobs, and whether the bridge has seen it lately."""
    from executor.agent.config import NodeConfig
    from executor.agent.service import node_status

    found: dict[str, Any] = node_status(folder)
    config = NodeConfig.load(folder)
    with bridge_at(config.bridge_url) as http:
        try:
            seen = [n for n in get_json(http, "/v1/nodes").get("nodes", []) if n.get("key") == found.get("key")]
            found["bridge"] = {"url": shown(config.bridge_url), "answers": True, "seen": seen[0] if seen else None}
        except PeerError as exc:
            found["bridge"] = {"url": shown(config.bridge_url), "answers": False, "problem": str(exc)}
    emit({"ok": True, **found}, as_json=as_json, text=node_text(found))


@app.command()
def drain(
    folder: DirOption,
    undo: Annotated[bool, typer.Option("--undo", help="Ask for work again.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until nothing runs any more.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 3600.0,
    as_json: JsonFlag = False,
) -> None:
    """Ask for no more work; what runs goes on to its end. With --wait: say when that is."""
    from executor.agent.service import drain_node

    drain_node(folder, is_draining=not undo)
    shown = quote(str(folder))
    if undo:
        emit({"ok": True, "draining": False}, as_json=as_json, text="the node takes work again")
        return
    drained = wait and _is_drained(folder, timeout)
    if wait and not drained:
        raise fail(f"jobs still run after {timeout:.0f} s", code=Exit.TIMEOUT, as_json=as_json)
    text = f"the node takes no more work; to be told when it is done: insula node drain --dir {shown} --wait"
    if drained:
        text = (
            f"drained: nothing runs, the node can be stopped; take work again: insula node drain --dir {shown} --undo"
        )
    emit({"ok": True, "draining": True, "drained": drained}, as_json=as_json, text=text)


def _is_drained(folder: Path, timeout: float) -> bool:
    """Whether it came to have nothing left to do within `timeout` seconds.

    A call for work that was under way may still bring a job: it must be idle for longer than such a call is held.
    """
    from executor.agent.config import NodeConfig
    from executor.agent.service import is_at_work
    from executor.ledger import is_locked

    idle_needed = NodeConfig.load(folder).poll_seconds + SETTLE_SECONDS
    end = time.monotonic() + timeout
    idle_since = time.monotonic()
    while is_locked(folder):
        now = time.monotonic()
        if is_at_work(folder):
            idle_since = now
        elif now - idle_since >= idle_needed:
            return True
        if now > end:
            return False
        time.sleep(POLL_SECONDS)
    return True


for verb in (
    registry_verbs.labels,
    registry_verbs.metadata,
    registry_verbs.vouch,
    registry_verbs.withdraw_vouch,
    registry_verbs.deactivate,
    registry_verbs.reactivate,
    registry_verbs.rotate_key,
    stake_verbs.stake,
    stake_verbs.unstake,
    stake_verbs.withdraw,
    slash_verbs.evidence,
    slash_verbs.slash,
    slash_verbs.withdraw_reward,
    log_verbs.log,
    log_verbs.verify_log,
):
    app.command(verb.__name__.replace("_", "-"))(verb)
