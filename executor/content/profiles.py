"""The UnixFS profiles that files and directories become blocks by. Pure.

Source: https://specs.ipfs.tech/ipips/ipip-0499/. What both have in common stands in `importer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from executor.content import dagpb, unixfs_node
from executor.content.blocks import Block, Verified
from executor.content.dagpb import Link, Node
from executor.content.unixfs_node import TYPE_FILE, Data
from executor.errors import InvalidInput
from executor.protocol.cid import CID_V0_LENGTH, DAG_PB, RAW, Cid

SHARD_ABOVE_BYTES: Final = 256 * 1024
"""A directory that a profile takes to be larger than this is sharded."""


@dataclass(frozen=True, slots=True)
class Profile:
    """chunk_bytes: of every chunk of a file but the last. max_children: of a node of a file. is_old: CIDv0 throughout,
    chunks in dag-pb, and the size of a directory taken to be that of its names and CIDs alone.
    """

    name: str
    chunk_bytes: int
    max_children: int
    is_old: bool = False

    def leaf(self, chunk: bytes) -> Block:
        """The block of a chunk."""
        if not self.is_old:
            return Verified.of(RAW, chunk)
        return self.block(Node((), unixfs_node.encode_data(Data(TYPE_FILE, chunk or None, len(chunk)))))

    def block(self, node: Node) -> Block:
        """The block of a node."""
        return Verified.of(DAG_PB, dagpb.encode(node, old_cids=self.is_old))

    def is_sharded(self, links: Sequence[Link], block: bytes) -> bool:
        """Whether a directory with these links, all in that one block, is made of shards instead."""
        if not self.is_old:
            return len(block) > SHARD_ABOVE_BYTES
        return sum(len(link.name.encode()) + CID_V0_LENGTH for link in links) > SHARD_ABOVE_BYTES

    def text_of(self, cid: Cid) -> str:
        """How this profile writes a CID."""
        return cid.old_text if self.is_old else str(cid)


V1_2025: Final = Profile("unixfs-v1-2025", chunk_bytes=1024 * 1024, max_children=1024)
V0_2015: Final = Profile("unixfs-v0-2015", chunk_bytes=256 * 1024, max_children=174, is_old=True)
PROFILES: Final = {profile.name: profile for profile in (V1_2025, V0_2015)}


def profile_named(name: str) -> Profile:
    """The profile of that name; InvalidInput."""
    if name not in PROFILES:
        raise InvalidInput("--profile", f"one of {', '.join(PROFILES)}")
    return PROFILES[name]
