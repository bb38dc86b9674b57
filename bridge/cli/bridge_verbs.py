"""`insula bridge ...` and `insula doctor`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.context import BridgeOption, ContractOption, KeyOption, RpcOption, bridge_at, get_json
from bridge.cli.logs import set_up_logs
from bridge.cli.output import Exit, JsonFlag, emit
from executor.errors import InvalidInput
from executor.protocol.wire import checksum_address

if TYPE_CHECKING:
    from bridge.store.engine import Engine

app = typer.Typer(help="Bridges.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", help="bridge.toml (docs/operations.md).")]


@app.command()
def run(config: ConfigOption) -> None:
    """Run a bridge until it is told to stop (SIGTERM, Ctrl-C)."""
    from bridge.compose import Bridge
    from bridge.config import BridgeConfig
    from bridge.service import collect_seldom

    os.umask(0o077)  # what it writes is its own
    set_up_logs()
    bridge = Bridge(BridgeConfig.load(config))
    collect_seldom()
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
    """What a bridge says of itself, and in words why nothing is happening."""
    with bridge_at(bridge) as http:
        found = get_json(http, "/v1/status")
    emit({"ok": True, **found}, as_json=as_json, text=_status_text(found))


def _status_text(found: dict[str, Any]) -> str:
    """The sentences of a bridge's status, the conclusion last; a bridge's answer is not trusted in shape."""
    standing = found.get("standing")
    fields = standing if isinstance(standing, dict) else {}
    lines = [str(line) for line in fields.get("lines") or ()]
    known = [alarm for alarm in found.get("alarms") or () if isinstance(alarm, dict)]
    remedies = [f"-> {alarm.get('alarm')}: {alarm.get('remedy')}" for alarm in known]
    counts = found.get("jobs")
    by_state = ", ".join(f"{n} {state}" for state, n in counts.items()) if isinstance(counts, dict) else ""
    return "\n".join(
        [
            f"bridge {found.get('url')}, version {found.get('version')}",
            f"contract {found.get('contract')} on chain {found.get('chainId')}, relayer {found.get('relayer')}",
            f"jobs: {by_state or 'none'}; nodes connected: {found.get('nodes')}",
            *lines,
            *remedies,
            str(fields.get("conclusion", "this bridge does not say what it waits for")),
        ]
    )


AnyConfigOption = Annotated[Path | None, typer.Option("--config", help="bridge.toml: read the bridge's database.")]


@app.command()
def alarms(config: AnyConfigOption = None, bridge: BridgeOption = "", as_json: JsonFlag = False) -> None:
    """What was raised and is not acknowledged, and what to do about each; from a database or a running bridge."""
    found = _alarms_of_database(config) if config is not None else _alarms_of_bridge(bridge)
    lines = [_alarm_text(alarm) for alarm in found]
    emit({"ok": True, "alarms": found}, as_json=as_json, text="\n".join(lines) or "no alarm is raised")


@app.command()
def acknowledge(
    name: Annotated[str, typer.Argument(help="The alarm's name, as `insula bridge alarms` shows it.")],
    config: ConfigOption,
    as_json: JsonFlag = False,
) -> None:
    """Take an alarm back. Its cause, if it still stands, raises it again."""
    from bridge.store.alarms import acknowledge as take_back
    from bridge.store.engine import transaction
    from bridge.watch import Alarm

    known = [alarm.value for alarm in Alarm]
    if name not in known:
        raise InvalidInput("NAME", f"is no alarm; the alarms are: {', '.join(known)}")
    with _database(config) as engine, transaction(engine) as connection:
        was_raised = take_back(connection, Alarm(name))
    text = f"{name} is taken back" if was_raised else f"{name} was not raised"
    emit({"ok": was_raised, "alarm": name}, as_json=as_json, text=text)
    if not was_raised:
        raise typer.Exit(int(Exit.NOT_SO))


def _alarms_of_database(config: Path) -> list[dict[str, Any]]:
    from bridge.alarms import alarm_view
    from bridge.store.alarms import raised_alarms
    from bridge.store.engine import reading

    with _database(config) as engine, reading(engine) as connection:
        return [alarm_view(raised) for raised in raised_alarms(connection).values()]


def _alarms_of_bridge(bridge: str) -> list[dict[str, Any]]:
    with bridge_at(bridge) as http:
        found = get_json(http, "/v1/status").get("alarms")
    if not isinstance(found, list) or not all(isinstance(alarm, dict) for alarm in found):
        raise InvalidInput("bridge", "its status names no alarms; is it of an older version?")
    return found


@contextmanager
def _database(config: Path) -> Iterator[Engine]:
    """The database of a bridge, running or not. InvalidInput if it is not there, or too old to hold alarms."""
    from bridge.config import BridgeConfig
    from bridge.errors import StoreUnavailable
    from bridge.store.alarms import has_alarms
    from bridge.store.engine import StoreError, open_engine, reading

    loaded = BridgeConfig.load(config)
    database = loaded.data_dir / "bridge.db"
    if not loaded.database_url and not database.exists():
        raise InvalidInput("data_dir", f"there is no database {database}: this bridge has not run yet")
    engine = open_engine(loaded.database)
    try:
        with reading(engine) as connection:
            if not has_alarms(connection):
                raise InvalidInput("data_dir", "its database is of an older version; start the bridge once")
        yield engine
    except (StoreError, StoreUnavailable) as exc:
        raise InvalidInput("database", f"cannot be used ({type(exc).__name__})") from exc
    finally:
        engine.dispose()


def _alarm_text(alarm: dict[str, Any]) -> str:
    over = alarm.get("over_at")
    cause = "its cause stands" if over is None else f"its cause is gone since {_when(over)}"
    times = alarm.get("times")
    return (
        f"{alarm.get('alarm')}: {alarm.get('detail')}\n"
        f"    {'once' if times == 1 else f'{times} times'}, last {_when(alarm.get('last_at'))}; {cause}\n"
        f"    -> {alarm.get('remedy')}"
    )


def _when(at: object) -> str:
    if not isinstance(at, (int, float)) or not 0 <= at < 2**40:
        return "at an unknown time"
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


def doctor(
    bridge: BridgeOption = "",
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    config: Annotated[Path | None, typer.Option("--config", help="bridge.toml: look at all that it names.")] = None,
    node: Annotated[
        Path | None, typer.Option("--dir", help="A node's folder: look at where else its inputs come from.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Look at this machine, and at a bridge and a chain if told where they are; say what to do about each problem."""
    from bridge.cli.diagnosis import Plan, diagnose, plan_of
    from bridge.cli.endpoint_checks import Expected
    from bridge.config import BridgeConfig

    if config is not None:
        plan = plan_of(BridgeConfig.load(config))
    else:
        address = checksum_address(contract, "--contract") if contract else ""
        plan = Plan(bridge=bridge, rpcs=(rpc,) if rpc else (), key=key, expected=Expected(contract=address))
    findings = diagnose(replace(plan, node=node))
    ok = not any(finding.level == "problem" for finding in findings)
    lines = [f"{f.level:<8} {f.name}: {f.detail}" + (f"\n         -> {f.remedy}" if f.remedy else "") for f in findings]
    emit({"ok": ok, "findings": [vars(f) for f in findings]}, as_json=as_json, text="\n".join(lines))
    if not ok:
        raise typer.Exit(int(Exit.NOT_SO))
