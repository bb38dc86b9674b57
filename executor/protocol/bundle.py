"""What a bridge hands out for verification: everything but the content, which is fetched by CID. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from executor.errors import InvalidInput
from executor.protocol.canonical import DepthError, DuplicateKeyError, canonical_json, sha256, strict_json
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
    node_id: int = Field(ge=1, lt=2**53)
    operator: Address
    key: Address
    receipt: HexBytes = Field(max_length=MAX_RECEIPT_BYTES)
    log_root: Hash
    log_size: int = Field(ge=1, lt=2**53)
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
    """One settled request. Nothing in it is believed: each part is checked against the next, and the chain.

    digests: SHA-256 of each field's canonical JSON, by its path, so that a change anywhere is found and named. They
    are no signature: who changes a field on purpose changes its digest, too, and then the signatures tell, or, of what
    is in `CHAIN_ONLY`, the chain. Bundles of format 1 have none.
    """

    format: Literal["insula-bundle/1", "insula-bundle/2"] = "insula-bundle/2"
    request_hash: Hash
    request: RequestMessage
    request_tx: Hash
    request_block_number: int = Field(ge=0, lt=2**53)
    spec: HexBytes = Field(max_length=512 * 1024)
    outcome: HexBytes = Field(max_length=32 * 1024)
    settled_tx: Hash
    settled_block_number: int = Field(ge=0, lt=2**53)
    attestations: tuple[BundleAttestation, ...] = Field(max_length=MAX_NODES)
    digests: dict[str, Hash] = Field(default={}, max_length=1000)

    def sealed(self) -> Self:
        """The same with the digests of its fields."""
        return self.model_copy(update={"digests": self.hashes()})

    def hashes(self) -> dict[str, bytes]:
        """Path of each field to the SHA-256 of its value. InvalidInput for a number beyond 2**53."""
        fields = self.model_dump(mode="json", exclude={"digests", "format"})
        return {path: sha256(canonical_json(value)) for path, value in sorted(_leaves(fields))}

    def altered(self) -> list[str]:
        """Paths of the fields that are not as their digests say, that have none, or are not there."""
        found = self.hashes()
        return sorted(path for path in found.keys() | self.digests.keys() if found.get(path) != self.digests.get(path))


#: what no signature covers: only the chain says these
CHAIN_ONLY = (
    "request.deadline",
    "request_tx",
    "request_block_number",
    "settled_tx",
    "settled_block_number",
    "attestations.N.node_id",
    "attestations.N.operator",
)


def parse_bundle(raw: bytes) -> Bundle:
    """The bundle in these bytes. InvalidInput that names the field.

    Each value has one form only (hexadecimal digits in lower case, addresses with their checksum), so that whatever
    the bytes say twice, or in another way, is found; white space and the order of keys are free.
    """
    try:
        plain = strict_json(raw.decode(), max_depth=8)
        if not isinstance(plain, dict):
            raise InvalidInput("--bundle", "is no bundle: a JSON object is expected")
    except (ValueError, DepthError) as exc:
        why = f"the key {exc.key!r:.60} is there twice" if isinstance(exc, DuplicateKeyError) else f"{exc!s:.100}"
        raise InvalidInput("--bundle", f"is no bundle, or cut: {why}; make one with insula job export") from exc
    try:
        bundle = Bundle.model_validate(plain)
    except ValidationError as exc:
        first = exc.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"bundle: {field}", first["msg"]) from exc
    if (where := _first_difference(plain, bundle.model_dump(mode="json", exclude_unset=True))) is not None:
        raise InvalidInput(f"bundle: {where}", "is not written in its one form (lower-case hex, addresses checksummed)")
    if (bundle.format == "insula-bundle/2") is not bool(bundle.digests):
        raise InvalidInput("bundle: digests", f"do not go with the format {bundle.format}")
    return bundle


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every field that is no object, with its path; of a list of objects, each object's."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = {str(index): item for index, item in enumerate(value)}
    if not isinstance(value, dict):
        yield path, value
        return
    for name, item in value.items():
        yield from _leaves(item, f"{path}.{name}" if path else name)


def _first_difference(given: dict[str, Any], meant: dict[str, Any]) -> str | None:
    before, after = dict(_leaves(given)), dict(_leaves(meant))
    for path in sorted(before.keys() | after.keys()):
        if path not in before or path not in after or _strictly(before[path]) != _strictly(after[path]):
            return path
    return None


def _strictly(value: Any) -> tuple[type, Any]:
    """1 and true and "1" are not the same here."""
    return (list, [_strictly(item) for item in value]) if isinstance(value, list) else (type(value), value)
