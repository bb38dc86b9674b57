"""`insula job export`: one settled job as files that say everything about it: bundle, blocks, envelopes, RO-Crate."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.beside import check_free
from bridge.cli.content_verbs import download
from bridge.cli.context import BridgeOption, bridge_at
from bridge.cli.output import Exit, JsonFlag, emit
from bridge.cli.spec_verbs import read_limited
from bridge.cli.verify_verb import FETCH_SECONDS, fetch_bundle
from executor.content.blockstore import BlockStore
from executor.content.web import Http
from executor.errors import ContentError, InvalidInput, PeerError
from executor.protocol.bundle import MAX_BUNDLE_BYTES, Bundle, parse_bundle
from executor.protocol.cid import Cid
from executor.protocol.dsse import envelope
from executor.protocol.spec import InvalidSpec, job_of
from executor.protocol.wire import Outcome


def export(
    job: Annotated[str, typer.Argument(metavar="ID", help="A request id or hash; may be left out with --bundle.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Write the bundle to this file.")] = None,
    content: Annotated[
        bool, typer.Option("--content", help="With --out: the blocks of output, program and inputs, as FILE.car.")
    ] = False,
    dsse: Annotated[
        Path | None, typer.Option("--dsse", help="Write each node's receipt as a DSSE envelope into this folder.")
    ] = None,
    ro_crate: Annotated[
        Path | None, typer.Option("--ro-crate", help="Make this folder: a Process Run Crate with the output's files.")
    ] = None,
    bundle_file: Annotated[Path | None, typer.Option("--bundle", help="Take the bundle from a file.")] = None,
    bridge: BridgeOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Write a settled job to files that can be verified and replayed without its bridge."""
    from bridge.cli.contents import car_beside, gather, write_blocks

    _check_asked(out, dsse, ro_crate, content=content)
    given = read_limited(bundle_file, MAX_BUNDLE_BYTES, "--bundle") if bundle_file else None
    left_out: list[Cid] = []
    written: list[Path] = []
    with ExitStack() as stack:
        http = stack.enter_context(bridge_at(bridge)) if bridge or given is None else None
        raw = fetch_bundle(http, job) if http and given is None else given or b""
        bundle = parse_bundle(raw)
        _check_asked_for(bundle, job)
        if out:
            out.write_bytes(raw)  # also of a record that does not hold: it is the evidence
            written.append(out)
        if dsse or ro_crate:
            _check_holds(bundle)
        if dsse:
            written += _write_envelopes(dsse, bundle)
        if content or ro_crate:
            scratch = BlockStore(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            source, _ = gather([], bundle_file, scratch)
            roots = content_of(bundle)
            for root in roots:
                _bring(http, source, root)
            if out and content:
                left_out = write_blocks(car_beside(out), source, roots)
                written.append(car_beside(out))
            if ro_crate:
                from bridge.cli.crate import write_crate

                written.append(write_crate(ro_crate, bundle, source))
    _tell(bundle, written, left_out, as_json=as_json)


def content_of(bundle: Bundle) -> list[Cid]:
    """Output, program and inputs of a bundle, each once. InvalidInput where it does not decode."""
    request, outcome = bundle.request.request(), Outcome.decode(bundle.outcome)
    found = [Cid.from_binary(outcome.output_cid)] if outcome.output_cid else []
    with suppress(InvalidSpec):  # refused: it names nothing
        found += job_of(request.order, bundle.spec).content
    return list(dict.fromkeys(found))


def _check_asked(out: Path | None, dsse: Path | None, ro_crate: Path | None, *, content: bool) -> None:
    if not (out or dsse or ro_crate):
        raise InvalidInput("--out", "is needed, or --dsse or --ro-crate: say what is to be written, and where")
    if content and not out:
        raise InvalidInput("--content", "goes beside the bundle: give --out FILE, too")
    if ro_crate:
        check_free(ro_crate, "--ro-crate")


def _check_asked_for(bundle: Bundle, asked: str) -> None:
    from bridge.verify import check_anchors

    for check in check_anchors(bundle, asked=asked, contract="", keys=()):
        if check.failed:
            raise InvalidInput("ID", f"is not what this is a bundle of: {check.detail}")


def _check_holds(bundle: Bundle) -> None:
    """Who reads an envelope or a crate does not verify the bundle first, so it is done here."""
    from bridge.verify import check_bundle

    if wrong := [f"{check.name}: {check.detail}" for check in check_bundle(bundle) if check.failed]:
        raise InvalidInput("bundle", f"does not hold, so no envelope and no crate is made of it: {'; '.join(wrong)}")


def _bring(http: Http | None, source: Any, root: Cid) -> None:
    """What the bridge's gateway shows of it; what is missing then is told at the end."""
    if http is None:
        return
    try:
        download(http, source, root, FETCH_SECONDS)
    except (PeerError, ContentError):
        return


def _write_envelopes(folder: Path, bundle: Bundle) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for item in bundle.attestations:
        if item.dsse_signature is None:
            continue
        path = folder / f"request-{bundle.request.id}-node-{item.node_id}.dsse.json"
        path.write_text(json.dumps(envelope(item.receipt, item.key, item.dsse_signature)), encoding="utf-8")
        written.append(path)
    return written


def _tell(bundle: Bundle, written: list[Path], left_out: list[Cid], *, as_json: bool) -> None:
    result = {
        "ok": not left_out,
        "requestId": bundle.request.id,
        "requestHash": bundle.request_hash,
        "written": [str(path) for path in written],
        "leftOut": [str(cid) for cid in left_out],
    }
    lines = [f"wrote {path}" for path in written]
    lines += [f"left out {cid}: it is not public, and not in $INSULA_HOME/content" for cid in left_out]
    emit(result, as_json=as_json, text="\n".join(lines))
    if left_out:
        raise typer.Exit(int(Exit.CONTENT_UNCHECKED))
