"""Whether what a node sends as its answer is what it says. Pure: signatures and hashes, no store and no chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.agreement import check_outcome
from bridge.store.leases import Answer
from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.leases import Attested
from executor.protocol.logproof import is_logged
from executor.protocol.receipt import dependency_cids, parse_receipt, receipt_hash
from executor.protocol.signing import Scope, attestation_message, is_enveloped, recover
from executor.protocol.wire import Outcome, Request


@dataclass(frozen=True)
class CheckedAnswer:
    """An answer whose parts belong together. output: the root that must be here in full, if there is one."""

    answer: Answer
    outcome: Outcome
    output: Cid | None


def check_answer(attested: Attested, request: Request, key: str, slot: int, relayer: str) -> CheckedAnswer:
    """The answer in `attested` to `request`. InvalidInput that names the field.

    It must be signed by `key` over this very request's hash, name `relayer`, and carry a receipt of this request and
    this outcome, so that nothing that would fail on-chain or in `verify` gets as far as the outbox.
    """
    outcome = attested.decoded()
    if outcome.encode() != attested.outcome:
        raise InvalidInput("outcome", "is not in its one ABI encoding: abi.encode(outcome)")
    output = check_outcome(request.order, outcome)
    if attested.relayer != relayer:
        raise InvalidInput("relayer", f"is {attested.relayer}; the lease names {relayer}")
    receipt = receipt_hash(attested.receipt)
    _check_signature(attested, request, outcome, receipt, key)
    _check_receipt(attested.receipt, request, outcome, key, slot)
    _check_record(attested, receipt, key)
    answer = Answer(
        outcome=attested.outcome,
        outcome_hash=outcome.hash,
        receipt=attested.receipt,
        receipt_hash=receipt,
        log_root=attested.log_root,
        log_size=attested.log_size,
        relayer=attested.relayer,
        signature=attested.signature,
        dsse_signature=attested.dsse_signature,
        log_proof=None if attested.log_proof is None else b"".join(attested.log_proof),
    )
    return CheckedAnswer(answer, outcome, output)


def _check_signature(attested: Attested, request: Request, outcome: Outcome, receipt: bytes, key: str) -> None:
    message = attestation_message(
        Scope(request.chain_id, request.contract),
        request_hash=request.hash,
        outcome_hash=outcome.hash,
        receipt_hash=receipt,
        log_root=attested.log_root,
        log_size=attested.log_size,
        relayer=attested.relayer,
    )
    if recover(message, attested.signature) != key:
        raise InvalidInput(
            "signature",
            f"is not {key}'s attestation of this outcome for request 0x{request.hash.hex()} "
            f"(chain {request.chain_id}, contract {request.contract})",
        )


def _check_record(attested: Attested, receipt: bytes, key: str) -> None:
    """The parts that older nodes do not send, where they are sent."""
    if attested.dsse_signature is not None and not is_enveloped(attested.receipt, attested.dsse_signature, key):
        raise InvalidInput("dsse_signature", f"is not {key}'s over the receipt's DSSE envelope")
    if attested.log_proof is not None and not is_logged(
        receipt, attested.log_root, attested.log_size, attested.log_proof
    ):
        raise InvalidInput("log_proof", "does not lead from the receipt to log_root, as the log's last entry")


def _check_receipt(receipt: bytes, request: Request, outcome: Outcome, key: str, slot: int) -> None:
    parsed = parse_receipt(receipt)
    try:
        parameters: dict[str, Any] = parsed["predicate"]["buildDefinition"]["externalParameters"]
        details: dict[str, Any] = parsed["predicate"]["runDetails"]
        said: Any = details["byproducts"][0]["annotations"]["outcomeHash"]
        by, invocation = str(details["builder"]["id"]), str(details["metadata"]["invocationId"])
        of = parameters["requestHash"]
    except (KeyError, IndexError, TypeError) as exc:
        raise InvalidInput("receipt", f"lacks a part: {exc}; executor/protocol/receipt.py makes them") from exc
    dependency_cids(parsed)
    if of != f"0x{request.hash.hex()}":
        raise InvalidInput("receipt", f"is for request {of!s:.80}, not for 0x{request.hash.hex()}")
    if said != f"0x{outcome.hash.hex()}":
        raise InvalidInput("receipt", f"is for outcome {said!s:.80}, not for 0x{outcome.hash.hex()}")
    if by != f"urn:insula:node:{key}":
        raise InvalidInput("receipt", f"is {by:.80}'s, not urn:insula:node:{key}'s")
    if not invocation.startswith(f"0x{request.hash.hex()}/{slot}/"):
        raise InvalidInput("receipt", f"is of invocation {invocation:.90}, not of slot {slot} of this request")
