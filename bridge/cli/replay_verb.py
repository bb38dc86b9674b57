"""`insula job replay`: the record is checked, the job is run again on this machine, and the two are compared."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.content_verbs import download
from bridge.cli.context import BridgeOption, ChainIdOption, ContractOption, bridge_at, contract_of
from bridge.cli.output import Exit, JsonFlag, emit, one_line
from bridge.cli.spec_verbs import read_limited
from bridge.cli.stores import LIMITS
from bridge.cli.verify_verb import FETCH_SECONDS, Anchors, fetch_bundle, only_typed, shown
from executor.content import unixfs
from executor.content.blocks import BlockSource, BlockStoreLike
from executor.content.blockstore import BlockStore
from executor.content.web import Http
from executor.errors import ContentError, InvalidInput
from executor.protocol.bundle import MAX_BUNDLE_BYTES, Bundle, parse_bundle
from executor.protocol.cid import Cid
from executor.protocol.reasons import Reason
from executor.protocol.receipt import manifest_of, parse_receipt
from executor.protocol.release import Changes
from executor.protocol.releaserecord import check_release
from executor.protocol.replay import Difference, Ending, differences, differences_in_part
from executor.protocol.spec import JobSpec, job_of
from executor.protocol.wire import Outcome, Status, checksum_address

if TYPE_CHECKING:
    from bridge.verify import Layered
    from bridge.verify_check import Check
    from executor.sandbox.types import Sandbox

#: verdict -> its exit code
EXITS = {
    "reproduced": Exit.OK,
    "differs": Exit.NOT_SO,
    "broken": Exit.NOT_SO,
    "nondeterministic": Exit.NONDETERMINISTIC,
    "unchecked": Exit.CONTENT_UNCHECKED,
    "withheld": Exit.NOT_COMPARABLE,
    "redacted": Exit.NOT_COMPARABLE,
}
UNANCHORED = (
    "nothing says that the record's keys are nodes': name --contract and --node-key, or insula job verify --rpc"
)


@dataclass(frozen=True)
class Finding:
    """What came of it. found: what differs, the first one first; `text`: the verdict in words."""

    verdict: str
    text: str
    found: Sequence[Difference] = ()
    more: dict[str, Any] = field(default_factory=dict)


def replay(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="ID", help="A request id or hash; may be left out with --bundle.")] = "",
    bundle_file: Annotated[
        Path | None, typer.Option("--bundle", help="Read the bundle from a file, and its blocks from FILE.car.")
    ] = None,
    content: Annotated[
        list[Path],
        typer.Option("--content", help="A CAR file, or a folder with a block store, beside $INSULA_HOME/content."),
    ] = [],  # noqa: B006 - typer reads it, nobody writes it
    bridge: BridgeOption = "",
    contract: ContractOption = "",
    chain_id: ChainIdOption = None,
    node_key: Annotated[list[str], typer.Option(help="A node's key that you trust; may be given several times.")] = [],  # noqa: B006
    accept_escape: Annotated[
        list[str],
        typer.Option(metavar="CVE", help="A known escape of the container runtime, to run in spite of; repeatable."),
    ] = [],  # noqa: B006
    as_json: JsonFlag = False,
) -> None:
    """Run a settled job again in a sandbox on this machine, and compare. What it writes is thrown away here."""
    from bridge.cli.contents import gather
    from executor.agent.replay import CannotRun, proved_sandbox

    given = read_limited(bundle_file, MAX_BUNDLE_BYTES, "--bundle") if bundle_file else None
    if given is not None:
        bridge = only_typed(context, "bridge", bridge)
    keys = [checksum_address(key, "--node-key") for key in node_key]
    address = contract_of(contract) if contract else ""

    def sandbox_of(tier: str) -> Sandbox:
        return proved_sandbox(tier, f"replay.{os.getpid()}", accept_escape)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="insula-replay-")))
        http = stack.enter_context(bridge_at(bridge)) if bridge or given is None else None
        bundle = parse_bundle(fetch_bundle(http, job) if http and given is None else given or b"")
        blocks, read = gather(content, bundle_file, BlockStore(folder / "content"))
        checks = [*read, *_checks(bundle, Anchors(job, chain_id, address, tuple(keys)), blocks, http)]
        bad = [check for check in checks if check.failed]
        absent = [check for check in checks if not check.checked and check.name.startswith("input ")]
        try:
            if bad:
                finding = _told(
                    "broken", "the record, or a file with its content, does not hold, so nothing was run: {}", bad
                )
            elif absent:
                finding = _told("unchecked", "nothing was run, for want of its content: {}", absent)
            else:
                finding = replayed(bundle, blocks, folder, sandbox_of)
        except CannotRun as exc:
            _tell(
                bundle,
                Finding("unavailable", f"cannot be run on this machine: {exc}"),
                Exit.ENGINE_MISSING,
                as_json=as_json,
                is_anchored=bool(address and keys),
            )
            return
    _tell(bundle, finding, EXITS[finding.verdict], as_json=as_json, is_anchored=bool(address and keys))


def replayed(bundle: Bundle, blocks: Layered, folder: Path, sandbox_of: Callable[[str], Sandbox]) -> Finding:
    """Run the job of a bundle that holds, once or twice, in `folder`. `executor.agent.replay.CannotRun`."""
    from executor.agent.replay import CannotRun, replaying

    request, outcome = bundle.request.request(), Outcome.decode(bundle.outcome)
    if outcome.status == Status.REFUSED:
        return Finding("reproduced", "refused here for the same reason; there is nothing to run", more={"runs": 0})
    job = job_of(request.order, bundle.spec)
    if job.network:
        raise CannotRun(Reason.POLICY, "it had a network, and what that answered is not on record")
    if job.secrets:
        raise CannotRun(Reason.POLICY, "it was given secrets, which only its node's operator has")
    sandbox = sandbox_of(job.engine.tier)
    store = BlockStore(folder / "replay")
    for cid in job.content:
        store.put_many(unixfs.blocks(blocks, cid))
    recorded = Ending(outcome, _recorded_rows(bundle, outcome, blocks))
    with replaying(folder, request, job, bundle.spec, store, sandbox) as runs:
        first = runs.run()
        about = {"tier": job.engine.tier, "runs": 1, "engine": _engines(bundle, first.runtime), "here": first.outcome}
        here = Ending(first.outcome, first.manifest)
        changes = _changes(bundle)
        found = differences(recorded, here) if changes is None else differences_in_part(recorded, here, changes)
        if not found:
            return _same(outcome, first.detail, about) if changes is None else _same_but(changes, recorded, about)
        second = runs.run()
    about["runs"] = 2
    if varies := differences(here, Ending(second.outcome, second.manifest)):
        text = f"nondeterministic: two runs here differ from each other, first at {varies[0].path}"
        return Finding("nondeterministic", text, varies, _plain(about, job))
    return Finding("differs", f"differs at {found[0].path}", found, _plain(about, job))


def _same(outcome: Outcome, detail: str, about: dict[str, Any]) -> Finding:
    more = {**about, "here": _words(about["here"])}
    if outcome.status != Status.WITHHELD:
        return Finding("reproduced", f"reproduced: {_words(outcome)}", more=more)
    text = (
        f"it runs to its end here ({_words(about['here'])}), as the record says; which output was withheld is not on "
        "record, so there is nothing to compare it with"
    )
    return Finding("withheld", text + (f": {detail}" if detail else ""), more=more)


def _changes(bundle: Bundle) -> Changes | None:
    """What reviewers took out of the output, as the first node's receipt tells it; None: it is whole."""
    item = bundle.attestations[0]
    request, outcome = bundle.request.request(), Outcome.decode(bundle.outcome)
    record = check_release(parse_receipt(item.receipt), item.key, request, outcome)
    return None if record is None or record.redacted is None else record.redacted.changes


