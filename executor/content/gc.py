"""Garbage collection: remove the blocks that no kept root reaches."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final

from executor.content.blockstore import BlockStore
from executor.content.roots import RootSet
from executor.content.walk import links
from executor.errors import BlockMismatch, BlockMissing, MalformedBlock
from executor.protocol.cid import DAG_PB, Cid

GRACE_SECONDS: Final = 3600.0
_STEP: Final = 256
"""Blocks that are looked at while writers wait."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What one collection removed. young: blocks that nothing reaches and that stay until they are old enough."""

    blocks: int
    bytes: int
    roots: int
    tmp_files: int
    young: int = 0


def collect_garbage(store: BlockStore, roots: RootSet, now: float, grace_seconds: float = GRACE_SECONDS) -> Collected:
    """Mark and sweep. `now`: seconds since 1970.

    A block stays if a live root reaches it (as far as its DAG is here), or if it was put less than grace_seconds ago:
    an import has that long from its first block until its root is kept. Roots and blocks that arrive meanwhile are seen
    before each step, so that this may run at any time beside writers.
    """
    expired = roots.drop_expired(now)
    marks = _Marks(store, roots, now)
    removed = freed = young = 0
    candidates = iter(store)
    while step := list(islice(candidates, _STEP)):
        marks.update()
        with store.locked(exclusive=True):
            marks.update()
            for cid in step:
                if cid in marks.reached:
                    continue
                size = _size_if_old(store, cid, now - grace_seconds)
                if size is None:
                    young += 1
                elif store.delete(cid):
                    removed += 1
                    freed += size
    leftovers = store.remove_old_tmp(now - grace_seconds)
    store.meter.recount()
    return Collected(removed, freed, expired, leftovers, young)


def collectable(store: BlockStore, roots: RootSet, now: float, grace_seconds: float = GRACE_SECONDS) -> Collected:
    """What `collect_garbage` would remove now; nothing is removed."""
    marks = _Marks(store, roots, now)
    marks.update()
    sizes = [_size_if_old(store, cid, now - grace_seconds) for cid in store if cid not in marks.reached]
    old = [size for size in sizes if size is not None]
    tmp_files = len(store.old_tmp(now - grace_seconds))
    return Collected(len(old), sum(old), roots.count_expired(now), tmp_files, len(sizes) - len(old))


class _Marks:
    """What the live roots reach; about 200 bytes of memory a block."""

    def __init__(self, store: BlockStore, roots: RootSet, now: float) -> None:
        self.reached: set[Cid] = set()
        self._store = store
        self._roots = roots
        self._now = now
        self._absent: set[Cid] = set()

    def update(self) -> None:
        """Follow the roots that are new since the last time, and the blocks that were absent then."""
        stack = [root.cid for root in self._roots.live(self._now) if root.cid not in self.reached]
        stack += [cid for cid in self._absent if self._store.has(cid)]
        while stack:
            cid = stack.pop()
            if cid in self.reached and cid not in self._absent:
                continue
            self.reached.add(cid)
            self._absent.discard(cid)
            if cid.codec == DAG_PB:
                try:
                    stack.extend(links(cid, self._store.get(cid)))
                except (BlockMissing, BlockMismatch):
                    self._absent.add(cid)
                except MalformedBlock:
                    continue  # nothing below it can be known


def _size_if_old(store: BlockStore, cid: Cid, before: float) -> int | None:
    """The size of a block that was put before then; None where it is younger, or gone."""
    try:
        found = store.stat(cid)
    except BlockMissing:
        return None
    return found.size if found.written_at < before else None
