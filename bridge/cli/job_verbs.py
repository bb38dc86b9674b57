"""`insula job ...`: order jobs, follow them, understand them, check them."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from bridge.chain.client import ChainClient, Log, TxReceipt
from bridge.cli.content_verbs import download, local_store
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
)
from bridge.cli.output import Exit, JsonFlag, console, emit, errors, fail, printable
from bridge.cli.spec_verbs import read_limited
from bridge.errors import BridgeError, RpcUnavailable
from executor.content.web import Http
from executor.errors import InvalidInput, PeerRefused
from executor.protocol.bundle import MAX_BUNDLE_BYTES, Bundle
from executor.protocol.cid import Cid
from executor.protocol.labels import Label
from executor.protocol.spec import InvalidSpec, job_of
from executor.protocol.wire import (
    MAX_SPEC_BYTES,
    ZERO_ADDRESS,
    OnChainState,
    Order,
    ResultKind,
    checksum_address,
    label_hash,
)

app = typer.Typer(help="Jobs.", no_args_is_help=True)

POLL_SECONDS = 0.5
LOG_SECONDS = 60.0  # until a mined request's log must show
SETTLED = ("posted", "final", "expired", "cancelled")
KINDS = {
    "cid": ResultKind.CID,
    "stdout": ResultKind.STDOUT,
    "stderr": ResultKind.STDERR,
    "exit-code": ResultKind.EXIT_CODE,
}

JobId = Annotated[str, typer.Argument(metavar="ID", help="A request id, or a 0x request hash.")]


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(metavar="SPEC", help="The job spec, JSON in the format insula/v1.")],
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    bridge: BridgeOption = "",
    result: Annotated[str, typer.Option(help=f"What goes on-chain: {', '.join(KINDS)}.")] = "cid",
    ttl: Annotated[int, typer.Option(min=1, help="Seconds until the request can be refunded.")] = 3600,
    nodes: Annotated[int, typer.Option(min=1, max=16, help="How many nodes run it.")] = 1,
    quorum: Annotated[int, typer.Option(min=0, max=16, help="How many must agree; 0: more than half.")] = 0,
    curator: Annotated[str, typer.Option(envvar="INSULA_CURATOR", help="Whose word makes a label count.")] = "",
    trust_own_labels: Annotated[
        bool, typer.Option("--trust-own-labels", help="No curator: take each node's own word. Unsafe for money.")
    ] = False,
    label: Annotated[
        list[str], typer.Option(help="key=value that the contract enforces; the selector repeats it.")
    ] = [],  # noqa: B006
    unit_price: Annotated[int, typer.Option(min=0, help="wei for each node when the job succeeds.")] = 0,
    fail_price: Annotated[int, typer.Option(min=0, help="wei for each node when it ran and failed.")] = 0,
    delivery_fee: Annotated[int, typer.Option(min=0, help="wei for the relayer.")] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the job is settled.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 3600.0,
    as_json: JsonFlag = False,
) -> None:
    """Order a job from an account, and pay for it. The spec is checked here first, as nodes would."""
    if not curator and not trust_own_labels:
        raise InvalidInput("--curator", "is needed; or say --trust-own-labels, which is unsafe for money")
    if result not in KINDS:
        raise InvalidInput("--result", f"is {result!r:.20}; it is one of {', '.join(KINDS)}")
    order = Order(
        spec=read_limited(file, MAX_SPEC_BYTES, "SPEC"),
        result_kind=int(KINDS[result]),
        nodes=nodes,
        quorum=quorum or nodes // 2 + 1,
        ttl=ttl,
        curator=checksum_address(curator, "--curator") if curator else ZERO_ADDRESS,
        labels=tuple(sorted(label_hash(str(Label.parse(word))) for word in label)),
        unit_price=unit_price,
        fail_price=fail_price,
        delivery_fee=delivery_fee,
    )
    try:
        job_of(order, order.spec)
    except InvalidSpec as exc:
        raise InvalidInput(exc.field, f"{exc.problem} ({exc.reason.name}); nothing was ordered") from exc
    placed = _place(order, rpc, contract_of(contract), key)
    if wait:
        errors.print(f"request {placed['requestId']}, hash {placed['requestHash']}, in {placed['transaction']}")
        with bridge_at(bridge) as http:
            _finish(_wait(http, placed["requestHash"], timeout, as_json=as_json), as_json=as_json, extra=placed)
        return
    emit({"ok": True, **placed}, as_json=as_json)


def _place(order: Order, rpc: str, contract: str, key: str) -> dict[str, Any]:
    from bridge.chain.contracts import compute_bridge
    from bridge.chain.operate import request_job

    signer = signer_of(key)
    with chain_at(rpc) as client:
        receipt = request_job(client, signer, contract, order)
        topic = compute_bridge().event_topic("JobRequested")
        log = _log_of(client, contract, receipt, topic)
    return {
        "requestId": int.from_bytes(log.topics[1], "big"),
        "requestHash": f"0x{log.topics[2].hex()}",
        "transaction": f"0x{receipt.tx_hash.hex()}",
        "priceInWei": order.price,
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


def _wait(http: Http, job: str, timeout: float, *, as_json: bool) -> dict[str, Any]:
    end = time.monotonic() + timeout
    shown = ""
    while True:
        found = _job(http, job, missing_ok=True)
        if found and found["state"] in SETTLED:
            return found
        now = _standing(_about(http, job, "/explain")) if found else "not seen by the bridge yet"
        if now != shown and not as_json:
            console.print(printable(now), markup=False)
        shown = now
        if time.monotonic() > end:
            raise fail(f"not settled after {timeout:.0f} s: {now}", code=Exit.TIMEOUT, as_json=as_json)
        time.sleep(POLL_SECONDS)


def _finish(found: dict[str, Any], *, as_json: bool, extra: dict[str, Any]) -> None:
    succeeded = found["chain_state"] == OnChainState.FULFILLED.name
    emit({"ok": succeeded, **extra, "job": found}, as_json=as_json, text=_describe(found))
    if not succeeded:
        raise typer.Exit(int(Exit.NOT_SO))


@app.command()
def status(job: JobId, bridge: BridgeOption = "", as_json: JsonFlag = False) -> None:
    """Where a job stands."""
    with bridge_at(bridge) as http:
        found = _job(http, job)
    emit({"ok": True, "job": found}, as_json=as_json, text=_describe(found))


@app.command()
def explain(job: JobId, bridge: BridgeOption = "", as_json: JsonFlag = False) -> None:
    """Why a job is where it is: what is awaited, and for each node why it runs the job or not."""
    with bridge_at(bridge) as http:
        found = _about(http, job, "/explain")
    lines = [_standing(found)]
    lines += [f"node {node['node_id']:<4} {node['code']:<18} {node['text']}" for node in found["nodes"]]
    emit({"ok": True, **found}, as_json=as_json, text="\n".join(lines))


@app.command("list")
def list_jobs(
    bridge: BridgeOption = "",
    state: Annotated[str, typer.Option(help="Only jobs in this state.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """The bridge's jobs, newest first."""
    with bridge_at(bridge) as http:
        found = get_json(http, f"/v1/jobs?limit={limit}" + (f"&state={quote(state.lower(), safe='')}" if state else ""))
    lines = [
        f"{job['request_id']:<6} {job['state']:<10} {job['chain_state']:<10} {job['request_hash']}"
        for job in found["jobs"]
    ]
    emit({"ok": True, **found}, as_json=as_json, text="\n".join(lines) or "no jobs")


