"""`insula content stat|ls|pin|unpin`: what is in a block store, and what of it stays."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from bridge.cli.output import Exit, JsonFlag, emit, fail, one_line
from bridge.cli.progress import progress
from bridge.cli.providers import find_providers
from bridge.cli.stores import (
    PIN_PREFIX,
    ContentArgument,
    PinSecondsOption,
    StoreOption,
    found_at,
    named,
    pin_for,
    pin_label,
    store_at,
)
from executor.content import unixfs
from executor.content.arrival import ARRIVING
from executor.content.blockstore import BlockStore
from executor.content.roots import Root, RootSet
from executor.content.survey import Survey, survey
from executor.errors import BlockMismatch, BlockMissing, InvalidInput, MalformedBlock
from executor.protocol.cid import RAW, Cid

MAX_LISTED = 100_000
DEFAULT_LISTED = 1000


def stat(
    content: ContentArgument,
    verify: Annotated[bool, typer.Option("--verify", help="Read and hash every block.")] = False,
    kubo: Annotated[
        str, typer.Option("--kubo", help="Have this Kubo look for providers: the http address of its RPC API.")
    ] = "",
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What something is, how large, whether all of it is here and what keeps it.

    With --kubo also how many peers are said to have the CID, whether or not it is here. Exit code 1 where a block is
    missing.
    """
    blocks = store_at(store)
    root = named(content)[0]
    providers = find_providers(kubo, root) if kubo else None
    try:
        cid = found_at(blocks, content)
        about = unixfs.stat(blocks, cid)
    except BlockMissing as exc:
        if providers is None:
            raise
        result = {"ok": False, "cid": str(root), "complete": False, "error": str(exc), "providers": providers.row}
        emit(result, as_json=as_json, text=f"{root}\nstate    {exc}\nnetwork  {providers.text}")
        raise typer.Exit(int(Exit.NOT_SO)) from exc
    with progress("looking", None, as_json=as_json) as advance:
        found = survey(blocks, cid, verify=verify, watch=advance)
    result, kept = _looked_at(blocks, cid, root, found, verify=verify)
    result |= {"kind": about.kind, "size": about.size if about.kind == "file" else None}
    result |= {"providers": providers.row} if providers else {}
    network = [f"network  {providers.text}"] if providers else []
    emit(result, as_json=as_json, text="\n".join([*_stat_lines(result, found, kept), *network]))
    if not found.whole:
        raise typer.Exit(int(Exit.NOT_SO))


def _looked_at(
    blocks: BlockStore, cid: Cid, root: Cid, found: Survey, *, verify: bool
) -> tuple[dict[str, Any], list[Root]]:
    """What is told of something that is here, apart from its kind; and what keeps it, or the root that named it."""
    roots, now = RootSet(blocks), time.time()
    kept = [known for known in roots.live(now) if known.cid in {cid, root}]
    result: dict[str, Any] = {
        "ok": found.whole,
        "cid": str(cid),
        "blocks": found.blocks,
        "bytes": found.bytes,
        "complete": found.whole,
        "verified": verify and found.whole,
        "missing": len(found.absent),
        "damaged": len(found.damaged),
        "malformed": len(found.malformed),
        "public": roots.is_public(cid, now),
        "publicUntil": _finite(roots.public_until(cid, now)),
        "pins": [_row(known) for known in kept],
        "store": room_of(blocks),
    }
    return result, kept


def _stat_lines(result: dict[str, Any], found: Survey, kept: list[Root]) -> list[str]:
    size = f", {result['size']} bytes" if result["size"] is not None else ""
    state = "all here, every block hashed" if result["verified"] else "all here, not hashed (--verify does)"
    if not found.whole:
        first = found.absent[0] if found.absent else found.malformed[0][0]
        state = (
            f"NOT all here: {result['missing']} blocks missing, {result['damaged']} of them damaged,"
            f" {result['malformed']} unreadable, the first is {first}"
        )
    lines = [
        result["cid"],
        f"what     {result['kind']}{size}",
        f"here     {found.blocks} blocks, {found.bytes} bytes",
        f"state    {state}",
        f"public   {'yes' if result['public'] else 'no'}",
        *[f"pinned   {_label(root)}, {_until(root)}{', public' if root.public else ''}" for root in kept],
    ]
    lines += [] if kept else ["pinned   no"]
    return [*lines, *_room_lines(result["store"])]


