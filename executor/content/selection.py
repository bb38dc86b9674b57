"""Which blocks of a DAG an answer holds, and in which order. Pure but for the block source that is passed in.

Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/, `dag-scope` and `entity-bytes`. Order: depth first,
parents before children, links in the order of their block. Nothing is followed that is not a link of a block: a
symbolic link is a block like any other, and a path ends at it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from executor.content import dagpb, hamt, unixfs_node
from executor.content.blocks import Block, BlockSource
from executor.content.cidtext import old_binary
from executor.content.gateway_query import Scope, Span
from executor.content.limits import MAX_NAME_BYTES
from executor.content.protobuf import ProtobufError
from executor.content.unixfs_node import (
    MAX_FANOUT,
    TYPE_DIRECTORY,
    TYPE_SHARD,
    DirectoryNode,
    FileNode,
    ShardNode,
)
from executor.content.walk import every_link
from executor.errors import BlockMissing, ContentTooLarge, MalformedBlock, PathNotFound
from executor.protocol.cid import DAG_PB, Cid

MAX_PATH_BLOCKS: Final = 256
MAX_PATH_BYTES: Final = 8 * 2**20
"""Of the directories on a path; those that other programs write have at most 1 MiB each, most of them a few KiB."""
MOST_KNOWN: Final = 4096
MAX_DIRECTORY_DATA: Final = 1024
"""Bytes of what a directory says of itself: at most a bit field of 128, mode and time."""
MAX_BLOCKS: Final = 1_000_000
"""Blocks of one answer: with repeats, a small DAG unfolds to any number of them."""
_OLD_LINK: Final = re.compile(rb"\x0a\x22\x12\x20(.{32})", re.DOTALL)
"""A dag-pb link by CIDv0: field 1, 34 bytes, a sha2-256 multihash."""

_Range = tuple[int, int]
"""First and last byte, both inclusive."""
_Step = tuple[Cid, _Range | None]
"""A block that is still to come; of a file, which bytes of what is below it: None for all."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where a path leads. above: the blocks on the way, the root first, without the last one. roots: the root and
    what each name of the path stands for, the last one being `end`.
    """

    above: tuple[Cid, ...]
    roots: tuple[Cid, ...]
    end: Cid


@dataclass(frozen=True, slots=True)
class _Way:
    """From a directory to what one of its names stands for: the blocks that are read, their bytes, the end."""

    above: tuple[Cid, ...]
    size: int
    end: Cid


class Known:
    """What names in directories were found to stand for, so that a path which many ask for is followed once.

    Any thread. Forgets all where it holds `most`, each of which takes about 1 KiB.
    """

    def __init__(self, most: int = MOST_KNOWN) -> None:
        self._most = most
        self._ways: dict[tuple[Cid, str], _Way] = {}

    def get(self, directory: Cid, name: str) -> _Way | None:
        """The way to a name, if it is known."""
        return self._ways.get((directory, name))

    def note(self, directory: Cid, name: str, way: _Way) -> None:
        """Keep a way; not of a name that is longer than any file's."""
        if len(name) > MAX_NAME_BYTES:
            return
        if len(self._ways) >= self._most:
            self._ways.clear()
        self._ways[directory, name] = way


class _Recorded:
    """A source that remembers what it was asked for."""

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self.size = 0
        self.cids: list[Cid] = []

    def get(self, cid: Cid) -> bytes:
        self._add(cid)
        block = self._source.get(cid)
        self._weigh(len(block))
        return block

    def again(self, way: _Way) -> None:
        """Go a way that is known: its blocks must still be here."""
        for cid in way.above:
            self._add(cid)
            if not self._source.has(cid):
                raise BlockMissing(cid)
        self._weigh(way.size)

    def has(self, cid: Cid) -> bool:
        return self._source.has(cid)  # pragma: no cover - of the protocol; finding a name asks for bytes only

    def _add(self, cid: Cid) -> None:
        if len(self.cids) >= MAX_PATH_BLOCKS:
            raise ContentTooLarge("blocks on a path", MAX_PATH_BLOCKS)
        self.cids.append(cid)

    def _weigh(self, size: int) -> None:
        self.size += size
        if self.size > MAX_PATH_BYTES:
            raise ContentTooLarge("bytes of the directories on a path", MAX_PATH_BYTES)


def locate(source: BlockSource, root: Cid, names: Sequence[str], known: Known | None = None) -> Located:
    """Follow a path. PathNotFound, BlockMissing, MalformedBlock; ContentTooLarge over MAX_PATH_BLOCKS, MAX_PATH_BYTES.

    Of a directory that is not sharded only the name is looked for: what else is wrong with it is not noticed. known:
    ways that need not be looked for, and to which those of this path are added.
    """
    recorded = _Recorded(source)
    known = known or Known()
    roots = [root]
    for name in names:
        way = known.get(roots[-1], name)
        if way is not None:
            recorded.again(way)
        else:
            blocks, size = len(recorded.cids), recorded.size
            end = _entry(recorded, roots[-1], name)
            if end is None:
                raise PathNotFound(root, "/".join(names))
            way = _Way(tuple(recorded.cids[blocks:]), recorded.size - size, end)
            known.note(roots[-1], name, way)
        roots.append(way.end)
    return Located(tuple(recorded.cids), tuple(roots), roots[-1])


