"""`insula node log` and `verify-log`: what a node's log says, and whether it is still what was anchored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.output import Exit, JsonFlag, emit, one_line
from bridge.cli.spec_verbs import read_limited
from bridge.cli.texts import moment
from bridge.cli.verify_verb import line_of, shown
from executor.errors import InvalidInput
from executor.protocol.bundle import MAX_BUNDLE_BYTES, parse_bundle
from executor.protocol.canonical import strict_json
from executor.protocol.checkpoint import MAX_LOG_FILE_BYTES, MAX_PROOFS, Checkpoint, LogFile, Since
from executor.protocol.merkle import consistency_proof, leaf_hash, root_of
from executor.protocol.wire import checksum_address

LAST = 20


def log(
    folder: Annotated[Path, typer.Option("--dir", help="The node's work folder.")],
    since: Annotated[
        list[int], typer.Option("--since", min=1, help="Prove that it grew out of so many entries; several times.")
    ] = [],  # noqa: B006 - typer reads it, nobody writes it
    save: Annotated[Path | None, typer.Option("--save", help="Write checkpoint and proofs, for verify-log.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """A node's log: its signed checkpoint, whether it fits what was signed, and executions without an end."""
    from executor.agent.config import NodeConfig
    from executor.ledger import Ledger, is_locked

    key = NodeConfig.load(folder).load_key(folder)
    ledger = Ledger.open(folder / "ledger.db", key.address)
    try:
        problem = ledger.check_log()
        leaves = [leaf_hash(entry) for entry in ledger.log_entries()]
        last, unended = ledger.last_entries(LAST), ledger.open_intents()
    finally:
        ledger.close()
    # of a log that does not fit what was signed, the key must not sign another root
    file = None if problem else _file(Checkpoint(key.address, len(leaves), root_of(leaves)), leaves, since, key)
    if save and file:
        save.write_text(file.model_dump_json(), encoding="utf-8")
    runs = is_locked(folder)
    entries = [{"position": one.position, "entry": one.entry, **_said(one.body)} for one in last]
    open_ones: list[dict[str, Any]] = [
        {"execution_id": i.execution_id, "request_id": i.request_id, "state": i.state, "at": i.changed_at}
        for i in unended
    ]
    result = {
        "ok": not problem,
        "checkpoint": file.checkpoint if file else None,
        "size": len(leaves),
        "problem": problem,
        "node_runs": runs,
        "unended": open_ones,
        "entries": entries,
    }
    lines = [file.checkpoint] if file else ["no checkpoint is signed, and nothing saved: the log does not fit"]
    lines += [f"{len(leaves)} entries; {problem or 'they fit everything that was signed'}"]
    word = "runs" if runs else "CUT SHORT (the next start of the node closes it)"
    lines += [f"{one['state']:<12} {one['execution_id']}  {word} since {moment(one['at'])}" for one in open_ones]
    lines += [f"{one['position'] + 1:>8}  {one['kind']:<8} {one.get('text', '')}" for one in entries]
    emit(result, as_json=as_json, text="\n".join(lines))
    if problem:
        raise typer.Exit(int(Exit.NOT_SO))


def verify_log(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `insula node log --save` wrote.")],
    bundle: Annotated[
        list[Path], typer.Option("--bundle", help="A bundle with an attestation of the node; several times.")
    ] = [],  # noqa: B006
    older: Annotated[
        list[Path], typer.Option("--older", help="A log file that was kept from earlier; several times.")
    ] = [],  # noqa: B006
    node_key: Annotated[str, typer.Option(help="The node's key, which must be the log's.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Check that a node's log only grew: against anchors in bundles, and checkpoints that you kept. Asks nobody."""
    from bridge.verify_log import check_log

    key = checksum_address(node_key, "--node-key") if node_key else ""
    now = LogFile.parse(read_limited(file, MAX_LOG_FILE_BYTES, "FILE"), "FILE")
    bundles = [parse_bundle(read_limited(path, MAX_BUNDLE_BYTES, "--bundle")) for path in bundle]
    kept = [LogFile.parse(read_limited(path, MAX_LOG_FILE_BYTES, "--older"), "--older") for path in older]
    checks = [*check_log(now, key, bundles, kept)]
    failed, is_open = any(c.failed for c in checks), any(not c.checked for c in checks)
    said = "does NOT hold" if failed else "could not be checked in full" if is_open else "holds"
    lines = [line_of(check) for check in checks]
    result = {"ok": not failed and not is_open, "checks": [shown(check) for check in checks]}
    emit(result, as_json=as_json, text="\n".join([*lines, f"the log {said}"]))
    if failed or is_open:
        raise typer.Exit(int(Exit.NOT_SO if failed else Exit.CONTENT_UNCHECKED))


def _file(now: Checkpoint, leaves: list[bytes], since: list[int], key: Any) -> LogFile:
    sizes = sorted(set(since))
    if sizes and sizes[-1] > now.size:
        raise InvalidInput("--since", f"is {sizes[-1]}; the log has {now.size} entries")
    if len(sizes) > MAX_PROOFS:
        raise InvalidInput("--since", f"at most {MAX_PROOFS} in one file")
    proofs = [Since(size=n, root=root_of(leaves[:n]), proof=tuple(consistency_proof(leaves, n))) for n in sizes]
    return LogFile(checkpoint=now.note(key), since=tuple(proofs))


def _said(body: str | None) -> dict[str, Any]:
    if body is None:
        return {"kind": "receipt"}
    try:
        said = strict_json(body)
        kind = str(said["type"]).split(":")[3]
        return {"kind": kind, "body": said, "text": one_line(f"{said['executionId']} {said.get('state', '')}".rstrip())}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {"kind": "damaged", "body": body, "text": "its body is not as it was written"}
