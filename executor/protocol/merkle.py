"""The tree of an append-only log: RFC 6962, section 2.1 (SHA-256, leaf prefix 0x00, node prefix 0x01). Pure.

Roots, proofs that an entry is in a log, and proofs that one log is the beginning of another.
"""

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


class Tree:
    """A tree that grows. Keeps the roots of its full subtrees only."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[tuple[int, bytes]] = []

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash."""
        _push(self._peaks, leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root now."""
        return _fold(self._peaks) if self._peaks else root_of([])


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


def consistency_proof(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """PROOF(first, leaves) of RFC 6962 section 2.1.2: that the first 0 < first <= len(leaves) are its beginning."""
    return _subproof(leaves, first, is_whole=True)


def _subproof(leaves: Sequence[bytes], first: int, *, is_whole: bool) -> list[bytes]:
    if first == len(leaves):
        return [] if is_whole else [root_of(leaves)]
    split = _split(len(leaves))
    if first <= split:
        return [*_subproof(leaves[:split], first, is_whole=is_whole), root_of(leaves[split:])]
    return [*_subproof(leaves[split:], first - split, is_whole=False), root_of(leaves[:split])]


def is_consistent(first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the log of `first` entries is the beginning of the one of `second`; both above 0."""
    if not 0 < first <= second:
        return False
    if first == second:
        return first_root == second_root and not proof
    return _roots(first, second, list(proof), first_root, is_whole=True) == (first_root, second_root)


def _roots(first: int, second: int, proof: list[bytes], known: bytes, *, is_whole: bool) -> tuple[bytes, bytes] | None:
    """The roots that a proof gives for the first `first` and all `second` leaves; None where it has the wrong form.

    known: the root of the first log, which the proof leaves out where it is a whole subtree.
    """
    if first == second:
        if is_whole:
            return None if proof else (known, known)
        return (proof[0], proof[0]) if len(proof) == 1 else None
    if not proof:
        return None
    split = _split(second)
    *rest, sibling = proof
    if first <= split:
        found = _roots(first, split, rest, known, is_whole=is_whole)
        return None if found is None else (found[0], node_hash(found[1], sibling))
    found = _roots(first - split, second - split, rest, known, is_whole=False)
    return None if found is None else (node_hash(sibling, found[0]), node_hash(sibling, found[1]))


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _peaks(leaves: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Roots of the full subtrees, left to right, as (leaf count, root)."""
    stack: list[tuple[int, bytes]] = []
    for leaf in leaves:
        _push(stack, leaf)
    return stack


def _push(stack: list[tuple[int, bytes]], leaf: bytes) -> None:
    size, top = 1, leaf
    while stack and stack[-1][0] == size:
        left_size, left = stack.pop()
        size, top = left_size + size, node_hash(left, top)
    stack.append((size, top))


def _fold(peaks: list[tuple[int, bytes]]) -> bytes:
    _, root = peaks[-1]
    for _, left in reversed(peaks[:-1]):
        root = node_hash(left, root)
    return root
