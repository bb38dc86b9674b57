"""Files and directories to blocks, with the CIDs that Kubo gives them under the profile `unixfs-v1-2025`.

Source: https://specs.ipfs.tech/ipips/ipip-0499/. CIDv1, sha2-256, chunks of 1 MiB as raw blocks, balanced trees with at
most 1024 children, sharded directories above 256 KiB (the size of the unsharded block), empty directories included, no
mode, no mtime; another profile (`profiles`) on request. Hidden files are included (the profiles' opt-in, `ipfs add
--hidden`): an output must not lose a file because of its name. Symbolic links and everything else that is neither file
nor directory are refused.

The functions named `*_blocks` are generators of blocks that return what they made: children come before their parents,
memory stays constant but for the names of one directory a level, and where the blocks go is the caller's matter.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from executor.content import hamt, unixfs_node
from executor.content.ahead import LONG_BYTES, in_order
from executor.content.blocks import Block, BlockSink
from executor.content.dagpb import Link, Node
from executor.content.limits import TreeLimits, Usage, check_name
from executor.content.profiles import V1_2025, Profile
from executor.content.unixfs_node import TYPE_DIRECTORY, TYPE_FILE, Data
from executor.errors import ContentTooLarge, InvalidInput, SourceChanged, UnsafeName
from executor.protocol.cid import Cid

CHUNK_BYTES: Final = V1_2025.chunk_bytes


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file or directory became. size: bytes of its files; total: bytes of its blocks, as often as they occur."""

    cid: Cid
    size: int
    total: int


BlockStream = Generator[Block, None, Imported]
Watch = Callable[[str, Iterator[bytes]], Iterator[bytes]]
"""Sees the bytes of a file, by its path, on their way into blocks; gives them on as they are."""


def import_bytes(sink: BlockSink, content: bytes) -> Cid:
    """Store bytes as a file."""
    return store_blocks(sink, file_blocks(_slices(content))).cid


def import_file(sink: BlockSink, source: Path | int, max_bytes: int, profile: Profile = V1_2025) -> Cid:
    """Store one regular file, given by its path (never a link) or by an open descriptor that is read from its start.

    ContentTooLarge over `max_bytes`; UnsafeName where it is not a regular file; SourceChanged.
    """
    usage = Usage(TreeLimits(max_bytes))
    if isinstance(source, int):
        return store_blocks(sink, _descriptor_blocks(source, "file", usage, _Way(profile))).cid
    descriptor = _open(source.name, os.fspath(source), None, stat.S_ISREG)
    try:
        return store_blocks(sink, _descriptor_blocks(descriptor, source.name, usage, _Way(profile))).cid
    finally:
        os.close(descriptor)


def import_tree(sink: BlockSink, root: Path, limits: TreeLimits, profile: Profile = V1_2025) -> Cid:
    """Store a folder with all that is below it; the folder's own name is not part of it."""
    return store_blocks(sink, tree_blocks(root, limits, profile=profile)).cid


def import_listing(sink: BlockSink, files: Mapping[str, bytes], limits: TreeLimits) -> Cid:
    """Store files that are held in memory: {"a/b.txt": b"..."}; a path that ends in "/" is an empty directory."""
    return store_blocks(sink, listing_blocks(files, limits)).cid


def import_directory(sink: BlockSink, entries: Iterable[tuple[str, Imported]]) -> Imported:
    """Store a directory of things that were imported before."""
    return store_blocks(sink, directory_blocks(entries))


def file_blocks(chunks: Iterable[bytes], profile: Profile = V1_2025) -> BlockStream:
    """The blocks of a file: a balanced tree over its chunks, which all have the profile's size but the last."""
    return (yield from _file_tree(in_order(partial(_leaf, profile), chunks, _is_long), profile))


def _file_tree(leaves: Iterable[_Leaf], profile: Profile) -> BlockStream:
    levels: list[list[Imported]] = [[]]
    for size, leaf in leaves:
        yield leaf
        yield from _add(levels, 0, Imported(leaf[0], size, len(leaf[1])), profile)
    if not levels[0]:
        cid, block = profile.leaf(b"")
        yield cid, block
        return Imported(cid, 0, len(block))
    depth = 0
    while depth + 1 < len(levels):
        yield from _add(levels, depth + 1, (yield from _file_node(levels[depth], profile)), profile)
        depth += 1
    top = levels[depth]
    return top[0] if len(top) == 1 else (yield from _file_node(top, profile))


