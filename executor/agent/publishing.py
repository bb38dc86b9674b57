"""Which of a node's results its gateway may serve: those whose outcome stands on-chain, and never before.

The node asks the chain itself where it has an endpoint (`rpc_url`), else its bridge, which has the output already. Only
the very outcome that this node signed counts. What is found is written down in one transaction (a public root with its
end, and all its blocks), so a kill -9 loses nothing: what is not public yet is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from executor.agent.chainview import ChainView, RpcRefused
from executor.agent.client import BridgeClient
from executor.content.roots import Root, RootSet
from executor.errors import ContentError, PeerError, PeerUnavailable
from executor.ledger import Ledger, SignedRecord
from executor.protocol.wire import Outcome, result_digest

PAUSE_SECONDS = 10.0
ASKED_AT_ONCE = 16
JOB = "job:0x"
"""Before the label under which a request's content is kept, inputs and output alike."""
RESULT = "result:0x"
"""Before the label of a result that is public."""

Settled = Callable[[SignedRecord, int], bool]
"""Whether the outcome of a record, of a request of this id, stands on-chain. PeerError, RpcRefused."""


def settled_by(chain: ChainView | None, client: BridgeClient) -> Settled:
    """The chain's own word where the node can have it, else the bridge's."""

    def on_chain(view: ChainView, record: SignedRecord, request_id: int) -> bool:
        digest = result_digest(record.request_hash, Outcome.decode(record.outcome).hash)
        return view.result_digest(request_id) == digest

    def at_bridge(record: SignedRecord, _: int) -> bool:
        return client.settled_outcome(record.request_hash) == Outcome.decode(record.outcome).hash

    return at_bridge if chain is None else partial(on_chain, chain)


class Publisher:
    """`step` asks about some results that are not public yet, and publishes those that may be."""

    def __init__(
        self,
        roots: RootSet,
        ledger: Ledger,
        settled: Settled,
        clock: Callable[[], float],
        retention_seconds: float,
    ) -> None:
        self._roots = roots
        self._ledger = ledger
        self._settled = settled
        self._clock = clock
        self._retention_seconds = retention_seconds
        self._log = structlog.get_logger("insula.node")
        self._others: set[tuple[bytes, str]] = set()  # roots of requests that are not what was signed for them
        self._turn = 0
        self._failed = False

    def step(self) -> bool:
        """Whether anything became public."""
        waiting = [found for root in self._kept() if (found := self._result(root)) is not None]
        self._turn = self._turn if self._turn < len(waiting) else 0
        now = waiting[self._turn : self._turn + ASKED_AT_ONCE]
        self._turn += len(now)
        published = 0
        for root, record in now:
            try:
                published += self._publish(root, record)
                self._failed = False
            except (PeerError, RpcRefused) as exc:
                if not self._failed:
                    self._log.warning("cannot ask whether a result stands on-chain", cid=str(root.cid), error=str(exc))
                self._failed = True
                if isinstance(exc, PeerUnavailable):
                    break
        return published > 0

    def _kept(self) -> list[Root]:
        live = self._roots.live(self._clock())
        kept = [root for root in live if root.label.startswith(JOB) and not root.public]
        self._others.intersection_update((root.cid.binary, root.label) for root in kept)
        return [root for root in kept if (root.cid.binary, root.label) not in self._others]

    def _result(self, root: Root) -> tuple[Root, SignedRecord] | None:
        """The record that this root is the output of; None of inputs, and of what is not signed."""
        record = self._ledger.signed(bytes.fromhex(root.label.removeprefix(JOB)))
        if record is None:
            return None
        if Outcome.decode(record.outcome).output_cid != root.cid.binary:
            self._others.add((root.cid.binary, root.label))
            return None
        return root, record

    def _publish(self, root: Root, record: SignedRecord) -> bool:
        intent = self._ledger.last_intent(record.request_hash)
        if intent is None or not self._settled(record, intent.request_id):
            return False
        until = self._clock() + self._retention_seconds
        label = RESULT + record.request_hash.hex()
        if all(known.label != label for known in self._roots.live(self._clock(), root.cid)):
            try:
                blocks = self._roots.publish(root.cid, label, until)
            except ContentError as exc:
                self._log.warning("a result is no longer kept here in full", cid=str(root.cid), error=str(exc))
                self._others.add((root.cid.binary, root.label))
                return False
            self._log.info("a result is public", cid=str(root.cid), blocks=blocks, until=until)
        # Kept as public from now on: under its job's label it would be published again once its time is over.
        self._roots.drop(root.cid, root.label)
        return True
