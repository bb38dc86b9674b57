"""`insula job verify`: what is to be checked, where its content may come from, and what the answer amounts to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.content_verbs import download
from bridge.cli.context import (
    BridgeOption,
    ChainIdOption,
    ContractOption,
    RpcOption,
    bridge_at,
    chain_at,
    contract_of,
    get_json,
)
from bridge.cli.output import Exit, JsonFlag, emit, one_line
from bridge.cli.reference import reference
from bridge.cli.spec_verbs import read_limited
from executor.content.blocks import BlockStoreLike
from executor.content.blockstore import BlockStore
from executor.content.web import Http
from executor.protocol.bundle import MAX_BUNDLE_BYTES, Bundle, parse_bundle
from executor.protocol.cid import Cid
from executor.protocol.wire import checksum_address

if TYPE_CHECKING:
    from bridge.chain.client import ChainClient
    from bridge.verify import Layered
    from bridge.verify_check import Check

FETCH_SECONDS = 600.0


@dataclass(frozen=True)
class Anchors:
    """What the verifier named himself: a request, a chain, a contract, node keys. Empty or None: not named."""

    asked: str
    chain_id: int | None
    contract: str
    keys: tuple[str, ...]


def verify(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="ID", help="A request id or hash; may be left out with --bundle.")] = "",
    bundle_file: Annotated[
        Path | None,
        typer.Option(
            "--bundle", help="Read the bundle from a file. No bridge and no chain is asked unless its option is given."
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the bundle to a file.")] = None,
    content: Annotated[
        list[Path],
        typer.Option("--content", help="A CAR file, or a folder with a block store, beside $INSULA_HOME/content."),
    ] = [],  # noqa: B006 - typer reads it, nobody writes it
    bridge: BridgeOption = "",
    rpc: RpcOption = "",
    contract: ContractOption = "",
    chain_id: ChainIdOption = None,
    node_key: Annotated[list[str], typer.Option(help="A node's key that you trust; may be given several times.")] = [],  # noqa: B006
    as_json: JsonFlag = False,
) -> None:
    """Check a settled job from the chain's event to the output's bytes. What only the chain can say needs --rpc."""
    import tempfile

    given = read_limited(bundle_file, MAX_BUNDLE_BYTES, "--bundle") if bundle_file else None
    if given is not None:  # offline means offline: what happens to stand in the environment is not asked
        bridge, rpc = (only_typed(context, name, value) for name, value in (("bridge", bridge), ("rpc", rpc)))
    keys = tuple(checksum_address(key, "--node-key") for key in node_key)
    anchors = Anchors(job, chain_id, contract_of(contract) if contract else "", keys)
    with ExitStack() as stack:
        from bridge.cli.contents import gather

        scratch = BlockStore(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        blocks, read = gather(content, bundle_file, scratch)
        http = stack.enter_context(bridge_at(bridge)) if bridge or given is None else None
        client = stack.enter_context(chain_at(rpc)) if rpc else None
        if http:
            get_json(http, "/healthz")  # who does not answer at all has not been found wrong
        if client:
            client.chain_id()
            contract_of(contract)
        raw = fetch_bundle(http, job) if http and given is None else given or b""
        bundle = parse_bundle(raw)
        if save:
            save.write_bytes(raw)
        checks = [*read, *look(bundle, anchors, blocks, http, client)]
    _tell(bundle, anchors, checks, with_chain=bool(rpc), as_json=as_json)


def look(
    bundle: Bundle, anchors: Anchors, blocks: Layered, http: Http | None, client: ChainClient | None
) -> list[Check]:
    """Every check that can be made: without `http` nothing is fetched, without `client` the chain is not asked."""
    from bridge.verify import check_anchors, check_bundle, check_content
    from bridge.verify_chain import check_chain

    checks = [*check_anchors(bundle, **asdict(anchors))]
    checks += check_bundle(bundle)
    if any(check.name == "bundle" for check in checks):
        return checks

    def fetch(cid: Cid, store: BlockStoreLike) -> None:
        if http:
            download(http, store, cid, FETCH_SECONDS)

    checks += check_content(bundle, fetch, blocks)
    if client:
        checks += check_chain(bundle, client, anchors.contract)
    return checks


def _tell(bundle: Bundle, anchors: Anchors, checks: Sequence[Check], *, with_chain: bool, as_json: bool) -> None:
    failed = any(check.failed for check in checks)
    unchecked = [check for check in checks if not check.checked]
    result = {
        "ok": all(check.ok for check in checks),
        "offline": _worst(c for c in checks if not _asked(c)),
        "chain": _worst(c for c in checks if _asked(c)) if with_chain else "unasked",
        "chainChecked": with_chain,
        "contentChecked": all(check.checked or _asked(check) for check in checks),
        "requestId": bundle.request.id,
        "requestHash": bundle.request_hash,
        "checks": [shown(check) for check in checks],
    }
    lines = ["proved offline:", *(line_of(check) for check in checks if not _asked(check))]
    lines += ["said by the chain:"] if with_chain else ["said by the chain: nothing, it was not asked (--rpc)"]
    lines += [line_of(check) for check in checks if _asked(check)]
    is_silent = with_chain and all(_asked(check) for check in unchecked)
    if failed:
        said = "does NOT hold"
    elif unchecked:
        said = f"could not be checked in full: {', '.join(one_line(check.name) for check in unchecked)}"
    else:
        said = "holds" if with_chain else offline_verdict(anchors)
    if not failed and any(check.name.startswith(("input ", "output")) for check in unchecked):
        lines += [
            "",
            "Content that is not public is only where its owner put it. If you have it, run",
            "    insula content add PATH --local",
            "and verify again; or name a folder or a CAR file with its blocks: --content FOLDER.",
        ]
    emit(result, as_json=as_json, text="\n".join([*lines, f"request {bundle.request.id} {said}"]))
    if failed:
        raise typer.Exit(int(Exit.NOT_SO))
    if unchecked and not is_silent:
        raise typer.Exit(int(Exit.CONTENT_UNCHECKED))
    if unchecked or not with_chain:
        raise typer.Exit(int(Exit.CHAIN_UNCHECKED))


def line_of(check: Check) -> str:
    """A check as a line of text."""
    word = {"holds": "ok  ", "fails": "FAIL", "unchecked": "open"}[_verdict(check)]
    return one_line(f"{word} {check.basis.value:<8} {check.name}: {check.detail}")


def shown(check: Check) -> dict[str, Any]:
    """A check as JSON."""
    return {
        "name": check.name,
        "ok": check.ok,
        "verdict": _verdict(check),
        "basis": check.basis.value,
        "detail": check.detail,
    }


def _asked(check: Check) -> bool:
    return check.basis.value == "chain"


def _worst(checks: Iterable[Check]) -> str:
    verdicts = {_verdict(check) for check in checks}
    return next((word for word in ("fails", "unchecked") if word in verdicts), "holds")


def _verdict(check: Check) -> str:
    return "holds" if check.ok else "fails" if check.checked else "unchecked"


def offline_verdict(anchors: Anchors) -> str:
    """What an offline verification amounts to, with the anchors that were named."""
    if anchors.contract and anchors.keys:
        chain = "contract and keys" if anchors.chain_id is None else "chain, contract and keys"
        return f"holds offline for the {chain} that you named; the chain was not asked (--rpc)"
    return "holds in itself, but nothing says that its keys are nodes': name --contract and --node-key, or ask --rpc"


def only_typed(context: typer.Context, name: str, value: str) -> str:
    """`value` if it was given on the command line, else nothing."""
    source = context.get_parameter_source(name)
    return value if source is not None and source.name == "COMMANDLINE" else ""


def fetch_bundle(http: Http, job: str) -> bytes:
    """The bundle of a job, as its bridge gives it."""
    return http.call("GET", f"/v1/jobs/{reference(job)}/bundle", max_bytes=MAX_BUNDLE_BYTES).body
