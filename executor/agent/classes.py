"""Which of a job's content is private data of the operator's, by any block of it.

A CID is no secret: a stranger can name a part of private data, or build a directory around it. So a job's content is of
a class where it shares any block with what the class lists, whichever of the two is the larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from executor.audit.policy import DataClass
from executor.content.blocks import BlockSource
from executor.content.importer import directory_blocks, only_hash
from executor.content.walk import links
from executor.errors import BlockMismatch, BlockMissing, MalformedBlock
from executor.protocol.cid import DAG_PB, RAW, Cid

#: what everybody has: an empty file and an empty folder
_NOTHING: Final = frozenset((Cid.of(RAW, b""), only_hash(directory_blocks(())).cid))


class Classes:
    """The private data of one policy, as far as its blocks are in this node's store."""

    def __init__(self, store: BlockSource, data: Mapping[str, DataClass]) -> None:
        self._store = store
        self._roots = {name: tuple(map(Cid.parse, rules.cids)) for name, rules in data.items()}
        self._whole: dict[Cid, frozenset[Cid]] = {}

    def of(self, content: Iterable[Cid]) -> frozenset[str]:
        """The classes that any block of this content belongs to."""
        if not self._roots:
            return frozenset()
        given: set[Cid] = set()
        for cid in content:
            given |= self._below(cid, keep=False)
        given -= _NOTHING
        return frozenset(
            name
            for name, roots in self._roots.items()
            if any(not given.isdisjoint(self._below(root, keep=True)) for root in roots)
        )

    def _below(self, root: Cid, *, keep: bool) -> frozenset[Cid]:
        """Every block of a DAG that is known here, the root among them. keep: remember it once it is whole."""
        if root in self._whole:
            return self._whole[root]
        seen: set[Cid] = set()
        stack = [root]
        is_whole = True
        while stack:
            cid = stack.pop()
            if cid in seen:
                continue
            seen.add(cid)
            if cid.codec != DAG_PB:
                continue
            try:
                stack += links(cid, self._store.get(cid))
            except (BlockMissing, BlockMismatch, MalformedBlock):
                is_whole = False
        found = frozenset(seen)
        if keep and is_whole:
            self._whole[root] = found
        return found