_Leaf = tuple[int, Block]
"""Bytes of a chunk, and its block, which may have more."""


def _leaf(profile: Profile, chunk: bytes) -> _Leaf:
    return len(chunk), profile.leaf(chunk)


def _is_long(chunk: bytes) -> bool:
    return len(chunk) >= LONG_BYTES


def _add(levels: list[list[Imported]], depth: int, child: Imported, profile: Profile) -> Generator[Block, None, None]:
    """Add a child to the open node of its level; a full one is closed first and becomes a child one level up."""
    if depth == len(levels):
        levels.append([])
    if len(levels[depth]) == profile.max_children:
        closed = yield from _file_node(levels[depth], profile)
        levels[depth] = []
        yield from _add(levels, depth + 1, closed, profile)
    levels[depth].append(child)


def _file_node(children: list[Imported], profile: Profile) -> BlockStream:
    size = sum(child.size for child in children)
    links = tuple(Link("", child.cid, child.total) for child in children)
    data = Data(TYPE_FILE, file_size=size, block_sizes=tuple(child.size for child in children))
    cid, block = profile.block(Node(links, unixfs_node.encode_data(data)))
    yield cid, block
    return Imported(cid, size, len(block) + sum(child.total for child in children))


def directory_blocks(entries: Iterable[tuple[str, Imported]], profile: Profile = V1_2025) -> BlockStream:
    """The blocks of one directory, one block or shards; the names must be unique."""
    size = 0
    links = []
    for name, child in entries:
        links.append(Link(check_name(name), child.cid, child.total))
        size += child.size
    links.sort(key=lambda link: link.name.encode())
    for one, next_one in pairwise(links):
        if one.name == next_one.name:
            raise UnsafeName(one.name, "a name occurs twice in a directory")
    cid, block = profile.block(Node(tuple(links), unixfs_node.encode_data(Data(TYPE_DIRECTORY))))
    if profile.is_sharded(links, block):
        root = links[0]
        for shard, link in hamt.build(links, profile):
            yield shard
            root = link
        return Imported(root.cid, size, root.tsize)
    yield cid, block
    return Imported(cid, size, len(block) + sum(link.tsize for link in links))


@dataclass(frozen=True, slots=True)
class _Way:
    """How files become blocks, and who looks on."""

    profile: Profile
    watch: Watch | None = None


def tree_blocks(root: Path, limits: TreeLimits, watch: Watch | None = None, profile: Profile = V1_2025) -> BlockStream:
    """The blocks of a folder, read through descriptors so that nothing in it can lead the reader out of it."""
    descriptor = _open(root.name, os.fspath(root), None, stat.S_ISDIR)
    try:
        return (yield from _folder_blocks(descriptor, "", 0, Usage(limits), _Way(profile, watch)))
    finally:
        os.close(descriptor)


def _folder_blocks(folder: int, path: str, depth: int, usage: Usage, way: _Way) -> BlockStream:
    entries = []
    for name in _names(folder, path, usage.limits.max_files):
        usage.add_entry(depth)
        shown = f"{path}/{name}" if path else name
        descriptor = _open(shown, name, folder, lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        try:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                child = yield from _folder_blocks(descriptor, shown, depth + 1, usage, way)
            else:
                child = yield from _descriptor_blocks(descriptor, shown, usage, way)
        finally:
            os.close(descriptor)
        entries.append((name, child))
    return (yield from directory_blocks(entries, way.profile))


def _names(folder: int, path: str, max_files: int) -> list[str]:
    names = []
    with os.scandir(folder) as listing:
        for entry in listing:
            try:
                names.append(check_name(entry.name))
            except UnsafeName as exc:
                raise UnsafeName(f"{path}/{entry.name}" if path else entry.name, exc.problem) from exc
            if len(names) > max_files:
                raise ContentTooLarge("files and directories", max_files)
    return sorted(names)


def _open(shown: str, name: str, folder: int | None, wanted: Callable[[int], bool]) -> int:
    """Open a file of a wanted kind without following a link and without waking a device or waiting on a pipe."""
    try:
        before = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not wanted(before.st_mode):
            raise UnsafeName(shown, f"{_kind(before.st_mode)} is refused here")
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as exc:
        raise UnsafeName(shown, f"cannot be read: {exc.strerror}") from exc
    after = os.fstat(descriptor)
    if (before.st_dev, before.st_ino, before.st_mode) != (after.st_dev, after.st_ino, after.st_mode):
        os.close(descriptor)
        raise SourceChanged(shown)
    return descriptor


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a directory",
        stat.S_IFREG: "a file",
    }
    return kinds.get(stat.S_IFMT(mode), "this kind of file")