def _same_but(changes: Changes, recorded: Ending, about: dict[str, Any]) -> Finding:
    """All that can be said of a part: nobody outside the node knows what the rest was. A release has rows on record."""
    files = [row["path"] for row in recorded.rows or () if row.get("type") == "file"]
    same = [path for path in files if path not in changes.replaced]
    gone = "; something was removed, and nothing is told of it" if changes.removed else ""
    replaced = f"; replaced by reviewers, so not compared: {', '.join(changes.replaced)}" if changes.replaced else ""
    text = (
        f"differs only where it was redacted: released in part, and {len(same)} of the record's {len(files)} files are "
        f"the same here{replaced}{gone}"
    )
    return Finding("redacted", text, more={**about, "here": _words(about["here"]), "redaction": changes.plain})


def _plain(about: dict[str, Any], job: JobSpec) -> dict[str, Any]:
    return {**about, "here": _words(about["here"]), "tier": job.engine.tier}


def _words(outcome: Outcome) -> str:
    return f"{Status(outcome.status).name}, reason {outcome.reason}, exit code {outcome.exit_code}"


def _checks(bundle: Bundle, anchors: Anchors, blocks: Layered, http: Http | None) -> list[Check]:
    """What `verify` checks offline, but for the output, which is made again."""
    from bridge.verify import check_anchors, check_bundle, check_inputs

    def fetch(cid: Cid, store: BlockStoreLike) -> None:
        if http:
            download(http, store, cid, FETCH_SECONDS)

    checks = [*check_anchors(bundle, **asdict(anchors)), *check_bundle(bundle)]
    if any(check.failed for check in checks):
        return checks
    return [*checks, *check_inputs(bundle, fetch, blocks)]


