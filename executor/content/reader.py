"""Reading files and directories from blocks: content, listings, paths, manifests.

Nothing here is trusted but the hashes: sizes are checked against what is there, depth and the number of blocks read are
bounded, so that a small DAG cannot unfold into endless work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from executor.content import hamt, unixfs_node
from executor.content.blocks import BlockSource
from executor.content.dagpb import Link
from executor.content.limits import TreeLimits, Usage, check_name
from executor.content.unixfs_node import DirectoryNode, FileNode, ShardNode
from executor.errors import ContentTooLarge, InvalidInput, MalformedBlock, PathNotFound
from executor.protocol.cid import Cid

MAX_FILE_DEPTH: Final = 32
"""Levels of nodes in one file; a balanced tree of 1024 children needs four for a pebibyte."""
DEFAULT_MAX_ENTRIES: Final = 1_000_000

Kind = Literal["file", "directory"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a directory. Its kind and size need its block: `stat(source, entry.cid)`."""

    name: str
    cid: Cid


@dataclass(frozen=True, slots=True)
class Stat:
    """kind of a CID's content; size: bytes of a file, 0 of a directory."""

    kind: Kind
    size: int


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One row of a manifest. path: relative, '/' between names, '' for the root; size: bytes, 0 of a directory."""

    path: str
    kind: Kind
    size: int
    cid: Cid


@dataclass(frozen=True, slots=True)
class Manifest:
    """The list of files and directories of a tree, sorted by the UTF-8 bytes of their paths, the root left out.

    Of a tree that is a single file, the one row is that file, with the path ''.
    """

    root: Cid
    entries: tuple[ManifestEntry, ...]

    @property
    def total_bytes(self) -> int:
        """Sum of the sizes of all files."""
        return sum(entry.size for entry in self.entries)

    def rows(self) -> list[dict[str, str | int]]:
        """The entries as plain data for JSON: path, type, size, cid."""
        return [
            {"path": entry.path, "type": entry.kind, "size": entry.size, "cid": str(entry.cid)}
            for entry in self.entries
        ]


@dataclass(frozen=True, slots=True)
class TreeSize:
    """What a tree holds, each file and directory counted as often as it occurs, the root left out."""

    files: int
    directories: int
    bytes: int


def stat(source: BlockSource, cid: Cid) -> Stat:
    """File or directory, and how large; reads one block."""
    node = unixfs_node.parse(cid, source.get(cid))
    return Stat("file", node.size) if isinstance(node, FileNode) else Stat("directory", 0)


@dataclass(slots=True)
class Visits:
    """Blocks of files that may still be read: chunks are rarely below 64 bytes, many tiny ones are an attack.

    spare: for files whose chunks are tiny; of all files that are read together.
    """

    spare: int = 1024
    left: int = 0

    def begin(self, size: int) -> None:
        """A file of so many bytes comes next."""
        self.left = 8 + size // 64

    def one(self, cid: Cid) -> None:
        """Another block of it; MalformedBlock where they are too many."""
        if self.left > 0:
            self.left -= 1
        elif self.spare > 0:
            self.spare -= 1
        else:
            raise MalformedBlock(cid, "the file has far more blocks than its size can need")


def read_file(source: BlockSource, cid: Cid, max_bytes: int, visits: Visits | None = None) -> Iterator[bytes]:
    """The bytes of a file, block by block; ContentTooLarge before the first one if it is larger than max_bytes.

    MalformedBlock where it is a directory, a chunk has another size than its parent says, it is too deep or has too
    many blocks: give the same `visits` with each of many files.
    """
    node = _file_node(source, cid)
    if node.size > max_bytes:
        raise ContentTooLarge("bytes of a file", max_bytes)
    visits = Visits() if visits is None else visits
    visits.begin(node.size)
    return _read_node(source, cid, node, visits, 0)


def _read_node(source: BlockSource, cid: Cid, node: FileNode, visits: Visits, depth: int) -> Iterator[bytes]:
    if depth > MAX_FILE_DEPTH:
        raise MalformedBlock(cid, f"a file has at most {MAX_FILE_DEPTH} levels of blocks")
    if node.data:
        yield node.data
    for child_cid, size in node.children:
        visits.one(child_cid)
        child = _file_node(source, child_cid)
        if child.size != size:
            raise MalformedBlock(child_cid, f"a chunk of {child.size} bytes, where {cid} says {size}")
        if not size and child.children:
            raise MalformedBlock(child_cid, "a chunk of no bytes has chunks of its own")
        yield from _read_node(source, child_cid, child, visits, depth + 1)


def _file_node(source: BlockSource, cid: Cid) -> FileNode:
    node = unixfs_node.parse(cid, source.get(cid))
    if not isinstance(node, FileNode):
        raise MalformedBlock(cid, "a directory, not a file")
    return node


def list_dir(source: BlockSource, cid: Cid, max_entries: int = DEFAULT_MAX_ENTRIES) -> list[Entry]:
    """The entries of a directory, sorted by the UTF-8 bytes of their names, every name checked (UnsafeName)."""
    node = unixfs_node.parse(cid, source.get(cid))
    if isinstance(node, FileNode):
        raise MalformedBlock(cid, "a file, not a directory")
    return _entries(source, cid, node, max_entries)


def _entries(source: BlockSource, cid: Cid, node: DirectoryNode | ShardNode, max_entries: int) -> list[Entry]:
    found: list[Entry] = []
    links: Iterator[Link]
    links = iter(node.links) if isinstance(node, DirectoryNode) else hamt.entries(source, cid, node)
    for link in links:
        if len(found) >= max_entries:
            raise ContentTooLarge("files and directories", max_entries)
        found.append(Entry(check_name(link.name), link.cid))
    return sorted(found, key=lambda entry: entry.name.encode())


def resolve(source: BlockSource, root: Cid, path: str) -> Cid:
    """The CID at a path below a root ("a/b"; '' is the root): PathNotFound, or InvalidInput where the path is none."""
    cid = root
    if not path:
        return cid
    names = path.split("/")
    if any(name in {"", ".", ".."} for name in names):
        raise InvalidInput("path", f"{path!r}: names with one '/' between them, none empty, '.' or '..'")
    for name in names:
        node = unixfs_node.parse(cid, source.get(cid))
        link: Link | None = None
        if isinstance(node, DirectoryNode):
            link = next((candidate for candidate in node.links if candidate.name == name), None)
        elif isinstance(node, ShardNode):
            link = hamt.find(source, node, name)
        if link is None:
            raise PathNotFound(root, path)
        cid = link.cid
    return cid


def manifest(source: BlockSource, root: Cid, limits: TreeLimits) -> Manifest:
    """Every file and directory below a root; ContentTooLarge, UnsafeName."""
    rows = list(walk_tree(source, root, limits))
    if len(rows) > 1 or rows[0].kind == "directory":
        del rows[0]
    return Manifest(root, tuple(sorted(rows, key=lambda row: row.path.encode())))


def tree_size(source: BlockSource, root: Cid, limits: TreeLimits) -> TreeSize:
    """How many files and directories a tree has, and the bytes of its files."""
    rows = manifest(source, root, limits).entries
    files = sum(row.kind == "file" for row in rows)
    return TreeSize(files, len(rows) - files, sum(row.size for row in rows))


def walk_tree(source: BlockSource, root: Cid, limits: TreeLimits) -> Iterator[ManifestEntry]:
    """The root, then every file and directory below it, parents first; the sizes are those that the files declare."""
    return _walk_tree(source, ManifestEntry("", "file", 0, root), 0, _Known(Usage(limits)))


@dataclass(slots=True)
class _Known:
    """What a walk has used of its limits, and the sizes of the files that it met: a wide one is parsed once."""

    usage: Usage
    sizes: dict[Cid, int] = field(default_factory=dict)


def _walk_tree(source: BlockSource, at: ManifestEntry, depth: int, known: _Known) -> Iterator[ManifestEntry]:
    usage = known.usage
    size = known.sizes.get(at.cid)
    if size is None:
        node = unixfs_node.parse(at.cid, source.get(at.cid))
        if not isinstance(node, FileNode):
            yield from _walk_directory(source, at, node, depth, known)
            return
        size = known.sizes[at.cid] = node.size
    usage.add_bytes(size)
    yield dataclasses.replace(at, size=size)


def _walk_directory(
    source: BlockSource, at: ManifestEntry, node: DirectoryNode | ShardNode, depth: int, known: _Known
) -> Iterator[ManifestEntry]:
    usage = known.usage
    yield dataclasses.replace(at, kind="directory")
    for entry in _entries(source, at.cid, node, usage.limits.max_files):
        usage.add_entry(depth)
        path = f"{at.path}/{entry.name}" if at.path else entry.name
        yield from _walk_tree(source, ManifestEntry(path, "file", 0, entry.cid), depth + 1, known)
