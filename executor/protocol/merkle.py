"""The root of an append-only log: RFC 6962, section 2.1 (SHA-256, leaf prefix 0x00, node prefix 0x01). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """MTH of leaf hashes; SHA-256 of nothing for an empty log."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    return _fold(_peaks(leaves))


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH(index, leaves) of RFC 6962 section 2.1.1: sibling hashes from the leaf up."""
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_proof(leaves[:split], index), root_of(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), root_of(leaves[:split])]


def root_from_proof(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that `proof` gives for a leaf hash at `index` of `size`; None if the proof has the wrong form."""
    if not 0 <= index < size:
        return None
    if size == 1:
        return leaf if not proof else None
    if not proof:
        return None
    split = _split(size)
    *rest, sibling = proof
    if index < split:
        left = root_from_proof(leaf, index, split, rest)
        return None if left is None else node_hash(left, sibling)
    right = root_from_proof(leaf, index - split, size - split, rest)
    return None if right is None else node_hash(sibling, right)


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _peaks(leaves: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Roots of the full subtrees, left to right, as (leaf count, root)."""
    stack: list[tuple[int, bytes]] = []
    for leaf in leaves:
        size, top = 1, leaf
        while stack and stack[-1][0] == size:
            left_size, left = stack.pop()
            size, top = left_size + size, node_hash(left, top)
        stack.append((size, top))
    return stack


def _fold(peaks: list[tuple[int, bytes]]) -> bytes:
    _, root = peaks[-1]
    for _, left in reversed(peaks[:-1]):
        root = node_hash(left, root)
    return root