def _entry(source: BlockSource, cid: Cid, name: str) -> Cid | None:
    """What a name stands for in a directory; None where it has none, and of what is no directory."""
    block = source.get(cid)
    if cid.codec != DAG_PB:
        return None
    try:
        found, message = dagpb.find(block, name, cid)
        if message is None or len(message) > MAX_DIRECTORY_DATA:
            return None
        kind = unixfs_node.decode_data(message).type
        if kind == TYPE_DIRECTORY:
            return found[0] if len(found) == 1 else None
        shard = unixfs_node.parse(cid, block, MAX_FANOUT) if kind == TYPE_SHARD else None
    except (MalformedBlock, ProtobufError):
        return None
    link = hamt.find(source, shard, name) if isinstance(shard, ShardNode) else None
    return link.cid if link else None


def file_size(cid: Cid, block: bytes) -> int | None:
    """The size of a file in bytes, by its first block; None of what is no file."""
    node = _node(cid, block)
    return node.size if isinstance(node, FileNode) else None


def select(
    source: BlockSource,
    found: Located,
    scope: Scope,
    span: Span | None,
    *,
    dups: bool,
    most: int = MAX_BLOCKS,
) -> Iterator[Block]:
    """The blocks of an answer as they are read. Whatever is missing or damaged ends it with the source's error.

    dups: every block as often as it occurs, else once. ContentTooLarge over `most` blocks.
    """
    sent: set[Cid] = set()
    for count, (cid, block) in enumerate(_all_blocks(source, found, scope, span, dups=dups)):
        if count >= most:
            raise ContentTooLarge("blocks of one answer", most)
        if dups or cid not in sent:
            yield cid, block
        if not dups:
            sent.add(cid)


def _all_blocks(source: BlockSource, found: Located, scope: Scope, span: Span | None, *, dups: bool) -> Iterator[Block]:
    for cid in found.above:
        yield cid, source.get(cid)
    end = source.get(found.end)
    size = file_size(found.end, end) if span is not None and scope is Scope.ENTITY else None
    part = span.within(size) if span is not None and size is not None else None
    yield found.end, end
    if size is not None and part is None:
        return  # no byte of the file is asked for
    done: set[_Step] = {(found.end, part)}
    stack = _below(found.end, end, scope, part)[::-1]
    while stack:
        step = stack.pop()
        if not dups:
            if step in done:
                continue
            done.add(step)
        block = source.get(step[0])
        yield step[0], block
        stack += reversed(_below(step[0], block, scope, step[1]))


def _below(cid: Cid, block: bytes, scope: Scope, part: _Range | None) -> list[_Step]:
    """What of a block's links belongs to the answer."""
    if scope is Scope.BLOCK:
        return []
    if scope is Scope.ALL:
        return [(child, None) for child in every_link(cid, block)]
    node = _node(cid, block)
    if isinstance(node, FileNode):
        return _chunks(node, part)
    if isinstance(node, ShardNode):
        return [(link.cid, None) for _, name, link in node.buckets if not name]
    return []


def _chunks(node: FileNode, part: _Range | None) -> list[_Step]:
    if part is None:
        return [(child, None) for child, _ in node.children]
    first, last = part
    found: list[_Step] = []
    offset = len(node.data)
    for child, size in node.children:
        if offset <= last and first < offset + size:
            inside = (max(first - offset, 0), min(last - offset, size - 1))
            found.append((child, None if inside == (0, size - 1) else inside))
        offset += size
    return found


def _node(cid: Cid, block: bytes) -> FileNode | DirectoryNode | ShardNode | None:
    """What a block is; None of what is neither file nor directory, symbolic links among them."""
    try:
        return unixfs_node.parse(cid, block)
    except MalformedBlock:
        return None


def sections(blocks: Iterable[Block], *, is_old: bool) -> Iterator[tuple[bytes, bytes]]:
    """Blocks with the CIDs as those who link to them write them: (binary CID, block).

    Inside, a block has one name, its CIDv1; a client that walks old content looks for the CIDv0 that it finds there.
    is_old: whether the first block was asked for by its CIDv0.
    """
    old: set[bytes] = set()
    for index, (cid, block) in enumerate(blocks):
        is_old_name = is_old if index == 0 else cid.codec == DAG_PB and cid.digest in old
        yield old_binary(cid) if is_old_name else cid.binary, block
        if cid.codec == DAG_PB:
            old.update(_OLD_LINK.findall(block))
