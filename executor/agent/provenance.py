"""Who attested a job's inputs, where they are outputs of earlier jobs: asked of the bridge and of this node's ledger.

Never a reason to end a job: what nobody can say, or what does not hold, is left out of the receipt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from executor.agent.parts import Work
from executor.agent.publishing import JOB, RESULT
from executor.errors import ContentError, InvalidInput, PeerError
from executor.ledger import LedgerError, SignedRecord
from executor.protocol.cid import Cid
from executor.protocol.produced import Produced, ProducerWord, check_produced
from executor.protocol.receipt import parse_receipt, receipt_hash
from executor.protocol.wire import Outcome

ASK_SECONDS: Final = 3.0  # for one answer
ALL_SECONDS: Final = 15.0  # for those of one job
MAX_BYTES: Final = 40 * 1024  # of one job's, as JSON: they must fit into the receipt
_LABELS: Final = 32


class Origins:
    """Asks for one job. A bridge that fails once is not asked again for it."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._ask_until = work.parts.clock() + ALL_SECONDS
        self._left = MAX_BYTES

    def of(self, cid: Cid) -> dict[str, Any] | None:
        """As it stands in the receipt (`executor.protocol.produced.Produced`); None where nobody knows."""
        for produced in self._candidates(cid):
            try:
                check_produced(produced, cid, self._work.parts.config.scope)
            except InvalidInput as exc:
                self._work.log.warning("who is said to have produced an input has not", cid=str(cid), problem=str(exc))
                continue
            plain = produced.plain()
            size = len(json.dumps(plain))
            if size > self._left:
                continue
            self._left -= size
            return plain
        return None

    def _candidates(self, cid: Cid) -> Iterator[Produced]:
        yield from self._asked(cid)
        yield from self._own(cid)

    def _asked(self, cid: Cid) -> tuple[Produced, ...]:
        if self._work.parts.clock() >= self._ask_until:
            return ()
        try:
            return self._work.parts.client.producers(cid, ASK_SECONDS)
        except PeerError as exc:
            self._ask_until = 0.0
            self._work.log.info("the bridge does not say who produced an input", error=str(exc))
            return ()

    def _own(self, cid: Cid) -> Iterator[Produced]:
        """What this node signed itself: what it released is kept under the label of its request, public or not."""
        parts = self._work.parts
        try:
            labels = parts.roots.labels(cid, parts.clock(), _LABELS)
            hashes = [bytes.fromhex(label.partition("0x")[2]) for label in labels if label.startswith((JOB, RESULT))]
            records = [record for one in hashes if (record := parts.ledger.signed(one)) is not None]
        except (ContentError, LedgerError, ValueError) as exc:
            self._work.log.info("this node does not say who produced an input", error=str(exc))
            return
        for record in records:
            if Outcome.decode(record.outcome).output_cid == cid.binary:
                yield _produced(record, parts.key.address)


def _produced(record: SignedRecord, key: str) -> Produced:
    external = parse_receipt(record.receipt)["predicate"]["buildDefinition"]["externalParameters"]
    word = ProducerWord(
        key=key,
        receipt_hash=receipt_hash(record.receipt),
        log_root=record.log_root,
        log_size=record.log_size,
        relayer=record.relayer,
        signature=record.signature,
    )
    return Produced(
        request_id=int(external["requestId"]),
        request_hash=record.request_hash,
        outcome_hash=Outcome.decode(record.outcome).hash,
        outcome=record.outcome,
        attestations=(word,),
    )
