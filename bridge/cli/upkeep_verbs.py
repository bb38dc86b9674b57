"""`insula content gc|fsck`: make room in a block store; find and mend what its disk did to it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from bridge.cli.output import Exit, JsonFlag, emit, fail, one_line
from bridge.cli.progress import is_shown, progress
from bridge.cli.stores import MAX_TREE_BYTES, PIN_PREFIX, StoreOption, store_at
from executor.content.arrival import ARRIVING
from executor.content.blockstore import BlockStore
from executor.content.gc import collect_garbage, collectable
from executor.content.patience import Patience
from executor.content.retrieval import Retriever
from executor.content.roots import RootSet
from executor.content.sources import Source, gateway_source, kubo_source
from executor.content.survey import Survey, survey
from executor.errors import BlockMismatch, BlockMissing, ContentError, PeerError
from executor.protocol.cid import DAG_PB, Cid

MAX_NAMED = 1000
"""Blocks that an answer names; it counts them all."""


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove blocks that nothing pins. Those that were put within the last hour stay: something may be on its way."""
    blocks = store_at(store)
    roots = RootSet(blocks)
    if holes := _holes(blocks, roots):
        what = (
            f"block {holes[0]} below a pin is missing or damaged, so what is below it is not known: nothing was removed"
        )
        raise fail(f"{what}. Run `insula content fsck --repair URL`, or unpin it", code=Exit.NOT_SO, as_json=as_json)
    with progress("collecting", _count(blocks, as_json=as_json), as_json=as_json, unit="blocks") as advance:
        found = (collectable if dry_run else collect_garbage)(blocks, roots, time.time(), watch=advance)
    if found.holes:  # below what a bridge or node keeps
        what = f"kept content has lost {len(found.holes)} blocks, the first is {found.holes[0]}: nothing was removed"
        raise fail(f"{what}. Run `insula content fsck --repair URL`", code=Exit.NOT_SO, as_json=as_json)
    result = {
        "ok": True,
        "dryRun": dry_run,
        "blocks": found.blocks,
        "bytes": found.bytes,
        "pinsExpired": found.roots,
        "leftovers": found.tmp_files,
        "young": found.young,
    }
    text = f"{'would free' if dry_run else 'freed'} {found.blocks} blocks, {found.bytes} bytes"
    if found.roots or found.tmp_files:
        text += f"; {found.roots} pins are over, {found.tmp_files} leftovers of crashes and damage"
    if found.young:
        text += f"\n{found.young} blocks that nothing pins are younger than an hour, and stay until then"
    emit(result, as_json=as_json, text=text)


def _holes(store: BlockStore, roots: RootSet) -> list[Cid]:
    """Inner blocks that our pins lack: a sweep would take what is below them, which one fetched block would mend.

    A bridge or node keeps what is still being uploaded, which has holes of its own and blocks that are young.
    """
    ours = [root.cid for root in roots.live(time.time()) if root.label.startswith(PIN_PREFIX)]
    return [cid for cid in _surveyed(store, ours, set(), set()).absent if cid.codec == DAG_PB]


@dataclass(slots=True)
class _Check:
    """What fsck found. damaged: blocks whose bytes were not theirs, moved away; unreadable: the disk gives an error."""

    blocks: int = 0
    damaged: list[Cid] = field(default_factory=list)
    unreadable: list[tuple[Cid, str]] = field(default_factory=list)
    kept: Survey = field(default_factory=Survey)
    unfinished: Survey = field(default_factory=Survey)
    bad_roots: list[Cid] = field(default_factory=list)


