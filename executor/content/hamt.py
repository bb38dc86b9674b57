"""Sharded directories (HAMT): building, listing, finding a name. Pure but for the block source that is passed in.

Source: https://specs.ipfs.tech/unixfs/ ("HAMTDirectory") and IPIP-499 (fanout 256). Bits of the hash are taken from the
most significant end, and the bit field is a big-endian number without leading zeros: what Kubo and Helia write.
A shard is trusted no further than its names: each must hash to the very path it was found under, and a shard without
names is refused, so a small block that links to itself a million times over is refused at the first wrong name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from executor.content import unixfs_node
from executor.content.blocks import Block, BlockSource
from executor.content.dagpb import Link, Node
from executor.content.murmur3 import murmur3_x64_64
from executor.content.profiles import Profile
from executor.content.unixfs_node import MAX_FANOUT, MURMUR3_X64_64, TYPE_SHARD, Data, ShardNode
from executor.errors import MalformedBlock, UnsafeName
from executor.protocol.cid import Cid

FANOUT: Final = 256
_HASH_BITS: Final = 64
_HashedLink = tuple[int, Link]


def build(links: Sequence[Link], profile: Profile) -> Iterator[tuple[Block, Link]]:
    """The blocks of a sharded directory, children first, the root last; each with an unnamed link to it."""
    return _build_shard([(murmur3_x64_64(link.name.encode()), link) for link in links], _bits(FANOUT), profile)


def _build_shard(links: list[_HashedLink], used_bits: int, profile: Profile) -> Iterator[tuple[Block, Link]]:
    if used_bits > _HASH_BITS:
        raise UnsafeName(links[0][1].name, "this name and another have the same hash, no directory can hold both")
    buckets: dict[int, list[_HashedLink]] = {}
    for hashed in links:
        buckets.setdefault(_bucket(hashed[0], used_bits, FANOUT), []).append(hashed)
    shard_links = []
    for number in sorted(buckets):
        inside = buckets[number]
        if len(inside) == 1:
            link = inside[0][1]
            name = link.name
        else:
            for built, below in _build_shard(inside, used_bits + _bits(FANOUT), profile):
                yield built, below
                link = below  # the last one is the shard itself
            name = ""
        shard_links.append(Link(f"{number:02X}{name}", link.cid, link.tsize))
    data = Data(
        TYPE_SHARD,
        data=unixfs_node.bitfield(list(buckets)),
        hash_type=MURMUR3_X64_64,
        fanout=FANOUT,
    )
    cid, block = profile.block(Node(tuple(shard_links), unixfs_node.encode_data(data)))
    yield (cid, block), Link("", cid, len(block) + sum(link.tsize for link in shard_links))


def entries(source: BlockSource, root: Cid, shard: ShardNode) -> Iterator[Link]:
    """Every entry of a sharded directory, in the order of the hashes."""
    return _entries(source, root, shard, 0, 0)


def _entries(source: BlockSource, cid: Cid, shard: ShardNode, path: int, used_bits: int) -> Iterator[Link]:
    used_bits += _bits(shard.fanout)
    if used_bits > _HASH_BITS:
        raise MalformedBlock(cid, "a sharded directory is deeper than its hash is long")
    for number, name, link in shard.buckets:
        here = path << _bits(shard.fanout) | number
        if name:
            if murmur3_x64_64(name.encode()) >> (_HASH_BITS - used_bits) != here:
                raise MalformedBlock(cid, f"{name[:80]!r} stands in a shard where its hash does not belong")
            yield Link(name, link.cid, link.tsize)
        else:
            child = _child(source, link.cid, shard.fanout)
            if not child.buckets:
                raise MalformedBlock(link.cid, "a shard of a directory is empty")
            yield from _entries(source, link.cid, child, here, used_bits)


def find(source: BlockSource, shard: ShardNode, name: str) -> Link | None:
    """The entry of that name, reading one block a level."""
    hashed = murmur3_x64_64(name.encode())
    used_bits = _bits(shard.fanout)
    while used_bits <= _HASH_BITS:
        number = _bucket(hashed, used_bits, shard.fanout)
        found = next((bucket for bucket in shard.buckets if bucket[0] == number), None)
        if found is None or (found[1] and found[1] != name):
            return None
        if found[1]:
            return Link(name, found[2].cid, found[2].tsize)
        shard = _child(source, found[2].cid, shard.fanout)
        used_bits += _bits(shard.fanout)
    return None


def _child(source: BlockSource, cid: Cid, fanout: int) -> ShardNode:
    node = unixfs_node.parse(cid, source.get(cid), MAX_FANOUT)
    if not isinstance(node, ShardNode) or node.fanout != fanout:
        raise MalformedBlock(cid, "not a shard of its directory")
    return node


def _bits(fanout: int) -> int:
    return fanout.bit_length() - 1


def _bucket(hashed: int, used_bits: int, fanout: int) -> int:
    return hashed >> (_HASH_BITS - used_bits) & (fanout - 1)
