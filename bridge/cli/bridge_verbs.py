"""`insula bridge ...` and `insula doctor`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.context import BridgeOption, ContractOption, KeyOption, RpcOption, bridge_at, get_json
from bridge.cli.logs import set_up_logs
from bridge.cli.output import Exit, JsonFlag, emit

app = typer.Typer(help="Bridges.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", help="bridge.toml (docs/operations.md).")]


@app.command()
def run(config: ConfigOption) -> None:
    """Run a bridge until it is told to stop (SIGTERM, Ctrl-C)."""
    from bridge.compose import Bridge
    from bridge.config import BridgeConfig

    set_up_logs()
    bridge = Bridge(BridgeConfig.load(config))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bridge.stop())
    bridge.run()


@app.command()
def status(bridge: BridgeOption = "", as_json: JsonFlag = False) -> None:
    """What a bridge says of itself: chain, contract, position, loops, jobs by state."""
    with bridge_at(bridge) as http:
        found = get_json(http, "/v1/status")
    emit({"ok": True, **found}, as_json=as_json)


def doctor(
    bridge: BridgeOption = "",
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Look at this machine, and at a bridge and a chain if told where they are; say what to do about each problem."""
    from bridge.cli.diagnosis import diagnose

    findings = diagnose(bridge=bridge, rpc=rpc, contract=contract, key=key)
    ok = not any(finding.level == "problem" for finding in findings)
    lines = [f"{f.level:<8} {f.name}: {f.detail}" + (f"\n         -> {f.remedy}" if f.remedy else "") for f in findings]
    emit({"ok": ok, "findings": [vars(f) for f in findings]}, as_json=as_json, text="\n".join(lines))
    if not ok:
        raise typer.Exit(int(Exit.NOT_SO))
