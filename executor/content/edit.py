"""A tree with some of it taken out and some files replaced, made of its own blocks and as few new ones as can be.

The result is, block for block, what importing such a tree would have made: nothing of it tells what was there before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from executor.content import dagpb
from executor.content.blocks import BlockSource
from executor.content.importer import CHUNK_BYTES, BlockStream, Imported, directory_blocks, file_blocks
from executor.content.reader import list_dir
from executor.protocol.cid import RAW, Cid


@dataclass(frozen=True)
class _Edits:
    """What changes, by path."""

    removed: Collection[str]
    replaced: Mapping[str, bytes]
    touched: frozenset[str]  # directories in which something changes


def edited_blocks(
    source: BlockSource, root: Cid, removed: Collection[str], replaced: Mapping[str, bytes]
) -> BlockStream:
    """The new blocks of the tree without the `removed` paths and with other bytes in the `replaced` files.

    Paths are those of its manifest. BlockMissing, BlockMismatch, MalformedBlock.
    """
    touched = {""}
    for path in (*removed, *replaced):
        parts = path.split("/")
        touched.update("/".join(parts[:count]) for count in range(1, len(parts)))
    return (yield from _folder(source, root, "", _Edits(removed, replaced, frozenset(touched))))


def _folder(source: BlockSource, cid: Cid, path: str, edits: _Edits) -> BlockStream:
    entries = []
    for entry in list_dir(source, cid):
        below = f"{path}/{entry.name}" if path else entry.name
        if below in edits.removed:
            continue
        if below in edits.replaced:
            child = yield from file_blocks(_chunks(edits.replaced[below]))
        elif below in edits.touched:
            child = yield from _folder(source, entry.cid, below, edits)
        else:
            child = _kept(source, entry.cid)
        entries.append((entry.name, child))
    return (yield from directory_blocks(entries))


def _kept(source: BlockSource, cid: Cid) -> Imported:
    """As a link to it says; the bytes of its files are nobody's concern here."""
    block = source.get(cid)
    below = 0 if cid.codec == RAW else sum(link.tsize for link in dagpb.decode(block, cid).links)
    return Imported(cid, 0, len(block) + below)


def _chunks(content: bytes) -> list[bytes]:
    return [content[offset : offset + CHUNK_BYTES] for offset in range(0, len(content), CHUNK_BYTES)]