def room_of(store: BlockStore) -> dict[str, int] | None:
    """What a store holds and may hold, in bytes; None where nobody limits it. limit: 0 for none."""
    usage = store.meter.usage()
    if usage is None:
        return None
    limits = usage.limits
    return {"used": usage.used, "limit": limits.max_bytes, "free": usage.free, "keptFree": limits.min_free_bytes}


def _room_lines(room: dict[str, int] | None) -> list[str]:
    if room is None:
        return []
    most = f"of at most {room['limit']}" if room["limit"] else "and no limit"
    return [f"store    {room['used']} bytes used, {most}; disk: {room['free']} free, {room['keptFree']} kept so"]


def _finite(until: float | None) -> float | None:
    return until if until is not None and math.isfinite(until) else None


def ls(
    content: Annotated[
        str, typer.Argument(metavar="[CID]", help="A directory or file, optionally with a path; without it: all pins.")
    ] = "",
    limit: Annotated[int, typer.Option(help="Show at most so many.", min=1, max=MAX_LISTED)] = DEFAULT_LISTED,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """The entries of a directory with kinds, sizes and CIDs; without a CID, what is pinned, by whom and until when."""
    blocks = store_at(store)
    if not content:
        _list_pins(blocks, limit, as_json=as_json)
        return
    cid = found_at(blocks, content)
    if unixfs.stat(blocks, cid).kind == "file":
        entries = [unixfs.Entry(content.rstrip("/").rpartition("/")[2], cid)]
    else:
        entries = unixfs.list_dir(blocks, cid)
    rows = [{"name": entry.name, **_kind(blocks, entry.cid), "cid": str(entry.cid)} for entry in entries[:limit]]
    lines = [_line(row) for row in rows]
    _emit_list(str(cid), "entries", rows, lines, len(entries), as_json=as_json)


def _line(row: dict[str, Any]) -> str:
    size = "-" if row["size"] is None else row["size"]
    return f"{row['kind']:<10} {size:>12}  {row['cid']}  {one_line(row['name'])}"


def _kind(store: BlockStore, cid: Cid) -> dict[str, Any]:
    """Kind and size of an entry: a raw block is a file of its own size, which needs no reading."""
    try:
        if cid.codec == RAW:
            return {"kind": "file", "size": store.stat(cid).size}
        found = unixfs.stat(store, cid)
    except (BlockMissing, BlockMismatch):
        return {"kind": "missing", "size": None}
    except MalformedBlock:
        return {"kind": "malformed", "size": None}
    return {"kind": found.kind, "size": found.size if found.kind == "file" else None}


def _list_pins(store: BlockStore, limit: int, *, as_json: bool) -> None:
    kept = RootSet(store).live(time.time())
    rows = [{"cid": str(root.cid), **_row(root)} for root in kept[:limit]]
    lines = [
        f"{root.cid}  {_label(root)}, {_until(root)}{', public' if root.public else ''}" for root in kept[:limit]
    ] or ["nothing is pinned"]
    room = room_of(store)
    _emit_list(None, "pins", rows, lines + _room_lines(room), len(kept), as_json=as_json, more_about={"store": room})


def _emit_list(
    cid: str | None,
    what: str,
    rows: list[dict[str, Any]],
    lines: list[str],
    total: int,
    *,
    as_json: bool,
    more_about: dict[str, Any] | None = None,
) -> None:
    more = total - len(rows)
    about = {"ok": True, **({"cid": cid} if cid else {}), what: rows, "total": total, **(more_about or {})}
    emit(about, as_json=as_json, text="\n".join([*lines, f"... and {more} more (--limit)"] if more else lines))


def pin(
    cid: Annotated[str, typer.Argument(metavar="CID", help="The CID of something that is here in full.")],
    label: Annotated[str, typer.Option(help="Why; one DAG may be pinned under several labels.")] = "pinned",
    seconds: PinSecondsOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Keep something that is here from garbage collection. Given again, the new time counts."""
    now = time.time()
    kept = pin_for(label, seconds, now)
    root = _root(cid)
    blocks = store_at(store)
    roots = RootSet(blocks)
    before = next((known for known in roots.live(now) if (known.cid, known.label) == (root, kept.label)), None)
    with progress("looking", None, as_json=as_json) as advance:
        found = survey(blocks, root, watch=advance)
    if found.whole:
        roots.keep(root, kept.label, kept.expires_at)
        found = survey(blocks, root)  # garbage collection may have been at it until then
        if not found.whole:
            _unkeep(roots, root, kept.label, before)
    if found.malformed:
        raise MalformedBlock(*found.malformed[0])
    if found.absent:
        what = f"{len(found.absent)} blocks of it are not here, the first is {found.absent[0]}: nothing was pinned"
        raise fail(f"{what}; `insula content get` or `import` brings it", code=Exit.NOT_SO, as_json=as_json)
    made = Root(root, kept.label, public=False, expires_at=kept.expires_at)
    result = {"ok": True, "cid": str(root), **_row(made), "blocks": found.blocks, "bytes": found.bytes}
    text = f"pinned {root} ({_label(made)}, {_until(made)}): {found.blocks} blocks, {found.bytes} bytes"
    emit(result, as_json=as_json, text=text)


def _unkeep(roots: RootSet, root: Cid, label: str, before: Root | None) -> None:
    if before is None:
        roots.drop(root, label)
    else:
        roots.keep(root, label, before.expires_at)


def unpin(
    cid: Annotated[str, typer.Argument(metavar="CID", help="The CID that is pinned.")],
    label: Annotated[str, typer.Option(help="Only the pin of this label; else all pins of this program.")] = "",
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """End pins. What nothing else keeps goes with the next garbage collection."""
    wanted = pin_label(label) if label else ""
    root = _root(cid)
    roots = RootSet(store_at(store))
    kept = [known for known in roots.live(time.time()) if known.cid == root]
    ours = [known for known in kept if known.label.startswith(PIN_PREFIX) and wanted in {"", known.label}]
    gone = [known for known in ours if roots.drop(root, known.label)]
    left = [known for known in kept if known not in ours]
    also = f"; still kept: {', '.join(map(_label, left))}" if left else ""
    if not gone:
        raise fail(f"{root} has no such pin{also}", code=Exit.NOT_SO, as_json=as_json)
    result = {"ok": True, "cid": str(root), "unpinned": [_row(known) for known in gone], "left": list(map(_row, left))}
    emit(result, as_json=as_json, text=f"unpinned {root} ({', '.join(map(_label, gone))}){also}")


def _root(text: str) -> Cid:
    root, inner = named(text)
    if inner:
        raise InvalidInput("CID", "a CID without a path: `insula content stat` tells the one of a path")
    return root


def _row(root: Root) -> dict[str, Any]:
    return {"label": _label(root), "by": _keeper(root), "until": root.expires_at, "public": root.public}


def _keeper(root: Root) -> str:
    """cli: a pin of this program; arriving: not all here yet; service: a bridge or node keeps it, for its reasons."""
    if root.label == ARRIVING:
        return "arriving"
    return "cli" if root.label.startswith(PIN_PREFIX) else "service"


def _label(root: Root) -> str:
    return one_line(root.label.removeprefix(PIN_PREFIX))


def _until(root: Root) -> str:
    if root.expires_at is None:
        return "until unpinned" if _keeper(root) == "cli" else "until its keeper drops it"
    return "until " + datetime.fromtimestamp(root.expires_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