def fsck(
    repair: Annotated[
        list[str] | None,
        typer.Option(
            "--repair",
            "--gateway",
            "--bridge",
            "--to",
            help="Fetch what is missing from this bridge or trustless gateway; several times for several.",
        ),
    ] = None,
    kubo: Annotated[
        list[str] | None, typer.Option("--kubo", help="Fetch it from this Kubo: the http address of its RPC API.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for all repairs.")] = 3600.0,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Hash every block again, and look for what is missing below pins. Exit code 1 where something is wrong and stays.

    A damaged block is moved to the store's folder tmp: it counts as missing, and is fetched anew where it is needed.
    """
    blocks = store_at(store)
    roots = RootSet(blocks)
    found = _Check()
    _hash_all(blocks, found, as_json=as_json)
    _look_below_pins(blocks, roots, found)
    lost, problems = len(found.kept.absent), []
    sources = [*map(gateway_source, repair or []), *map(kubo_source, kubo or [])]
    if found.kept.absent and sources:
        problems = _repair(blocks, found.bad_roots, sources, timeout, as_json=as_json)
        _look_below_pins(blocks, roots, found)
    _tell(found, lost, problems, as_json=as_json)


def _count(store: BlockStore, *, as_json: bool) -> int | None:
    """How many blocks there are, where a bar is measured by it."""
    return sum(1 for _ in store) if is_shown(as_json=as_json) else None


def _hash_all(store: BlockStore, found: _Check, *, as_json: bool) -> None:
    with progress("hashing", _count(store, as_json=as_json), as_json=as_json, unit="blocks") as advance:
        for cid in store:
            try:
                store.get(cid)
            except BlockMismatch:
                found.damaged.append(cid)
            except BlockMissing:
                continue  # garbage collection of another process
            except OSError as exc:
                found.unreadable.append((cid, exc.strerror or str(exc)))
            found.blocks += 1
            advance(1)


def _look_below_pins(store: BlockStore, roots: RootSet, found: _Check) -> None:
    """Each block once: those that only an unfinished arrival needs may be missing."""
    live = roots.live(time.time())
    kept = list(dict.fromkeys(root.cid for root in live if root.label != ARRIVING))
    seen: set[Cid] = set()
    bad: set[Cid] = set()
    found.kept = _surveyed(store, kept, seen, bad)
    found.bad_roots = [cid for cid in kept if cid in bad]
    found.unfinished = _surveyed(store, [root.cid for root in live if root.label == ARRIVING], seen, set())


def _surveyed(store: BlockStore, roots: Iterable[Cid], seen: set[Cid], bad: set[Cid]) -> Survey:
    total = Survey()
    for root in roots:
        found = survey(store, root, seen=seen)
        total.absent += found.absent
        total.malformed += found.malformed
        total.blocks += found.blocks
        if not found.whole:
            bad.add(root)
    return total


def _repair(store: BlockStore, roots: list[Cid], sources: list[Source], seconds: float, *, as_json: bool) -> list[str]:
    """Fetch what the DAGs lack; why some could not be had."""
    problems = []
    patience = Patience(time.time() + seconds)
    with (
        progress("fetching", len(roots), as_json=as_json, unit="pins") as advance,
        Retriever(sources, store, max_tried=len(sources)) as retriever,
    ):
        for root in roots:
            try:
                retriever.fetch(root, max_bytes=MAX_TREE_BYTES, patience=patience)
            except (PeerError, ContentError, OSError) as exc:
                problems.append(one_line(str(exc)))
            advance(1)
    return problems


def _tell(found: _Check, lost: int, problems: list[str], *, as_json: bool) -> None:
    malformed = found.kept.malformed
    stays = bool(found.kept.absent or malformed or found.unreadable)
    result: dict[str, Any] = {
        "ok": not stays,
        "blocks": found.blocks,
        "damaged": _named(found.damaged),
        "damagedCount": len(found.damaged),
        "missing": _named(found.kept.absent),
        "missingCount": len(found.kept.absent),
        "repaired": max(0, lost - len(found.kept.absent)),
        "unreadable": [{"cid": str(cid), "problem": why} for cid, why in found.unreadable[:MAX_NAMED]],
        "malformed": [{"cid": str(cid), "problem": why} for cid, why in malformed[:MAX_NAMED]],
        "unfinished": len(found.unfinished.absent),
        "repairProblems": problems,
    }
    lines = [f"{found.blocks} blocks were hashed, {len(found.damaged)} were damaged and moved to tmp"]
    lines += [f"damaged     {cid}" for cid in result["damaged"]]
    lines += [f"unreadable  {cid}: {why}" for cid, why in found.unreadable[:MAX_NAMED]]
    lines += [f"malformed   {cid}: {why}" for cid, why in malformed[:MAX_NAMED]]
    lines += [f"missing     {cid}, below a pin" for cid in result["missing"]]
    lines += [f"no repair   {problem}" for problem in problems]
    if result["repaired"]:
        lines.append(f"{result['repaired']} missing blocks were fetched, with what is below them")
    if found.unfinished.absent:
        lines.append("a get or import is not finished; the same command goes on with it")
    lines.append("something is wrong, and stays" if stays else "all that is pinned is here and sound")
    emit(result, as_json=as_json, text="\n".join(lines))
    if stays:
        raise typer.Exit(int(Exit.NOT_SO))


def _named(cids: list[Cid]) -> list[str]:
    return [str(cid) for cid in cids[:MAX_NAMED]]