def _descriptor_blocks(descriptor: int, shown: str, usage: Usage, way: _Way) -> BlockStream:
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        raise UnsafeName(shown, f"{_kind(before.st_mode)} is refused here")
    usage.add_bytes(before.st_size)  # first, so that a sparse file of terabytes costs nothing
    result = yield from _file_tree(_leaves(descriptor, before.st_size, shown, way), way.profile)
    after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SourceChanged(shown)
    return result


def _leaves(descriptor: int, size: int, shown: str, way: _Way) -> Iterator[_Leaf]:
    """The chunks of a file. Where nobody watches, the thread that hashes one reads it, too: its cache has it then."""
    chunk_bytes = way.profile.chunk_bytes
    offsets = range(0, size, chunk_bytes)

    def read(offset: int) -> bytes:
        return _read_chunk(descriptor, offset, min(chunk_bytes, size - offset), shown)

    if way.watch is not None:
        return in_order(partial(_leaf, way.profile), way.watch(shown, map(read, offsets)), _is_long)
    return in_order(
        lambda offset: _leaf(way.profile, read(offset)), offsets, lambda offset: size - offset >= LONG_BYTES
    )


def _read_chunk(descriptor: int, offset: int, wanted: int, shown: str) -> bytes:
    chunk = os.pread(descriptor, wanted, offset)
    while len(chunk) < wanted:  # rarely: a file system may give less than there is
        piece = os.pread(descriptor, wanted - len(chunk), offset + len(chunk))
        if not piece:
            raise SourceChanged(shown)
        chunk += piece
    return chunk


def _slices(content: bytes) -> Iterator[bytes]:
    for offset in range(0, len(content), CHUNK_BYTES):
        yield content[offset : offset + CHUNK_BYTES]


def listing_blocks(files: Mapping[str, bytes], limits: TreeLimits) -> BlockStream:
    """The blocks of a directory whose files are held in memory; see import_listing."""
    usage = Usage(limits)
    root: _Folder = {}
    for path, content in files.items():
        *parents, name = path.removesuffix("/").split("/")
        folder = root
        for parent in parents:
            below = folder.setdefault(check_name(parent), {})
            if isinstance(below, bytes):
                raise InvalidInput(path, f"{parent!r} is a file as well as a directory")
            folder = below
        entry: _Folder | bytes = {} if path.endswith("/") else content
        if folder.setdefault(check_name(name), entry) is not entry:
            raise InvalidInput(path, "this path is given twice, or as a file and as a directory")
    return (yield from _listing_folder_blocks(root, 0, usage))


_Folder = dict[str, "_Folder | bytes"]


def _listing_folder_blocks(folder: _Folder, depth: int, usage: Usage) -> BlockStream:
    entries = []
    for name, entry in folder.items():
        usage.add_entry(depth)
        if isinstance(entry, bytes):
            usage.add_bytes(len(entry))
            child = yield from file_blocks(_slices(entry))
        else:
            child = yield from _listing_folder_blocks(entry, depth + 1, usage)
        entries.append((name, child))
    return (yield from directory_blocks(entries))


def store_blocks(sink: BlockSink, blocks: BlockStream) -> Imported:
    """Have a stream of blocks stored: what it became. After an error of the sink it is closed: no thread, no file."""
    kept: list[Imported] = []

    def stream() -> Iterator[Block]:
        kept.append((yield from blocks))

    with closing(blocks):
        sink.put_many(stream())
    return kept[0]


def only_hash(blocks: BlockStream) -> Imported:
    """Run a stream of blocks without keeping any: what would this be called?"""
    while True:
        try:
            next(blocks)
        except StopIteration as done:
            result: Imported = done.value
            return result
