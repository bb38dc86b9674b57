"""Writing a Process Run Crate: the metadata, and beside it what it describes."""

from __future__ import annotations

import json
from pathlib import Path

from bridge.cli.beside import folder_beside, put_in_place
from bridge.cli.stores import LIMITS
from bridge.rocrate import BUNDLE, METADATA, OUTPUT, SPEC, ResultFile, envelope_name, process_crate
from executor.content import unixfs
from executor.content.blocks import BlockSource
from executor.errors import ContentError, InvalidInput
from executor.protocol.bundle import Bundle
from executor.protocol.cid import Cid
from executor.protocol.dsse import envelope
from executor.protocol.spec import InvalidSpec, job_of
from executor.protocol.wire import Outcome


def write_crate(folder: Path, bundle: Bundle, source: BlockSource) -> Path:
    """Make the folder, whole or not at all. InvalidInput where the output is not here, or nothing ran."""
    output = Outcome.decode(bundle.outcome).output_cid
    root = Cid.from_binary(output) if output else None
    files = _files(source, root) if root else []
    crate = process_crate(bundle, files, _directories(bundle, source))
    with folder_beside(folder) as partial:
        made = partial / "crate"
        made.mkdir(mode=0o755)
        if root:
            unixfs.export_tree(source, root, made / OUTPUT, LIMITS)
        (made / BUNDLE).write_text(bundle.model_dump_json(), encoding="utf-8")
        (made / SPEC).write_bytes(bundle.spec)
        for item in bundle.attestations:
            if item.dsse_signature is not None:
                path = made / envelope_name(item)
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(envelope(item.receipt, item.key, item.dsse_signature)), encoding="utf-8")
        (made / METADATA).write_text(json.dumps(crate, indent=1, ensure_ascii=False), encoding="utf-8")
        put_in_place(made, folder, "--ro-crate")
    return folder


def _files(source: BlockSource, root: Cid) -> list[ResultFile]:
    try:
        found = unixfs.manifest(source, root, LIMITS)
        unixfs.stored_size(source, root)  # reads every block: the crate has all of it, or is not made
    except ContentError as exc:
        raise InvalidInput("--ro-crate", f"the output's files are not to be had: {exc}") from exc
    return [ResultFile(one.path, one.size, str(one.cid)) for one in found.entries if one.kind == "file"]


def _directories(bundle: Bundle, source: BlockSource) -> frozenset[Cid]:
    found = set()
    try:
        job = job_of(bundle.request.request().order, bundle.spec)
    except InvalidSpec:
        return frozenset()
    for item in job.inputs:
        try:
            if unixfs.stat(source, item.cid).kind == "directory":
                found.add(item.cid)
        except ContentError:
            continue  # not here: it is called a file
    return frozenset(found)
