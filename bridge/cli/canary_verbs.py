"""`insula canary run`: fresh content and whole jobs through a bridge, and one line about each round."""

from __future__ import annotations

import re
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from bridge.cli.context import BridgeOption, ContractOption, KeyOption, RpcOption, bridge_url, contract_of, signer_of
from bridge.cli.ordering import (
    MAX_PRICE,
    CuratorOption,
    DeliveryFeeOption,
    FailPriceOption,
    LabelOption,
    NodesOption,
    OwnLabelsFlag,
    QuorumOption,
    UnitPriceOption,
    terms_of,
)
from bridge.cli.output import Exit, console, errors, one_line, plain
from executor.content.kuboaddress import rpc_address
from executor.errors import InvalidInput

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from bridge.canary.rounds import Canary, Stop
    from bridge.chain.signer import TxSigner
    from executor.protocol.wire import Order

app = typer.Typer(help="A monitor that orders and fetches what nobody has seen before.", no_args_is_help=True)

MAX_SIZE = 2**30
MAX_SIZES = 8
_SIZE = re.compile(r"([1-9][0-9]{0,9})(B|KiB|MiB|GiB)?")
_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

SizesOption = Annotated[str, typer.Option("--sizes", help="Sizes of the content, such as 1KiB,1MiB,60MiB.")]
GatewayOption = Annotated[
    list[str] | None, typer.Option("--gateway", help="Also fetch from this trustless gateway; several for several.")
]
KuboOption = Annotated[
    list[str] | None, typer.Option("--kubo", help="Also give it to this Kubo (its RPC API) and fetch it from there.")
]
MaxSpendOption = Annotated[
    int, typer.Option("--max-spend", min=0, max=MAX_PRICE, help="wei that all jobs of this run may be ordered for.")
]

JobSecondsOption = Annotated[
    int, typer.Option(min=10, max=7 * 86400, help="A job's deadline; after it the order is refunded.")
]
FetchSecondsOption = Annotated[float, typer.Option(min=1, max=86400, help="For one upload, and for one fetch.")]
MaxFirstOption = Annotated[
    float, typer.Option(min=0, max=86400, help="Seconds to the first verified block that are still well.")
]
MaxStallOption = Annotated[
    float, typer.Option(min=0, max=86400, help="Seconds without a verified block that are still well.")
]
MinRateOption = Annotated[float, typer.Option(min=1, max=2**40, help="Bytes per second that are still well.")]
EveryOption = Annotated[
    float, typer.Option(min=0, max=31 * 86400, help="Seconds from the start of a round to that of the next.")
]
MetricsOption = Annotated[Path | None, typer.Option(help="Write metrics to this file after each round (.prom).")]
ListenOption = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Serve metrics on this port of the loopback interface.")
]


@app.command()
def run(
    bridge: BridgeOption = "",
    key: KeyOption = "",
    rpc: RpcOption = "",
    contract: ContractOption = "",
    sizes: SizesOption = "1KiB,1MiB,60MiB",
    gateway: GatewayOption = None,
    kubo: KuboOption = None,
    no_content: Annotated[bool, typer.Option("--no-content", help="Only jobs.")] = False,
    no_jobs: Annotated[bool, typer.Option("--no-jobs", help="Only content; needs no chain.")] = False,
    nodes: NodesOption = 1,
    quorum: QuorumOption = 0,
    curator: CuratorOption = "",
    trust_own_labels: OwnLabelsFlag = False,
    label: LabelOption = [],  # noqa: B006
    unit_price: UnitPriceOption = 0,
    fail_price: FailPriceOption = 0,
    delivery_fee: DeliveryFeeOption = 0,
    max_spend: MaxSpendOption = 10**17,
    job_seconds: JobSecondsOption = 900,
    fetch_seconds: FetchSecondsOption = 120.0,
    max_first: MaxFirstOption = 5.0,
    max_stall: MaxStallOption = 5.0,
    min_rate: MinRateOption = float(2**20),
    every: EveryOption = 300.0,
    rounds: Annotated[int, typer.Option(min=0, help="How many; 0: until it is stopped.")] = 1,
    metrics: MetricsOption = None,
    listen: ListenOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line for each round.")] = False,
) -> None:
    """Send fresh random content through a bridge, fetch it back from each source and from all, and see a job through.

    One line a round says whether all is well, and what is wrong where. All is taken back afterwards, also what a killed
    canary left. Exit code, of the worst round: 0 well, 1 wrong, 3 no answer, 10 the canary itself could not look.
    """
    from bridge.canary.export import served
    from bridge.canary.judgement import Limits
    from bridge.canary.rounds import Stop

    if no_content and no_jobs:
        raise InvalidInput("--no-jobs", "with --no-content leaves nothing to look at")
    order = None if no_jobs else terms_of(
        nodes=nodes, quorum=quorum, ttl=job_seconds, curator=curator, trust_own_labels=trust_own_labels,
        labels=label, unit_price=unit_price, fail_price=fail_price, delivery_fee=delivery_fee,
    )  # fmt: skip
    if order is not None and order.price > max_spend:
        raise InvalidInput("--max-spend", f"is {max_spend}; one job costs {order.price} wei")
    url = bridge_url(bridge)
    stop = Stop()
    with ExitStack() as stack:
        signals = stack.enter_context(_stopped_by_signals(stop))
        canary = stack.enter_context(_canary(url, signer_of(key), kubo or [], stop, rounds))
        canary.limits = Limits(max_first, max_stall, min_rate)
        if not no_content:
            _add_content(canary, _sizes(sizes), gateway or [], fetch_seconds)
        if order is not None:
            stack.enter_context(_jobs(canary, order, label, rpc, contract, max_spend))
        registry = stack.enter_context(served(canary, listen))
        code = _go(canary, signals, every, registry, metrics, as_json=as_json)
    raise typer.Exit(int(code))


