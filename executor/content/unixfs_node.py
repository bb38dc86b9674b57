"""What one UnixFS block says: a chunk, a file, a directory or a shard of a directory. Pure.

Source: https://specs.ipfs.tech/unixfs/. Symbolic links (type 4) and the never used Metadata (type 3) are refused: no
content of ours has them, and nothing that we export follows one. `mode` and `mtime` are read over: they are not part
of what Insula promises about a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from executor.content import dagpb, protobuf
from executor.content.dagpb import Link
from executor.content.protobuf import ProtobufError
from executor.errors import MalformedBlock
from executor.protocol.cid import DAG_PB, RAW, Cid

TYPE_RAW: Final = 0
TYPE_DIRECTORY: Final = 1
TYPE_FILE: Final = 2
TYPE_SYMLINK: Final = 4
TYPE_SHARD: Final = 5

MURMUR3_X64_64: Final = 0x22
"""Multicodec of the one hash function of sharded directories."""
MAX_FANOUT: Final = 1024
MAX_EMPTY_CHUNKS: Final = 16
"""Chunks of no bytes in one node. Files that were cut short in place may end in one; thousands are nothing but work."""

_TYPE, _DATA, _FILE_SIZE, _BLOCK_SIZES, _HASH_TYPE, _FANOUT, _MODE, _MTIME = range(1, 9)
_NUMBERS: Final = {_TYPE, _FILE_SIZE, _BLOCK_SIZES, _HASH_TYPE, _FANOUT, _MODE}


@dataclass(frozen=True, slots=True)
class Data:
    """The UnixFS message inside a dag-pb node; None where a field is absent."""

    type: int
    data: bytes | None = None
    file_size: int | None = None
    block_sizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fanout: int | None = None


@dataclass(frozen=True, slots=True)
class FileNode:
    """A file or a part of one: its own bytes first, then those of each (child, size in bytes)."""

    data: bytes
    children: tuple[tuple[Cid, int], ...]
    size: int


@dataclass(frozen=True, slots=True)
class DirectoryNode:
    """A directory in one block; names are unique, in the order of the block."""

    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class ShardNode:
    """One node of a sharded directory: (bucket, the rest of the name or '' for a deeper shard, link)."""

    fanout: int
    buckets: tuple[tuple[int, str, Link], ...]


def encode_data(data: Data) -> bytes:
    """The UnixFS message, fields in ascending order as every implementation writes them."""
    out = protobuf.varint_field(_TYPE, data.type)
    if data.data is not None:
        out += protobuf.bytes_field(_DATA, data.data)
    if data.file_size is not None:
        out += protobuf.varint_field(_FILE_SIZE, data.file_size)
    out += b"".join(protobuf.varint_field(_BLOCK_SIZES, size) for size in data.block_sizes)
    if data.hash_type is not None:
        out += protobuf.varint_field(_HASH_TYPE, data.hash_type)
    if data.fanout is not None:
        out += protobuf.varint_field(_FANOUT, data.fanout)
    return out


def decode_data(message: bytes) -> Data:
    """Read a UnixFS message; ProtobufError where it is not one."""
    numbers: dict[int, int] = {}
    texts: dict[int, bytes] = {}
    block_sizes: list[int] = []
    for number, value in protobuf.fields(message):
        if isinstance(value, int) and number == _BLOCK_SIZES:
            block_sizes.append(value)
        elif number in numbers or number in texts:
            raise ProtobufError(f"field {number} is repeated")
        elif isinstance(value, int) and number in _NUMBERS:
            numbers[number] = value
        elif isinstance(value, bytes) and number in {_DATA, _MTIME}:
            texts[number] = value
        else:
            raise ProtobufError(f"unexpected field {number}")
    if _TYPE not in numbers:
        raise ProtobufError("the type is missing")
    return Data(
        type=numbers[_TYPE],
        data=texts.get(_DATA),
        file_size=numbers.get(_FILE_SIZE),
        block_sizes=tuple(block_sizes),
        hash_type=numbers.get(_HASH_TYPE),
        fanout=numbers.get(_FANOUT),
    )


def parse(cid: Cid, block: bytes, most_links: int | None = None) -> FileNode | DirectoryNode | ShardNode:
    """Read a block as UnixFS; a raw block is a file of one chunk. MalformedBlock says what is wrong.

    most_links: what has more is refused before they are read.
    """
    if cid.codec == RAW:
        return FileNode(block, (), len(block))
    if cid.codec != DAG_PB:
        raise MalformedBlock(cid, "not a file or directory: its codec is dag-cbor")
    node = dagpb.decode(block, cid, most_links)
    if node.data is None:
        raise MalformedBlock(cid, "not UnixFS: the data is missing")
    try:
        data = decode_data(node.data)
        if data.type in {TYPE_FILE, TYPE_RAW}:
            return _file(data, node.links)
        if data.type == TYPE_DIRECTORY:
            return _directory(node.links)
        if data.type == TYPE_SHARD:
            return _shard(data, node.links)
    except ProtobufError as exc:
        raise MalformedBlock(cid, f"not UnixFS: {exc}") from exc
    kind = "symbolic links are" if data.type == TYPE_SYMLINK else f"UnixFS type {data.type} is"
    raise MalformedBlock(cid, f"{kind} not accepted")


def _file(data: Data, links: tuple[Link, ...]) -> FileNode:
    if len(links) != len(data.block_sizes):
        raise ProtobufError(f"{len(links)} chunks, but {len(data.block_sizes)} chunk sizes")
    if any(link.name for link in links):
        raise ProtobufError("a chunk of a file has a name")
    if data.block_sizes.count(0) > MAX_EMPTY_CHUNKS:
        raise ProtobufError(f"more than {MAX_EMPTY_CHUNKS} chunks have no bytes")
    own = data.data or b""
    size = len(own) + sum(data.block_sizes)
    if (data.file_size or 0) != size:
        raise ProtobufError(f"the file size says {data.file_size or 0}, the chunk sizes add up to {size}")
    return FileNode(own, tuple(zip((link.cid for link in links), data.block_sizes, strict=True)), size)


def _directory(links: tuple[Link, ...]) -> DirectoryNode:
    if len({link.name for link in links}) != len(links):
        raise ProtobufError("a name occurs twice in a directory")
    return DirectoryNode(links)


def _shard(data: Data, links: tuple[Link, ...]) -> ShardNode:
    fanout = data.fanout or 0
    if not 8 <= fanout <= MAX_FANOUT or fanout & (fanout - 1):
        raise ProtobufError(f"a fanout of {fanout} is not a power of two from 8 to {MAX_FANOUT}")
    if data.hash_type != MURMUR3_X64_64:
        raise ProtobufError("a sharded directory must use the hash function murmur3-x64-64")
    width = prefix_width(fanout)
    buckets = []
    for link in links:
        prefix = link.name[:width]
        if len(prefix) < width or prefix.strip("0123456789ABCDEF") or int(prefix, 16) >= fanout:
            raise ProtobufError(f"{link.name[:80]!r} does not start with a bucket number")
        buckets.append((int(prefix, 16), link.name[width:], link))
    numbers = [bucket for bucket, _, _ in buckets]
    if len(set(numbers)) != len(numbers) or bitfield(numbers) != (data.data or b"").lstrip(b"\0"):
        raise ProtobufError("the bit field of a shard does not agree with its links")
    return ShardNode(fanout, tuple(buckets))


def prefix_width(fanout: int) -> int:
    """Hex digits that stand before each name in a shard."""
    return len(f"{fanout - 1:X}")


def bitfield(buckets: list[int]) -> bytes:
    """The used buckets as a big-endian number without leading zero bytes, bit i for bucket i."""
    number = sum(1 << bucket for bucket in buckets)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
