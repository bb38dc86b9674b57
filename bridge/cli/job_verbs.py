"""`insula job ...`: order jobs, follow them, understand them, check them."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from bridge.chain.client import ChainClient, Log, TxReceipt
from bridge.chain.signer import TxSigner
from bridge.cli.cancel_verb import cancel
from bridge.cli.content_verbs import download
from bridge.cli.context import (
    BridgeOption,
    ContractOption,
    KeyOption,
    RpcOption,
    bridge_at,
    chain_at,
    contract_of,
    get_json,
    signer_of,
    understood,
)
from bridge.cli.export_verb import export
from bridge.cli.ordering import (
    CuratorOption,
    DeliveryFeeOption,
    DialectOption,
    FailPriceOption,
    LabelOption,
    NodesOption,
    OwnLabelsFlag,
    QuorumOption,
    ResultOption,
    SpecArgument,
    TokenOption,
    TtlOption,
    UnitPriceOption,
    Wish,
)
from bridge.cli.output import Exit, JsonFlag, console, emit, errors, fail, printable
from bridge.cli.quote_verb import quote
from bridge.cli.reference import reference
from bridge.cli.replay_verb import replay
from bridge.cli.spec_verbs import DialectName
from bridge.cli.stores import local_store
from bridge.cli.texts import explanation_text, job_text, lines, paid, standing
from bridge.cli.verify_verb import verify
from bridge.errors import BridgeError, RpcUnavailable
from bridge.jobs import JobState
from executor.content.web import Http
from executor.errors import InvalidInput, PeerRefused
from executor.protocol.cid import Cid
from executor.protocol.wire import (
    ZERO_ADDRESS,
    OnChainState,
    Order,
    checksum_address,
)

app = typer.Typer(help="Jobs.", no_args_is_help=True)

POLL_SECONDS = 0.5
LOG_SECONDS = 60.0  # until a mined request's log must show
SETTLED = ("posted", "final", "expired", "cancelled")
STATES = tuple(state.value for state in JobState)
#: state on the chain -> where the bridge has such jobs; empty: anywhere
CHAIN_STATES: dict[str, tuple[str, ...]] = {
    "requested": (),
    "fulfilled": ("posted", "final"),
    "failed": ("posted", "final"),
    "refused": ("posted", "final"),
    "withheld": ("posted", "final"),
    "cancelled": ("cancelled", "final"),
    "expired": ("expired", "final"),
}
ALL_STATES = tuple(dict.fromkeys((*STATES, *CHAIN_STATES)))
JobId = Annotated[str, typer.Argument(metavar="ID", help="A request id, or a 0x request hash.")]


@app.command()
def submit(
    file: SpecArgument,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    bridge: BridgeOption = "",
    result: ResultOption = "cid",
    dialect: DialectOption = DialectName.INSULA_V1,
    ttl: TtlOption = 3600,
    nodes: NodesOption = 1,
    quorum: QuorumOption = 0,
    curator: CuratorOption = "",
    trust_own_labels: OwnLabelsFlag = False,
    label: LabelOption = [],  # noqa: B006
    token: TokenOption = "",
    unit_price: UnitPriceOption = 0,
    fail_price: FailPriceOption = 0,
    delivery_fee: DeliveryFeeOption = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the job is settled.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 3600.0,
    as_json: JsonFlag = False,
) -> None:
    """Order a job from an account, and pay for it. The spec is checked here first, as nodes would.

    With --token the contract is first allowed to take the price of it, where it may take less.
    """
    order = Wish(
        file=file,
        dialect=dialect,
        result=result,
        ttl=ttl,
        nodes=nodes,
        quorum=quorum,
        curator=curator,
        trust_own_labels=trust_own_labels,
        labels=label,
        token=token,
        unit_price=unit_price,
        fail_price=fail_price,
        delivery_fee=delivery_fee,
    ).order()
    address, signer = contract_of(contract), signer_of(key)
    with chain_at(rpc) as client:
        placed = place(order, client, signer, address)
    if wait:
        errors.print(f"request {placed['requestId']}, hash {placed['requestHash']}, in {placed['transaction']}")
        with bridge_at(bridge) as http:
            _finish(_wait(http, placed["requestHash"], timeout, as_json=as_json), as_json=as_json, extra=placed)
        return
    told = {
        "request": f"{placed['requestId']}, hash {placed['requestHash']}",
        "ordered in": f"transaction {placed['transaction']}",
        "escrowed": paid(placed["price"], order.token),
        "next": f"insula job wait {placed['requestId']}",
    }
    emit({"ok": True, **placed}, as_json=as_json, text=lines(told.items()))


def place(order: Order, client: ChainClient, signer: TxSigner, contract: str) -> dict[str, Any]:
    """Order a job and wait until it stands on the chain; its request id and hash, transaction and price."""
    from bridge.chain.contracts import compute_bridge
    from bridge.chain.operate import let_take, request_job

    if order.token != ZERO_ADDRESS:
        let_take(client, signer, contract, order.token, order.price)
    receipt = request_job(client, signer, contract, order)
    log = _log_of(client, contract, receipt, compute_bridge().event_topic("JobRequested"))
    return {
        "requestId": int.from_bytes(log.topics[1], "big"),
        "requestHash": f"0x{log.topics[2].hex()}",
        "transaction": f"0x{receipt.tx_hash.hex()}",
        **({"priceInWei": str(order.price)} if order.token == ZERO_ADDRESS else {"token": order.token}),
        "price": str(order.price),
    }


def _log_of(client: ChainClient, contract: str, receipt: TxReceipt, topic: bytes) -> Log:
    """The log of a mined transaction. Endpoints show it late (lotus#12078), and a reorg moves it."""
    end = time.monotonic() + LOG_SECONDS
    while True:
        try:
            for log in client.logs_by_range(receipt.block_number, receipt.block_number, contract):
                if log.tx_hash == receipt.tx_hash and log.topics[:1] == (topic,):
                    return log
            receipt = client.receipt(receipt.tx_hash) or receipt
        except RpcUnavailable:
            pass  # asked again until the time is over
        if time.monotonic() > end:
            raise BridgeError(
                f"transaction 0x{receipt.tx_hash.hex()} is mined, but the endpoint shows no JobRequested; find the "
                "request with: insula job list"
            )
        time.sleep(POLL_SECONDS)


@app.command("wait")
def wait_for(
    job: JobId,
    bridge: BridgeOption = "",
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 3600.0,
    as_json: JsonFlag = False,
) -> None:
    """Wait until a job is settled. Exit status 0 only if it succeeded."""
    with bridge_at(bridge) as http:
        _finish(_wait(http, job, timeout, as_json=as_json), as_json=as_json, extra={})


@understood()
def _wait(http: Http, job: str, timeout: float, *, as_json: bool) -> dict[str, Any]:
    end = time.monotonic() + timeout
    shown: tuple[Any, ...] = ()
    while True:
        found = _job(http, job, missing_ok=True)
        if found and found["state"] in SETTLED:
            return found
        why = _about(http, job, "/explain") if found else {}
        now = standing(why) if why else "not seen by the bridge yet"
        mark = (why.get("state"), why.get("reason"), why.get("refundable_at"))
        if mark != shown and not as_json:  # a line for each change of state or reason, not for each number in it
            console.print(printable(now), markup=False)
        shown = mark
        if time.monotonic() > end:
            raise fail(f"not settled after {timeout:.0f} s: {now}", code=Exit.TIMEOUT, as_json=as_json)
        time.sleep(POLL_SECONDS)


@understood()
def _finish(found: dict[str, Any], *, as_json: bool, extra: dict[str, Any]) -> None:
    succeeded = found["chain_state"] == OnChainState.FULFILLED.name
    emit({"ok": succeeded, **extra, "job": found}, as_json=as_json, text=job_text(found))
    if not succeeded:
        raise typer.Exit(int(Exit.NOT_SO))


@app.command()
@understood()
def status(job: JobId, bridge: BridgeOption = "", as_json: JsonFlag = False) -> None:
    """Where a job stands."""
    with bridge_at(bridge) as http:
        found = _job(http, job)
        is_marked = found["cancel_marked"] and found["state"] not in SETTLED
        why = _about(http, job, "/explain") if is_marked else None
    emit({"ok": True, "job": found}, as_json=as_json, text=job_text(found, why))


@app.command()
@understood()
def explain(job: JobId, bridge: BridgeOption = "", as_json: JsonFlag = False) -> None:
    """Why a job is where it is: what is awaited, and for each node why it runs the job or not."""
    with bridge_at(bridge) as http:
        found = _about(http, job, "/explain")
    emit({"ok": True, **found}, as_json=as_json, text=explanation_text(found))


@app.command("list")
@understood()
def list_jobs(
    bridge: BridgeOption = "",
    state: Annotated[str, typer.Option(help=f"Only jobs in this state: {', '.join(ALL_STATES)}.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """The bridge's jobs, newest first."""
    wanted = state.lower()
    if wanted and wanted not in ALL_STATES:
        raise InvalidInput("--state", f"is {state!r:.20}; it is one of {', '.join(ALL_STATES)}")
    with bridge_at(bridge) as http:
        found = {"jobs": [job for path in _lists(wanted, limit) for job in get_json(http, path)["jobs"]]}
    if wanted in CHAIN_STATES:
        found["jobs"] = [job for job in found["jobs"] if wanted in (job["chain_state"].lower(), job["state"])]
    found["jobs"] = sorted(found["jobs"], key=lambda job: (-job["block_number"], -job["request_id"]))[:limit]
    rows = [
        f"{job['request_id']:<6} {job['state']:<10} {job['chain_state']:<10} {job['request_hash']}"
        for job in found["jobs"]
    ]
    emit({"ok": True, **found}, as_json=as_json, text="\n".join(rows) or "no jobs")


def _lists(wanted: str, limit: int) -> list[str]:
    """The bridge's lists that hold the jobs of a state, its own or the chain's; of the latter, the newest 500."""
    if wanted not in CHAIN_STATES:
        return [f"/v1/jobs?limit={limit}" + (f"&state={wanted}" if wanted else "")]
    ours = CHAIN_STATES[wanted]
    return [f"/v1/jobs?limit=500&state={state}" for state in ours] if ours else ["/v1/jobs?limit=500"]


@app.command()
@understood()
def logs(
    job: JobId,
    bridge: BridgeOption = "",
    stream: Annotated[str, typer.Option(help="stdout or stderr.")] = "stdout",
    as_json: JsonFlag = False,
) -> None:
    """What a job printed, from its released output, verified by CID."""
    from executor.content import unixfs

    if stream not in ("stdout", "stderr"):
        raise InvalidInput("--stream", "is stdout or stderr")
    store = local_store()
    with bridge_at(bridge) as http:
        output = (_job(http, job).get("outcome") or {}).get("output_cid")
        if not output:
            raise fail("there is no released output (yet)", code=Exit.NOT_SO, as_json=as_json)
        root = Cid.parse(str(output))
        download(http, store, root, 600.0)
    data = b"".join(unixfs.read_file(store, unixfs.resolve(store, root, stream), 16 * 2**20))
    text = data.decode("utf-8", "replace")
    if as_json:
        emit({"ok": True, "stream": stream, "bytes": data, "text": text}, as_json=True)
        return
    typer.echo(data, nl=False)
    if not data and stream == "stdout":
        errors.print(f"stdout is empty; try: insula job logs {job} --stream stderr", markup=False)


app.command()(cancel)


@app.command()
def withdraw(
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    token: Annotated[str, typer.Option(help="An ERC-20; else the chain's own token.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Draw what the contract owes the key's account: refunds, a node's earnings, a relayer's fees."""
    from bridge.chain.contracts import withdraw_calldata
    from bridge.chain.operate import send_and_wait
    from bridge.chain.views import BridgeViews

    account, address = signer_of(key), contract_of(contract)
    asset = checksum_address(token, "--token") if token else ZERO_ADDRESS
    with chain_at(rpc) as client:
        owed = BridgeViews(client, address).credit_of(account.address, asset)
        if owed == 0:
            in_it = f" in the token {asset}" if token else ""
            raise fail(f"the contract owes {account.address} nothing{in_it}", code=Exit.NOT_SO, as_json=as_json)
        receipt = send_and_wait(client, account, address, withdraw_calldata(asset, account.address))
    drawn = {"token": asset, "amount": str(owed)} if token else {"amountInWei": str(owed)}
    found = {"account": account.address, **drawn, "transaction": receipt.tx_hash}
    text = f"{paid(owed, asset)} to {account.address} in transaction 0x{receipt.tx_hash.hex()}"
    emit({"ok": True, **found}, as_json=as_json, text=text)


app.command()(verify)
app.command()(export)
app.command()(replay)
app.command()(quote)


def _job(http: Http, job: str, *, missing_ok: bool = False) -> dict[str, Any]:
    try:
        return get_json(http, f"/v1/jobs/{reference(job)}")
    except PeerRefused as exc:
        if exc.status == 404 and missing_ok:
            return {}
        raise


def _about(http: Http, job: str, what: str) -> dict[str, Any]:
    return get_json(http, f"/v1/jobs/{reference(job)}{what}")