@contextmanager
def _canary(url: str, account: TxSigner, kubos: list[str], stop: Stop, rounds: int) -> Iterator[Canary]:
    """A canary that looks at nothing yet, with its traces."""
    from bridge.canary.rounds import Canary
    from bridge.canary.sweeping import Sweeper
    from bridge.canary.traces import Traces
    from bridge.cli.stores import home

    sweeper = Sweeper(url, account, [rpc_address(address) for address in kubos])
    folder = home() / "canary"
    traces = Traces.open(folder, secrets.token_hex(6))
    try:
        yield Canary(url, sweeper, folder, traces, (), None, None, stop=stop, rounds=rounds)
    finally:
        traces.close()


def _add_content(canary: Canary, sizes: tuple[int, ...], gateways: list[str], seconds: float) -> None:
    from bridge.canary.contents import ContentProbe, places_of

    places = places_of(canary.bridge, gateways, canary.sweeper.kubos)
    canary.sizes, canary.content = sizes, ContentProbe(places, canary.traces, seconds=seconds)


@contextmanager
def _jobs(canary: Canary, order: Order, labels: list[str], rpc: str, contract: str, max_spend: int) -> Iterator[None]:
    """Have it look at jobs, with a connection to the chain."""
    from bridge.canary.jobs import JobProbe
    from bridge.cli.context import chain_at
    from bridge.cli.job_verbs import place
    from bridge.cli.texts import standing

    address, account = contract_of(contract), canary.sweeper.account
    with chain_at(rpc) as client:
        canary.job = JobProbe(
            order=order,
            selector=",".join(labels),
            contract=address,
            client=client,
            place=lambda wanted: place(wanted, client, account, address),
            say_why=standing,
            traces=canary.traces,
            locks=canary.home,
            max_spend=max_spend,
            fresh=secrets.token_bytes,
        )
        yield


def _go(
    canary: Canary,
    signals: list[int],
    every: float,
    registry: CollectorRegistry,
    metrics: Path | None,
    *,
    as_json: bool,
) -> Exit:
    """Round after round; the exit code. KeyboardInterrupt after Ctrl-C."""
    from bridge.canary.export import write_file
    from bridge.canary.judgement import Health
    from bridge.canary.rounds import Stopped

    codes = {
        Health.WELL: Exit.OK,
        Health.WRONG: Exit.NOT_SO,
        Health.UNREACHABLE: Exit.UNREACHABLE,
        Health.BLIND: Exit.CANARY_BLIND,
    }
    if metrics is not None:
        write_file(metrics, registry)  # a place that cannot be written is told now
    try:
        while True:
            started = time.monotonic()
            more = canary.step()
            _tell(canary, as_json=as_json)
            if metrics is not None:
                try:
                    write_file(metrics, registry)
                except InvalidInput as exc:  # there may be room again after the next round
                    errors.print(one_line(f"canary: {exc}"), markup=False)
            if not more:
                return codes[canary.worst]
            with canary.stop.may_end():
                time.sleep(max(0.0, every - (time.monotonic() - started)))
    except Stopped:
        if signal.SIGINT in signals:
            raise KeyboardInterrupt from None
        errors.print(f"canary: stopped after {canary.round.number} rounds", markup=False)
        return Exit.OK


def _tell(canary: Canary, *, as_json: bool) -> None:
    """The round in a line, on standard error where something is wrong; with --json always on standard output."""
    from bridge.canary.judgement import Health

    verdict = canary.verdict
    if verdict is None:
        return
    well = verdict.health is Health.WELL
    if not as_json:
        (console if well else errors).print(one_line(verdict.line), markup=False)
        return
    found: dict[str, Any] = {"ok": well, "line": verdict.line, "health": verdict.health, "burn": verdict.burn}
    found |= {"findings": [asdict(finding) for finding in verdict.findings]}
    found |= {"quantiles": [asdict(quantile) for quantile in verdict.quantiles]}
    found |= {"leaks": [asdict(leak) for leak in canary.leaks]}
    sys.stdout.write(orjson.dumps(plain({**found, **asdict(canary.round)})).decode() + "\n")
    sys.stdout.flush()


def _sizes(text: str) -> tuple[int, ...]:
    """The sizes of "1KiB,1MiB"; InvalidInput."""
    found = [_SIZE.fullmatch(word.strip()) for word in text.split(",")]
    sizes = {int(match[1]) * _UNITS[match[2] or ""] for match in found if match}
    if not all(found) or len(sizes) > MAX_SIZES or max(sizes) > MAX_SIZE:
        raise InvalidInput("--sizes", f"is {text!r:.60}; it is at most {MAX_SIZES} sizes such as 1KiB,1MiB, up to 1GiB")
    return tuple(sorted(sizes))


@contextmanager
def _stopped_by_signals(stop: Stop) -> Iterator[list[int]]:
    """SIGTERM, SIGHUP and Ctrl-C end the looking, and what was left is cleaned up; which of them came."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        stop.now()

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
