"""What verification needs of a settled request: `executor.protocol.bundle.Bundle`, from our rows."""

from __future__ import annotations

from bridge.jobs import JobState
from bridge.store.jobs import Job
from bridge.store.leases import Slot
from executor.errors import InvalidInput
from executor.protocol.bundle import Bundle, BundleAttestation
from executor.protocol.leases import RequestMessage
from executor.protocol.logproof import hashes_of

SHOWN = frozenset({JobState.POSTED, JobState.FINAL})


class NotSettled(InvalidInput):
    """Outputs and attestations are shown to nobody before an outcome stands on-chain."""

    def __init__(self, job: Job) -> None:
        super().__init__("ref", f"request {job.request.id} is {job.state}; there is a bundle once it is posted")


def bundle_of(job: Job, slots: list[Slot]) -> Bundle:
    """The bundle of a job whose outcome stands on-chain; NotSettled."""
    if job.state not in SHOWN or job.outcome is None or job.settled_tx is None or job.settled_block_number is None:
        raise NotSettled(job)
    outcome_hash = job.outcome.hash
    return Bundle(
        request_hash=job.request_hash,
        request=RequestMessage.of(job.request),
        request_tx=job.tx_hash,
        request_block_number=job.block_number,
        spec=job.spec if job.spec is not None else job.request.order.spec,
        outcome=job.outcome.encode(),
        settled_tx=job.settled_tx,
        settled_block_number=job.settled_block_number,
        attestations=tuple(_attestation(slot) for slot in slots if slot.outcome_hash == outcome_hash),
    ).sealed()


def _attestation(slot: Slot) -> BundleAttestation:
    return BundleAttestation.model_validate(
        {
            "slot": slot.slot,
            "node_id": slot.node_id,
            "operator": slot.operator,
            "key": slot.key,
            "receipt": slot.receipt,
            "log_root": slot.log_root,
            "log_size": slot.log_size,
            "relayer": slot.relayer,
            "signature": slot.signature,
            "dsse_signature": slot.dsse_signature,
            "log_proof": None if slot.log_proof is None else hashes_of(slot.log_proof),
        }
    )
