"""From block to block: everything below a root, and what of it is missing. Reads links only, not what the blocks mean.

Both walks visit each block once, however often it is linked, so a DAG of a few blocks that unfolds to billions of paths
costs what its blocks cost. They keep one CID in memory a block visited (about 100 bytes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from executor.content import dagpb
from executor.content.ahead import in_order
from executor.content.blocks import Block, BlockSource
from executor.errors import BlockMismatch, BlockMissing, ContentTooLarge, MalformedBlock
from executor.protocol.cid import DAG_CBOR, DAG_PB, Cid

MAX_BLOCKS: Final = 2_000_000
"""Blocks of one DAG, and links of it that wait to be followed: memory that a DAG of nothing but links cannot exceed."""


@dataclass(frozen=True, slots=True)
class StoredSize:
    """Distinct blocks of a DAG, and their bytes: what it takes to store or send it."""

    blocks: int
    bytes: int


@dataclass(slots=True)
class Descent:
    """Depth first through DAGs, each block once: iterate, and say what is `below` each. seen: blocks to pass over.

    limit: of blocks that were seen, and of links that wait.
    """

    stack: list[Cid]
    seen: set[Cid] = field(default_factory=set)
    limit: int = MAX_BLOCKS

    def __iter__(self) -> Iterator[Cid]:
        while self.stack:
            cid = self.stack.pop()
            if cid not in self.seen:
                self.seen.add(cid)
                yield cid

    def below(self, children: Sequence[Cid]) -> None:
        """The links of the block that came last; ContentTooLarge where that makes too many."""
        self.stack.extend(child for child in reversed(children) if child not in self.seen)
        if max(len(self.stack), len(self.seen)) > self.limit:
            raise ContentTooLarge("blocks of a DAG", self.limit)

    def again(self, cids: Sequence[Cid]) -> None:
        """Come to these once more, before whatever else waits."""
        self.seen.difference_update(cids)
        self.stack.extend(reversed(cids))


def links(cid: Cid, block: bytes) -> list[Cid]:
    """What a block links to, each once, in its order; as `every_link`."""
    return _targets(cid, block, each_once=True)


def every_link(cid: Cid, block: bytes) -> list[Cid]:
    """The links of a block as they stand; none for raw. MalformedBlock for dag-cbor, which no content of ours uses."""
    return _targets(cid, block, each_once=False)


def _targets(cid: Cid, block: bytes, *, each_once: bool) -> list[Cid]:
    if cid.codec == DAG_CBOR:
        raise MalformedBlock(cid, "its codec is dag-cbor, which cannot be part of a file or directory")
    return dagpb.targets(block, cid, each_once=each_once) if cid.codec == DAG_PB else []


def walk(source: BlockSource, root: Cid) -> Iterator[Cid]:
    """Every block of a DAG once, parents before children, depth first; BlockMissing where a dag-pb block is not here.

    Raw blocks are named without being read: whoever needs them all calls `missing` or reads them.
    """
    for cid, _ in _walk(source, root):
        yield cid


def blocks(source: BlockSource, root: Cid, max_bytes: int | None = None) -> Iterator[Block]:
    """Every block of a DAG once, in the order of `walk`, with its verified bytes; ContentTooLarge over max_bytes."""
    total = 0
    for cid, block in _walk(source, root):
        content = source.get(cid) if block is None else block
        total += len(content)
        if max_bytes is not None and total > max_bytes:
            raise ContentTooLarge("bytes of all blocks", max_bytes)
        yield cid, content


def _walk(source: BlockSource, root: Cid) -> Iterator[tuple[Cid, bytes | None]]:
    descent = Descent([root])
    for cid in descent:
        block = source.get(cid) if cid.codec == DAG_PB else None
        children = links(cid, block or b"")
        yield cid, block
        descent.below(children)


def missing(
    source: BlockSource, root: Cid, limit: int | None = None, *, verify: bool = False, seen: set[Cid] | None = None
) -> list[Cid]:
    """The frontier of absent blocks: those whose parent is here (or the root), in the order of `walk`, at most `limit`.

    Fetch them, ask again; an empty list means that the DAG is complete. A block with damaged bytes counts as
    absent: a raw one only where `verify` asks to read them all, which costs what the whole DAG costs. seen: blocks to
    pass over; those that were looked at are added.
    """
    return _missing(source, Descent([root], set() if seen is None else seen), limit, verify=verify)


class Frontier:
    """What of one DAG is missing while it arrives; each block is looked at once, however often this is asked.

    A block that was here is taken to stay: begin anew where some may have gone. One thread at a time.
    """

    def __init__(self, root: Cid) -> None:
        self._descent = Descent([root])
        self._refused: MalformedBlock | ContentTooLarge | None = None

    @property
    def looked_at(self) -> int:
        """How many blocks were here."""
        return len(self._descent.seen)

    @property
    def waiting(self) -> int:
        """How many links are still to be followed."""
        return len(self._descent.stack)

    def missing(self, source: BlockSource, limit: int | None = None, *, verify: bool = False) -> list[Cid]:
        """As `missing`; what can never become a whole DAG is refused again, at no cost."""
        if self._refused is not None:
            raise self._refused
        try:
            absent = _missing(source, self._descent, limit, verify=verify)
        except (MalformedBlock, ContentTooLarge) as exc:
            self._refused = exc
            self._descent = Descent([])
            raise
        self._descent.again(absent)
        return absent


def _missing(source: BlockSource, descent: Descent, limit: int | None, *, verify: bool) -> list[Cid]:
    absent: list[Cid] = []
    for cid in descent:
        try:
            if not source.has(cid):
                absent.append(cid)
            elif cid.codec == DAG_PB or verify:
                descent.below(links(cid, source.get(cid)))
            else:
                links(cid, b"")
        except (BlockMissing, BlockMismatch):
            absent.append(cid)
        if limit is not None and len(absent) >= limit:
            break
    return absent


def stored_size(source: BlockSource, root: Cid, proven: Mapping[Cid, int] = MappingProxyType({})) -> StoredSize:
    """How many distinct blocks a DAG has and how many bytes they hold; reads and verifies them all, in threads.

    proven: sizes of blocks that were verified and stored only just now; of raw ones it is enough that they are here.
    """

    def size(entry: tuple[Cid, bytes | None]) -> int:
        cid, block = entry
        if block is not None:
            return len(block)
        return proven[cid] if cid in proven and source.has(cid) else len(source.get(cid))

    sizes = list(in_order(size, _walk(source, root), lambda entry: entry[1] is None and entry[0] not in proven))
    return StoredSize(len(sizes), sum(sizes))
