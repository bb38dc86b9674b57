"""What a bridge hands out for verification: everything but the content, which is fetched by CID. Pure."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from executor.protocol.leases import (
    MAX_RECEIPT_BYTES,
    Address,
    Hash,
    HexBytes,
    LogProof,
    Message,
    RequestMessage,
    Signature,
)
from executor.protocol.wire import MAX_NODES, Attestation

MAX_BUNDLE_BYTES = 16 * 2**20


class BundleAttestation(Message):
    """One node's word, with the receipt that it stands on."""

    slot: int = Field(ge=1, le=MAX_NODES)
    node_id: int = Field(ge=1, lt=2**63)
    operator: Address
    key: Address
    receipt: HexBytes = Field(max_length=MAX_RECEIPT_BYTES)
    log_root: Hash
    log_size: int = Field(ge=1, lt=2**63)
    relayer: Address
    signature: Signature
    dsse_signature: Signature | None = None
    log_proof: LogProof | None = None

    def attestation(self, receipt_hash: bytes) -> Attestation:
        """As the contract took it, given the hash of `receipt`."""
        return Attestation(
            receipt_hash=receipt_hash,
            log_root=self.log_root,
            log_size=self.log_size,
            relayer=self.relayer,
            signature=self.signature,
        )


class Bundle(Message):
    """One settled request. Nothing in it is believed: each part is checked against the next, and the chain."""

    format: Literal["insula-bundle/1"] = "insula-bundle/1"
    request_hash: Hash
    request: RequestMessage
    request_tx: Hash
    request_block_number: int = Field(ge=0, lt=2**63)
    spec: HexBytes = Field(max_length=512 * 1024)
    outcome: HexBytes = Field(max_length=32 * 1024)
    settled_tx: Hash
    settled_block_number: int = Field(ge=0, lt=2**63)
    attestations: tuple[BundleAttestation, ...] = Field(max_length=MAX_NODES)
