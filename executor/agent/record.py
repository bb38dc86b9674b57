"""From a decision to a signed record: the receipt, bounded in size, and the one signature."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from executor.agent.parts import Decided, Work
from executor.errors import InsulaError
from executor.ledger import Draft, SignedRecord
from executor.protocol.conversions import conversion_report
from executor.protocol.dsse import envelope_digest
from executor.protocol.receipt import Run, receipt_bytes, receipt_hash
from executor.protocol.signing import attestation_message
from executor.protocol.wire import Outcome

MAX_RECEIPT_BYTES = 192 * 1024  # in hex, with the outcome, it must fit one JSON body (leases.MAX_JSON_BYTES)
MAX_MANIFEST_BYTES = 96 * 1024
MAX_DETAIL_CHARS = 500


class ReceiptTooLarge(InsulaError):
    """The sandbox's own account of the run does not fit into a receipt."""


def sign(work: Work, decided: Decided) -> SignedRecord:
    """The one record of this request: what was decided now, or what was signed before."""
    parts, lease, request = work.parts, work.lease, work.request
    receipt = make_receipt(work, decided)
    draft = Draft(
        request_hash=request.hash,
        slot=lease.slot,
        outcome=decided.outcome.encode(),
        receipt=receipt,
        relayer=lease.relayer,
        dsse_signature=parts.key.sign_digest(envelope_digest(receipt)),
    )

    def make(log_root: bytes, log_size: int) -> bytes:
        message = attestation_message(
            parts.config.scope,
            request_hash=draft.request_hash,
            outcome_hash=Outcome.decode(draft.outcome).hash,
            receipt_hash=receipt_hash(receipt),
            log_root=log_root,
            log_size=log_size,
            relayer=draft.relayer,
        )
        return parts.key.sign(message)

    return parts.ledger.sign_once(draft, make, parts.clock())


def make_receipt(work: Work, decided: Decided) -> bytes:
    """The receipt of an execution, at most MAX_RECEIPT_BYTES. ReceiptTooLarge."""
    policy = work.parts.policy
    run = Run(
        key=work.parts.key.address,
        slot=work.lease.slot,
        attempt=work.lease.attempt,
        started_at=decided.started_at,
        finished_at=decided.finished_at,
        dependencies=decided.dependencies,
        runtime=decided.runtime,
        policy={
            "sha256": policy.hash.hex(),
            "release": policy.release.mode,
            "chainChecked": work.parts.chain is not None,
        },
        manifest=bounded_rows(decided.manifest),
        detail=one_line(decided.detail),
        conversion=conversion_report(work.request.order, decided.spec),
        release=decided.release,
    )
    receipt = receipt_bytes(work.request, decided.spec, decided.outcome, run)
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise ReceiptTooLarge(f"the receipt has {len(receipt)} bytes; at most {MAX_RECEIPT_BYTES} are sent")
    return receipt


def one_line(text: str) -> str:
    """Text of a job's author as one bounded line that every encoding and terminal can take."""
    cut = text[:MAX_DETAIL_CHARS]
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)


def bounded_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first rows of a manifest, and how many are left out: all of them follow from the output's CID anyway."""
    kept: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        size += len(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if size > MAX_MANIFEST_BYTES:
            kept.append({"omitted": len(rows) - len(kept)})
            break
        kept.append(row)
    return kept
