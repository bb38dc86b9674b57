"""`insula bridge ...` and `insula doctor`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from bridge.cli.context import BridgeOption, ContractOption, KeyOption, RpcOption, bridge_at, get_json
from bridge.cli.logs import set_up_logs
from bridge.cli.output import Exit, JsonFlag, emit
from bridge.cli.texts import bridge_text
from executor.errors import InvalidInput

app = typer.Typer(help="Bridges.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", help="bridge.toml (docs/operations.md).")]


@app.command()
def run(config: ConfigOption) -> None:
    """Run a bridge until it is told to stop (SIGTERM, Ctrl-C)."""
    from bridge.compose import Bridge
    from bridge.config import BridgeConfig

    os.umask(0o077)  # what it writes is its own
    set_up_logs()
    bridge = Bridge(BridgeConfig.load(config))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bridge.stop())
    bridge.run()


@app.command()
def rebuild(config: ConfigOption, as_json: JsonFlag = False) -> None:
    """Put the database aside, so that the next run reads every request from the chain anew. Content is kept."""
    from bridge.config import BridgeConfig
    from bridge.lock import folder_lock

    folder = BridgeConfig.load(config).data_dir
    with folder_lock(folder):
        moved = put_aside(folder / "bridge.db", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    next_step = f"insula bridge run --config {quote(str(config))}"
    emit({"ok": True, "putAside": [str(path) for path in moved], "next": next_step}, as_json=as_json)


def put_aside(database: Path, when: str) -> list[Path]:
    """Rename a SQLite database with its write-ahead log; the new names. InvalidInput if there is none."""
    if not database.exists():
        raise InvalidInput("data_dir", f"there is no database {database}; one named by database_url is yours to move")
    moved = []
    for suffix in ("-shm", "-wal", ""):  # the database last: a half-done move is done again
        path = database.with_name(database.name + suffix)
        if path.exists():
            moved.append(path.rename(path.with_name(f"{database.name}.{when}{suffix}")))
    return moved


@app.command()
def status(bridge: BridgeOption = "", as_json: JsonFlag = False) -> None:
    """What a bridge says of itself: chain, contract, position, loops, jobs by state."""
    with bridge_at(bridge) as http:
        found = get_json(http, "/v1/status")
    emit({"ok": True, **found}, as_json=as_json, text=bridge_text(found))


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