def _told(verdict: str, text: str, checks: Sequence[Check]) -> Finding:
    names = "; ".join(f"{check.name}: {check.detail}" for check in checks)
    return Finding(verdict, text.format(names), more={"checks": [shown(check) for check in checks]})


def _recorded_rows(bundle: Bundle, outcome: Outcome, blocks: BlockSource) -> Sequence[Any] | None:
    """The output's manifest: from the output where it is here, else as the first node's receipt has it."""
    if not outcome.output_cid:
        return None
    try:
        return unixfs.manifest(blocks, Cid.from_binary(outcome.output_cid), LIMITS).rows()
    except ContentError:
        pass  # not here, or not whole
    try:
        return manifest_of(parse_receipt(bundle.attestations[0].receipt))
    except InvalidInput:
        return None  # a node may leave it out of its receipt


def _receipt(bundle: Bundle) -> dict[str, Any]:
    predicate: dict[str, Any] = parse_receipt(bundle.attestations[0].receipt)["predicate"]
    return predicate


def _engines(bundle: Bundle, here: Any) -> dict[str, str]:
    """Which engine ran it there and here: where they are not the same, a difference may come from that."""
    there = _receipt(bundle)["buildDefinition"]["internalParameters"].get("runtime")
    return {
        name: f"{one.get('engine', '?')!s:.80} {one.get('version', '?')!s:.80}" if isinstance(one, Mapping) else "? ?"
        for name, one in (("there", there), ("here", here))
    }


def _tell(bundle: Bundle, finding: Finding, code: Exit, *, as_json: bool, is_anchored: bool = True) -> None:
    result = {
        "ok": code == Exit.OK,
        "verdict": finding.verdict,
        "path": finding.found[0].path if finding.found else None,
        "requestId": bundle.request.id,
        "requestHash": bundle.request_hash,
        "text": finding.text,
        "differences": [{"path": one.path, "before": one.before, "after": one.after} for one in finding.found],
        "anchored": is_anchored,
        **finding.more,
    }
    lines = [one_line(f"request {bundle.request.id}: {finding.text}")]
    lines += [one_line(f"  {one.path}: {one.before} -> {one.after}") for one in finding.found[:20]]
    if len(finding.found) > 20:
        lines.append(f"  and {len(finding.found) - 20} more: --json shows all")
    if "engine" in finding.more and finding.verdict != "reproduced":
        lines.append(one_line("  engine there {there}, here {here}".format(**finding.more["engine"])))
    if not is_anchored and finding.verdict != "broken":
        lines.append(f"  {UNANCHORED}")
    emit(result, as_json=as_json, text="\n".join(lines))
    if code != Exit.OK:
        raise typer.Exit(int(code))
