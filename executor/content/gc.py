"""Garbage collection: remove the blocks that no kept root reaches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from executor.content.blockstore import BlockStore
from executor.content.roots import RootSet
from executor.content.walk import Descent, links
from executor.errors import BlockMismatch, BlockMissing, MalformedBlock
from executor.protocol.cid import DAG_PB, Cid

GRACE_SECONDS: Final = 3600.0
_STEP: Final = 256
"""Blocks that are looked at while writers wait."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What one collection removed. young: blocks that nothing reaches and that stay until they are old enough. holes:
    inner blocks that kept DAGs have lost; while there are any, all blocks stay.
    """

    blocks: int
    bytes: int
    roots: int
    tmp_files: int
    young: int = 0
    holes: tuple[Cid, ...] = ()


def collect_garbage(
    store: BlockStore,
    roots: RootSet,
    now: float,
    grace_seconds: float = GRACE_SECONDS,
    watch: Callable[[int], object] = lambda _: None,
) -> Collected:
    """Mark and sweep. `now`: seconds since 1970. watch: told how many blocks were looked at, step by step.

    A block stays if a live root reaches it (as far as its DAG is here), or if it was put less than grace_seconds ago:
    an import has that long from its first block until its root is kept. Roots and blocks that arrive meanwhile are seen
    before each step, so that this may run at any time beside writers.

    What is below a block that is missing or damaged cannot be known. Where a DAG that was all here once has lost one,
    no block is removed until it is mended or dropped; of a public one it is written down what belongs to it.
    """
    expired = roots.drop_expired(now)
    marks = _Marks(store, roots, now)
    removed = freed = young = 0
    candidates = iter(store)
    while step := list(islice(candidates, _STEP)):
        marks.update()
        with store.locked(exclusive=True):
            marks.update()
            if marks.holes:
                break
            for cid in step:
                if cid in marks.reached:
                    continue
                size = _size_if_old(store, cid, now - grace_seconds)
                if size is None:
                    young += 1
                elif store.delete(cid):
                    removed += 1
                    freed += size
        watch(len(step))
    leftovers = store.remove_old_tmp(now - grace_seconds)
    store.recount()
    marks.note_whole()
    return Collected(removed, freed, expired, leftovers, young, marks.holes)


def tell_holes(log: Any, holes: tuple[Cid, ...], said: tuple[Cid, ...]) -> tuple[Cid, ...]:
    """Say in `log` that kept content has lost blocks, once as long as it is the same ones. What is said now."""
    if holes and holes != said:
        log.error(
            "kept content has lost blocks: nothing is removed until `insula content fsck --repair` mends it",
            lost=len(holes),
            first=str(holes[0]),
        )
    return holes


def collectable(
    store: BlockStore,
    roots: RootSet,
    now: float,
    grace_seconds: float = GRACE_SECONDS,
    watch: Callable[[int], object] = lambda _: None,
) -> Collected:
    """What `collect_garbage` would remove now; nothing is removed."""
    marks = _Marks(store, roots, now)
    marks.update()
    if marks.holes:
        return Collected(0, 0, roots.count_expired(now), len(store.old_tmp(now - grace_seconds)), 0, marks.holes)
    sizes: list[int | None] = []
    for cid in store:
        watch(1)
        if cid not in marks.reached:
            sizes.append(_size_if_old(store, cid, now - grace_seconds))
    old = [size for size in sizes if size is not None]
    tmp_files = len(store.old_tmp(now - grace_seconds))
    return Collected(len(old), sum(old), roots.count_expired(now), tmp_files, len(sizes) - len(old))


class _Marks:
    """What the live roots reach; about 200 bytes of memory a block."""

    def __init__(self, store: BlockStore, roots: RootSet, now: float) -> None:
        self.reached: set[Cid] = roots.public_blocks(now)
        self.holes: tuple[Cid, ...] = ()
        self._store = store
        self._roots = roots
        self._now = now
        self._followed: set[Cid] = set()
        self._absent: set[Cid] = set()

    def update(self) -> None:
        """Follow the roots that are new since the last time, and the blocks that were absent then."""
        stack = [root.cid for root in self._roots.live(self._now) if root.cid not in self._followed]
        stack += [cid for cid in self._absent if self._store.has(cid)]
        known = set(self._absent)
        while stack:
            cid = stack.pop()
            if cid in self._followed and cid not in self._absent:
                continue
            self._followed.add(cid)
            self.reached.add(cid)
            self._absent.discard(cid)
            below = self._below(cid)
            if below is None:
                self._absent.add(cid)
            else:
                stack.extend(below)
        if self._absent != known:
            self.holes = self._lost()

    def note_whole(self) -> None:
        """Remember which DAGs are all here."""
        live = {root.cid for root in self._roots.live(self._now)} - self._roots.whole(self._now)
        self._roots.note_whole(cid for cid in live if not self._absent or not self._lacking([cid]))

    def _lost(self) -> tuple[Cid, ...]:
        """Inner blocks that private DAGs lack which were whole once; of public ones it is known what is below."""
        public = {root.cid for root in self._roots.live(self._now) if root.public}
        return tuple(self._lacking(sorted(self._roots.whole(self._now) - public))) if self._absent else ()

    def _lacking(self, roots: list[Cid]) -> list[Cid]:
        descent = Descent(roots, limit=sys.maxsize)
        lacking = []
        for cid in descent:
            below = self._below(cid)
            if below is None:
                lacking.append(cid)
            else:
                descent.below(below)
        return lacking

    def _below(self, cid: Cid) -> list[Cid] | None:
        """The links of a block; None where it is not here, or the disk does not give it."""
        if cid.codec != DAG_PB:
            return []
        try:
            return links(cid, self._store.get(cid))
        except MalformedBlock:
            return []  # nothing below it can be known, now or later
        except (BlockMissing, BlockMismatch, OSError):
            return None


def _size_if_old(store: BlockStore, cid: Cid, before: float) -> int | None:
    """The size of a block that was put before then; None where it is younger, or gone."""
    try:
        found = store.stat(cid)
    except BlockMissing:
        return None
    return found.size if found.written_at < before else None
