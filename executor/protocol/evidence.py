"""The proof that a node's key signed two outcomes of one request: what `NodeRegistry.slash` takes. Pure.

It says nothing of outputs but hashes, so that it can be shown to anybody.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, ValidationError

from executor.errors import InvalidInput
from executor.protocol.leases import Address, Hash, HexBytes, Message
from executor.protocol.signing import Scope, attestation_message, recover

MAX_EVIDENCE_BYTES = 16 * 1024


class SignedOutcome(Message):
    """One attestation: the members of the EIP-712 struct but for the request hash, and the signature."""

    outcome_hash: Hash
    receipt_hash: Hash
    log_root: Hash
    log_size: int = Field(ge=0, lt=2**64)
    relayer: Address
    signature: HexBytes = Field(min_length=65, max_length=65)


class Evidence(Message):
    """Two attestations of one key for one request. Nothing in it is believed: `check_evidence` recovers the key.

    contract: the ComputeBridge in whose domain both are signed.
    """

    format: Literal["insula-evidence/1"] = "insula-evidence/1"
    chain_id: int = Field(ge=1, lt=2**63)
    contract: Address
    request_hash: Hash
    key: Address
    first: SignedOutcome
    second: SignedOutcome

    @classmethod
    def read(cls, data: bytes, where: str) -> Self:
        """The evidence in a file or an answer. InvalidInput that names the field."""
        if len(data) > MAX_EVIDENCE_BYTES:
            raise InvalidInput(where, f"has more than {MAX_EVIDENCE_BYTES} bytes; it is no insula-evidence/1")
        try:
            return cls.model_validate_json(data)
        except ValidationError as exc:
            first = exc.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"{where}: {name}" if name else where, first["msg"]) from exc


def check_evidence(evidence: Evidence) -> None:
    """Whether it proves what it says, as far as mathematics goes. InvalidInput that names the field."""
    if evidence.first.outcome_hash == evidence.second.outcome_hash:
        raise InvalidInput("second.outcome_hash", "is that of the first: the same outcome twice is no contradiction")
    for name, said in (("first", evidence.first), ("second", evidence.second)):
        signer = signer_of(evidence, said, f"{name}.signature")
        if signer != evidence.key:
            raise InvalidInput(
                f"{name}.signature",
                f"is {signer}'s, not {evidence.key}'s, over this outcome for request 0x{evidence.request_hash.hex()} "
                f"(chain {evidence.chain_id}, contract {evidence.contract})",
            )


def signer_of(evidence: Evidence, said: SignedOutcome, field: str) -> str:
    """Who signed one of the two. InvalidInput(field) for a signature that is none."""
    message = attestation_message(
        Scope(evidence.chain_id, evidence.contract),
        request_hash=evidence.request_hash,
        outcome_hash=said.outcome_hash,
        receipt_hash=said.receipt_hash,
        log_root=said.log_root,
        log_size=said.log_size,
        relayer=said.relayer,
    )
    try:
        return recover(message, said.signature)
    except InvalidInput as exc:
        raise InvalidInput(field, exc.problem) from exc