@app.command()
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
    else:
        typer.echo(data, nl=False)


@app.command()
def cancel(
    job: JobId,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    bridge: BridgeOption = "",
    draw: Annotated[bool, typer.Option("--draw", help="Draw the refund of a request that was marked before.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Mark a request of yours for cancellation; a result still wins until the refund is drawn with --draw."""
    from bridge.chain.contracts import cancel_calldata, draw_cancelled_calldata
    from bridge.chain.operate import send_and_wait
    from bridge.chain.views import BridgeViews

    address = contract_of(contract)
    with bridge_at(bridge) as http:
        found = _job(http, job)
    order = Order.decode(bytes.fromhex(found["order"][2:]))
    make = draw_cancelled_calldata if draw else cancel_calldata
    with chain_at(rpc) as client:
        receipt = send_and_wait(client, signer_of(key), address, make(found["request_id"], order))
        delay = BridgeViews(client, address).bounds().cancel_delay
    told = "refunded" if draw else f"marked; after {delay} s: insula job cancel {job} --draw"
    emit({"ok": True, "transaction": receipt.tx_hash, "next": told}, as_json=as_json)


@app.command()
def withdraw(
    rpc: RpcOption = "", contract: ContractOption = "", key: KeyOption = "", as_json: JsonFlag = False
) -> None:
    """Draw what the contract owes the key's account: refunds, a node's earnings, a relayer's fees."""
    from bridge.chain.contracts import withdraw_calldata
    from bridge.chain.operate import send_and_wait
    from bridge.chain.views import BridgeViews

    account, address = signer_of(key), contract_of(contract)
    with chain_at(rpc) as client:
        amount = BridgeViews(client, address).credit_of(account.address)
        if amount == 0:
            raise fail(f"the contract owes {account.address} nothing", code=Exit.NOT_SO, as_json=as_json)
        receipt = send_and_wait(client, account, address, withdraw_calldata(ZERO_ADDRESS, account.address))
    found = {"account": account.address, "amountInWei": str(amount), "transaction": receipt.tx_hash}
    emit({"ok": True, **found}, as_json=as_json)


@app.command()
def verify(
    job: Annotated[str, typer.Argument(metavar="ID", help="A request id or hash; empty with --bundle.")] = "",
    bundle_file: Annotated[Path | None, typer.Option("--bundle", help="Read the bundle from a file.")] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the bundle to a file.")] = None,
    bridge: BridgeOption = "",
    rpc: RpcOption = "",
    contract: ContractOption = "",
    node_key: Annotated[list[str], typer.Option(help="A node's key that you trust; may be given several times.")] = [],  # noqa: B006
    as_json: JsonFlag = False,
) -> None:
    """Check a settled job from the chain's event to the output's bytes. What only the chain can say needs --rpc."""
    import tempfile

    from bridge.verify import Check, check_anchors, check_bundle, check_content
    from bridge.verify_chain import check_chain
    from executor.content.blockstore import BlockStore

    given = read_limited(bundle_file, MAX_BUNDLE_BYTES, "--bundle") if bundle_file else b""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        http = stack.enter_context(bridge_at(bridge))
        client = stack.enter_context(chain_at(rpc)) if rpc else None
        get_json(http, "/healthz")  # who does not answer at all has not been found wrong
        if client:
            client.chain_id()
        raw = given or _bundle(http, job)
        bundle = parse_bundle(raw)
        if save:
            save.write_bytes(raw)
        keys = [checksum_address(key, "--node-key") for key in node_key]
        named = contract_of(contract) if contract else ""
        checks: list[Check] = [*check_anchors(bundle, asked=job, contract=named, keys=keys), *check_bundle(bundle)]
        if not any(check.name == "bundle" for check in checks):
            fetched = BlockStore(Path(folder))
            checks += check_content(bundle, lambda cid, store: download(http, store, cid, 600.0), fetched)
            if client:
                checks += check_chain(bundle, client, contract_of(contract))
    failed = [check for check in checks if not check.ok]
    result = {
        "ok": not failed,
        "chainChecked": bool(rpc),
        "requestId": bundle.request.id,
        "requestHash": bundle.request_hash,
        "checks": [{"name": c.name, "ok": c.ok, "basis": c.basis.value, "detail": c.detail} for c in checks],
    }
    lines = [f"{'ok  ' if c.ok else 'FAIL'} {c.basis.value:<8} {c.name}: {c.detail}" for c in checks]
    verdict = "does NOT hold" if failed else "holds" if rpc else offline_verdict(named, keys)
    emit(result, as_json=as_json, text="\n".join([*lines, f"request {bundle.request.id} {verdict}"]))
    if failed:
        raise typer.Exit(int(Exit.NOT_SO))
    if not rpc:
        raise typer.Exit(int(Exit.CHAIN_UNCHECKED))


def offline_verdict(contract: str, keys: list[str]) -> str:
    """What an offline verification amounts to, with the anchors that were named."""
    if contract and keys:
        return "holds offline for the contract and keys that you named; the chain was not asked (--rpc)"
    return "holds in itself, but nothing says that its keys are nodes': name --contract and --node-key, or ask --rpc"


def parse_bundle(raw: bytes) -> Bundle:
    """The bundle in these bytes. InvalidInput that names the field."""
    from pydantic import ValidationError

    try:
        return Bundle.model_validate_json(raw)
    except ValidationError as exc:
        first = exc.errors()[0]
        raise InvalidInput("bundle: " + ".".join(str(part) for part in first["loc"]), first["msg"]) from exc


def _bundle(http: Http, job: str) -> bytes:
    return http.call("GET", f"/v1/jobs/{_reference(job)}/bundle", max_bytes=MAX_BUNDLE_BYTES).body


def _job(http: Http, job: str, *, missing_ok: bool = False) -> dict[str, Any]:
    try:
        return get_json(http, f"/v1/jobs/{_reference(job)}")
    except PeerRefused as exc:
        if exc.status == 404 and missing_ok:
            return {}
        raise


def _standing(explanation: dict[str, Any]) -> str:
    """Where a job stands and why, in a line."""
    why = explanation["detail"] or ("" if explanation["reason"] == "NONE" else explanation["reason"])
    parts = [explanation["state"], why, explanation["awaiting"] if explanation["state"] not in SETTLED else ""]
    return ": ".join(part for part in parts if part)


def _about(http: Http, job: str, what: str) -> dict[str, Any]:
    return get_json(http, f"/v1/jobs/{_reference(job)}{what}")


def _reference(job: str) -> str:
    text = job.lower()
    if text.isascii() and (text.isdecimal() or (text.startswith("0x") and len(text) == 66 and text[2:].isalnum())):
        return text
    raise InvalidInput("ID", f"{job!r:.80} is neither a request id nor a 0x request hash")


def _describe(found: dict[str, Any]) -> str:
    return "\n".join(
        f"{key:<22} {json.dumps(value)}"
        for key, value in found.items()
        if value not in (None, "", []) and key != "order"
    )
