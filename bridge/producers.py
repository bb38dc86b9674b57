"""Which settled requests have an output: for nodes that are given it as an input, and for anybody else."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.bundles import SHOWN
from bridge.store.engine import Engine, reading
from bridge.store.jobs import Job, get_job
from bridge.store.leases import Slot, slots_of
from executor.protocol.cid import Cid
from executor.protocol.produced import MAX_PRODUCERS, Produced, Producers, ProducerWord
from executor.protocol.wire import MAX_NODES, Outcome


def producers_of(engine: Engine, cid: Cid, request_hashes: Iterable[bytes]) -> Producers:
    """Of these requests, those whose outcome stands on-chain with this output, oldest first, with who attested it.

    Nothing here is more than what the transaction that settled each of them shows to everybody.
    """
    found: list[tuple[int, bytes, Produced]] = []
    with reading(engine) as connection:
        for request_hash in request_hashes:
            job = get_job(connection, request_hash)
            if job is None or job.state not in SHOWN or job.outcome is None or job.outcome.output_cid != cid.binary:
                continue
            made = _produced(job, job.outcome, slots_of(connection, request_hash))
            if made is not None:
                found.append((job.settled_block_number or 0, request_hash, made))
    return Producers(produced=tuple(made for _, _, made in sorted(found, key=lambda one: one[:2])[:MAX_PRODUCERS]))


def _produced(job: Job, outcome: Outcome, slots: list[Slot]) -> Produced | None:
    words = [_word(slot) for slot in slots if slot.outcome_hash == outcome.hash and slot.signature is not None]
    if not words:  # settled by a relayer whom we do not know: nobody signed here
        return None
    return Produced(
        request_id=job.request.id,
        request_hash=job.request_hash,
        outcome_hash=outcome.hash,
        outcome=outcome.encode(),
        attestations=tuple(words[:MAX_NODES]),
    )


def _word(slot: Slot) -> ProducerWord:
    return ProducerWord.model_validate(
        {name: getattr(slot, name) for name in ("key", "receipt_hash", "log_root", "log_size", "relayer", "signature")}
    )
