"""What a node's log says of a receipt: that it is the last entry of what its attestation anchors. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from executor.protocol.merkle import leaf_hash, root_from_proof


def is_logged(receipt_hash: bytes, log_root: bytes, log_size: int, proof: Sequence[bytes]) -> bool:
    """Whether `proof` leads from this entry, the last of `log_size`, to `log_root`."""
    return root_from_proof(leaf_hash(receipt_hash), log_size - 1, log_size, proof) == log_root


def hashes_of(joined: bytes) -> tuple[bytes, ...]:
    """Hashes of 32 bytes that are kept in a row."""
    return tuple(joined[at : at + 32] for at in range(0, len(joined), 32))
