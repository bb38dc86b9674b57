"""`insula devnet` and `insula demo`: a whole Insula on this machine."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.chaos_options import (
    DEFAULT_PRESET,
    ChaosOption,
    DialectOption,
    DropLogsOption,
    DropOption,
    FaultOption,
    HttpErrorsOption,
    LateReceiptsOption,
    LostOption,
    NullRoundsOption,
    PresetOption,
    ReorgDepthOption,
    ReorgOption,
    StaleOption,
    StuckOption,
    chaos_settings,
)
from bridge.cli.demo_text import narrate
from bridge.cli.output import Exit, JsonFlag, console, emit, errors
from bridge.devnet.processes import ProcessGroup, recorded, stop_recorded
from executor.content.kuboaddress import rpc_address
from executor.errors import InvalidInput, PeerError

if TYPE_CHECKING:
    from bridge.devnet.net import Devnet

app = typer.Typer(help="A chain, the contracts, a bridge and three labelled nodes, until Ctrl-C.")

DirOption = Annotated[Path, typer.Option("--dir", help="Its folder; made anew.")]
DEVNET_DIR = Path(".insula/devnet")
DEMO_DIR = Path(".insula/demo")


@app.callback(invoke_without_command=True)
def devnet(
    context: typer.Context,
    folder: DirOption = DEVNET_DIR,
    chaos: ChaosOption = None,
    chaos_preset: PresetOption = DEFAULT_PRESET,
    dialect: DialectOption = None,
    null_rounds: NullRoundsOption = None,
    reorg: ReorgOption = None,
    reorg_depth: ReorgDepthOption = None,
    drop_logs: DropLogsOption = None,
    late_receipts: LateReceiptsOption = None,
    stuck_tx: StuckOption = None,
    drop_tx: DropOption = None,
    lost_responses: LostOption = None,
    stale_heads: StaleOption = None,
    http_errors: HttpErrorsOption = None,
    fault: FaultOption = [],  # noqa: B006
    as_json: JsonFlag = False,
) -> None:
    """Start a devnet and run it until Ctrl-C. With --json, one object with all addresses once it is ready.

    --chaos makes its chain behave like a real Filecoin endpoint, and worse (docs/chaos.md).
    """
    if context.invoked_subcommand is not None:
        return
    options = {
        "dialect": dialect,
        "null_rounds": null_rounds,
        "reorg": reorg,
        "reorg_depth": reorg_depth,
        "drop_logs": drop_logs,
        "late_receipts": late_receipts,
        "stuck_tx": stuck_tx,
        "drop_tx": drop_tx,
        "lost_responses": lost_responses,
        "stale_heads": stale_heads,
    }
    settings = chaos_settings(chaos, chaos_preset, options, http_errors, fault)
    from bridge.devnet import net as devnet_net
    from bridge.devnet.chaos.run import ChaosRun
    from executor.agent.config import init_node

    say = _teller(as_json)
    folder = fresh(folder)
    with _stoppable(), ExitStack() as stack:
        front = None
        if settings is not None:
            front = stack.enter_context(ChaosRun(settings, chaos or 0, folder / "logs" / "chaos.log", say))
        group = stack.enter_context(ProcessGroup(folder))
        net = devnet_net.start(group, init_node, say, front)
        emit(
            {"ok": True, **asdict(net)},
            as_json=as_json,
            text=_next_steps(net.folder, net.bridge_url, net.rpc_url, net.contract, net.chain_id),
        )
        say("running; Ctrl-C stops everything")
        group.wait_until("Ctrl-C", lambda: False, float("inf"))


@app.command()
def stop(folder: DirOption = DEVNET_DIR, as_json: JsonFlag = False) -> None:
    """Stop what `insula demo --keep` left running."""
    names = stop_recorded(folder.absolute())
    if not names:
        raise InvalidInput("--dir", f"nothing runs in {folder.absolute()}; name the folder of the devnet or demo")
    emit({"ok": True, "stopped": names}, as_json=as_json, text=f"stopped: {', '.join(names)}")


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running; print URLs and next steps.")] = False,
    folder: DirOption = DEMO_DIR,
    ipfs: Annotated[
        str,
        typer.Option(
            help="Where outputs are also kept while it runs: embedded (nowhere else), kubo (on this machine), or URL."
        ),
    ] = "embedded",
    as_json: JsonFlag = False,
) -> None:
    """The main job, end to end, on real parts: order, run, deliver, verify. The exit status says whether all held."""
    say = _teller(as_json)
    started = time.monotonic()
    kubo = _kubo_at(ipfs)
    with _stoppable(), ExitStack() as stack:
        place = fresh(folder)
        if kubo and not keep:
            stack.callback(_take_back, place, kubo, say)  # once nobody gives it anything any longer
        result = _run_demo(stack.enter_context(ProcessGroup(place, detached=keep)), say, kubo)
        result["seconds"] = round(time.monotonic() - started, 1)
        if keep:
            result["stop"] = f"insula devnet stop --dir {quote(str(folder.absolute()))}"
    emit(result, as_json=as_json, text=narrate(result))
    if keep and not as_json:
        net = result["devnet"]
        places = (net["folder"], net["bridgeUrl"], net["rpcUrl"], net["computeBridge"], net["chainId"])
        console.print(_next_steps(*places), markup=False)
        console.print(f"stop it with:  {result['stop']}", markup=False)
    if not result["ok"]:
        raise typer.Exit(int(Exit.NOT_SO))


def fresh(folder: Path) -> Path:
    """An empty folder in place of an earlier devnet's. InvalidInput where something else is."""
    folder = folder.absolute()
    if recorded(folder):
        raise InvalidInput(
            "--dir", f"a devnet runs in {folder}; stop it with: insula devnet stop --dir {quote(str(folder))}"
        )
    if folder.exists():
        if any(folder.iterdir()) and not (folder / "logs").is_dir():
            raise InvalidInput("--dir", f"{folder} holds something else than a devnet; name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _kubo_at(ipfs: str) -> str:
    """The RPC API that `--ipfs` names; empty for the embedded store alone. InvalidInput where no Kubo answers there."""
    if ipfs == "embedded":
        return ""
    from bridge.demo.mirrored import USUAL
    from executor.content.kubo import Kubo

    address = rpc_address(USUAL if ipfs == "kubo" else ipfs)
    with Kubo(address) as daemon:
        try:
            problem = daemon.facts().problem
        except PeerError as exc:
            problem = f"{exc}; start it: ipfs daemon"
    if problem:
        raise InvalidInput("--ipfs", problem)
    return address


def _take_back(folder: Path, kubo: str, say: Callable[[str], None]) -> None:
    from bridge.demo.mirrored import take_back
    from bridge.errors import BridgeError

    try:
        roots = take_back(folder / "bridge" / "bridge.db", kubo)
    except (PeerError, BridgeError) as exc:
        say(f"what the demo gave to Kubo stays pinned there: {exc}")
    else:
        say(f"Kubo was told to keep {len(roots)} outputs of the demo no longer; what it had before stays")


def _run_demo(group: ProcessGroup, say: Callable[[str], None], kubo: str) -> dict[str, Any]:
    from bridge.chain.client import ChainClient
    from bridge.cli.demo_replays import replay_all
    from bridge.demo.content import prepare
    from bridge.demo.mirrored import look_at
    from bridge.demo.reviewing import decide
    from bridge.demo.run import PLANS, DemoRun, offers_containers
    from bridge.demo.slashing import prove, put_at_stake
    from bridge.devnet import net as devnet_net
    from executor.agent.config import init_node
    from executor.agent.review import open_review
    from executor.content.web import Http

    net = devnet_net.start(group, init_node, say, plans=PLANS, kubo=kubo)
    with Http(net.bridge_url) as http, ChainClient(net.rpc_url) as client:
        run = DemoRun(net, client, http, group.folder, say)
        with_image = offers_containers(http)
        if not with_image:
            say("no node runs containers here: job (b) is left out. To have it, install and start a Docker Engine")
            say("  (Debian: apt-get install docker.io); why a node does not offer them stands in logs/node-*.log")
        say("making a 4 MiB access point log and the programs, and bringing them to the bridge by CID")
        prepared = prepare(net, group.folder, with_image=with_image, clock=time.time())
        say("node rogue, which runs no job and makes its answers up, has 1 FIL at stake")
        put_at_stake(run)
        say("the dApp contract orders jobs by transactions; each escrows its price")
        ordered = [run.order(scenario) for scenario in run.jobs_for(prepared)]
        explanation = run.explain(ordered[0])
        say("a reviewer looks at what node vault holds, and signs: one output may leave, the other may not")
        decisions = {item.scenario.key: decide(run, item, open_review) for item in ordered if item.scenario.key in "gh"}
        say("waiting for results; each is verified from the chain's event down to the output's bytes")
        latest = [run.in_time(item) for item in ordered[1:]]
        jobs = [run.report(item) for item in latest]
        if kubo:
            say("fetching each output back from Kubo, which was given it when it became public")
            for item, job in zip(latest, jobs, strict=True):
                look_at(run, item, job, kubo)
        for job in jobs:
            if job["key"] in decisions:
                job["review"] = decisions[job["key"]]
        say("a stranger proves with the rogue's two signatures that it signed two outcomes of one request")
        twice = next(item for item in ordered if item.scenario.key == "f")
        next(job for job in jobs if job["key"] == "f")["slashed"] = prove(run, twice)
        jobs.append(run.report(ordered[0], explanation))  # it has waited for its deadline meanwhile
        say("each wasm job is exported, verified offline and run again from its file alone")
        replays = replay_all(run, latest)
        for job in jobs:
            if job["key"] in replays:
                job["replay"] = replays[job["key"]]
    jobs.sort(key=lambda job: str(job["key"]))
    return {
        "ok": not run.problems,
        "problems": run.problems,
        "containers": with_image,
        "devnet": _places(net),
        "jobs": jobs,
    }


def _places(net: Devnet) -> dict[str, Any]:
    """Where everything of a devnet is, for the demo's answer."""
    return {
        "folder": net.folder,
        "rpcUrl": net.rpc_url,
        "bridgeUrl": net.bridge_url,
        "chainId": net.chain_id,
        "computeBridge": net.contract,
        "nodeRegistry": net.registry,
        "resultBook": net.result_book,
        "curator": net.curator,
        "nodes": [asdict(node) for node in net.nodes],
    }


def _teller(as_json: bool) -> Callable[[str], None]:
    """Progress with the seconds since the start; on standard error when standard output is for JSON."""
    started = time.monotonic()
    target = errors if as_json else console

    def say(line: str) -> None:
        target.print(f"[{time.monotonic() - started:5.1f} s] {line}", markup=False)

    return say


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP end the same way as Ctrl-C: every child is stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # SIGINT too: a shell that starts us in the background has it ignored
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _next_steps(folder: str, bridge_url: str, rpc_url: str, contract: str, chain_id: int) -> str:
    return f"""bridge   {bridge_url}/v1/status
chain    {rpc_url}  (chain id {chain_id}; funded test keys in {quote(f"{folder}/keys")})
contract {contract}  (ComputeBridge; the others in {quote(f"{folder}/devnet.json")})
next     . {quote(f"{folder}/env")}
         insula job list
         insula doctor
         insula content add FILE --public
         insula job quote SPEC.json
         insula job submit SPEC.json --wait          (curator, key and addresses are in env)"""
