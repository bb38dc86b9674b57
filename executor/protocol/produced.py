"""Who attested an input: that it is the output of an earlier request, and whose keys signed so. Pure.

A bridge tells nodes (`GET /v1/outputs/{cid}`), a receipt keeps it as the annotation `producedBy` of a dependency.
Nobody is believed: the outcome must name the CID, and each signature must be of the key that it is said to be of, over
that outcome. Whether such a key is a registered node's, and the result stands on the chain, only the chain says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.leases import Address, Amount, Hash, HexBytes, Signature
from executor.protocol.signing import Scope, attestation_message, recover
from executor.protocol.wire import MAX_NODES, Outcome

MAX_PRODUCERS: Final = 4  # requests with the same output that a bridge names
MAX_OUTCOME_BYTES: Final = 16 * 1024
FIELD: Final = "producedBy"


class _Camel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class ProducerWord(_Camel):
    """One node's attestation: the members of the EIP-712 struct that are its own, its key, its signature."""

    key: Address
    receipt_hash: Hash
    log_root: Hash
    log_size: int = Field(ge=1, lt=2**53)
    relayer: Address
    signature: Signature


class Produced(_Camel):
    """An earlier request of the same contract. request_id: only the chain can say whether it goes with the hash."""

    request_id: Amount
    request_hash: Hash
    outcome_hash: Hash
    outcome: HexBytes = Field(max_length=MAX_OUTCOME_BYTES)
    attestations: tuple[ProducerWord, ...] = Field(min_length=1, max_length=MAX_NODES)

    def plain(self) -> dict[str, Any]:
        """As JSON, as it stands in a receipt."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def keys(self) -> tuple[str, ...]:
        """Who is said to have signed."""
        return tuple(word.key for word in self.attestations)


class Producers(_Camel):
    """What a bridge answers of one CID."""

    produced: tuple[Produced, ...] = Field(max_length=MAX_PRODUCERS)


def check_produced(produced: Produced, cid: Cid, scope: Scope) -> None:
    """Whether all of it holds for this CID, as far as mathematics goes. InvalidInput("producedBy")."""
    try:
        outcome = Outcome.decode(produced.outcome)
    except InvalidInput as exc:
        raise InvalidInput(FIELD, f"its outcome does not decode: {exc}") from exc
    if outcome.encode() != produced.outcome or outcome.hash != produced.outcome_hash:
        raise InvalidInput(FIELD, "its outcome hash is not that of its outcome")
    if outcome.output_cid != cid.binary:
        raise InvalidInput(FIELD, "its outcome has another output than this input")
    if len(set(produced.keys)) < len(produced.keys):
        raise InvalidInput(FIELD, "a key is there twice")
    for word in produced.attestations:
        message = attestation_message(
            scope,
            request_hash=produced.request_hash,
            outcome_hash=produced.outcome_hash,
            receipt_hash=word.receipt_hash,
            log_root=word.log_root,
            log_size=word.log_size,
            relayer=word.relayer,
        )
        try:
            signer = recover(message, word.signature)
        except InvalidInput as exc:
            raise InvalidInput(FIELD, exc.problem) from exc
        if signer != word.key:
            raise InvalidInput(FIELD, f"the signature is not {word.key}'s over this outcome of this request")


def producers_in(receipt: Mapping[str, Any]) -> Iterator[tuple[str, Cid, Produced | InvalidInput]]:
    """Name, CID and producer of every dependency of a parsed receipt that names one; the problem where it has none of
    our form. InvalidInput("receipt") if the receipt has another form.
    """
    try:
        items = receipt["predicate"]["buildDefinition"]["resolvedDependencies"]
        said = [
            (str(item["name"]), str(item["uri"]).removeprefix("ipfs://"), item["annotations"][FIELD])
            for item in items
            if FIELD in item.get("annotations", {})
        ]
    except (KeyError, TypeError, AttributeError) as exc:
        raise InvalidInput("receipt", "names no resolvedDependencies") from exc
    for name, cid, value in said:
        try:
            yield name, Cid.parse(cid), Produced.model_validate(value)
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            yield name, Cid.parse(cid), InvalidInput(FIELD, f"{where}: {first['msg']}")
