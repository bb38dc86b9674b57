"""`/v1/status`: every fact of how the bridge does, and what they say in words. Public: no URL's path, no key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from bridge.alarms import alarm_view
from bridge.dispatcher import Dispatcher
from bridge.explaining import CONNECTED_SECONDS
from bridge.jobs import OPEN_STATES, JobState
from bridge.matching import reason_name
from bridge.redaction import redacted
from bridge.standing import DeliveriesFact, Facts, JobsFact, LoopFact, Standing, endpoint_facts, standing_of
from bridge.store.engine import reading
from bridge.store.jobs import count_by_state
from bridge.store.nodes import nodes_since
from bridge.store.standing import WaitingDeliveries, WaitingJobs, deliveries_by_reason, jobs_by_reason, position
from bridge.watch import Raised, Watch
from executor.protocol.reasons import Reason

#: jobs of which somebody still expects something
UNSETTLED = [state for state in JobState if state in OPEN_STATES or state is JobState.POSTED]
Loops = Callable[[], list[dict[str, Any]]]


@dataclass(frozen=True)
class Status:
    """Gathers what the answer needs. `loops`: the threads' states; times by `clock`."""

    dispatcher: Dispatcher
    clock: Callable[[], float]
    loops: Loops
    watch: Watch

    def view(self) -> dict[str, Any]:
        """The answer."""
        config = self.dispatcher.config
        chain, now = config.chain, self.clock()
        with reading(self.dispatcher.engine) as connection:
            counts = count_by_state(connection)
            nodes = len(nodes_since(connection, now - CONNECTED_SECONDS))
            place = position(connection, chain.chain_id, chain.bridge_contract)
            waiting = jobs_by_reason(connection, UNSETTLED)
            deliveries = deliveries_by_reason(connection)
        loops = [{**loop, "last_error": self._shown(loop["last_error"])} for loop in self.loops()]
        deliveries = [WaitingDeliveries(d.kind, d.state, self._shown(d.detail), d.count, d.since) for d in deliveries]
        alarms = [Raised(**{**vars(raised), "detail": self._shown(raised.detail)}) for raised in self.watch.alarms()]
        samples = self.watch.samples()
        taken_in, affordable = samples.get(("head", ())), samples.get(("balance_deliveries", ()))
        heads = {labels[0][1]: int(value) for (name, labels), value in samples.items() if name == "endpoint_head"}
        facts = Facts(
            now=now,
            scanned=place.scanned if place else None,
            final=place.final if place else None,
            head=max(heads.values(), default=None if taken_in is None else int(taken_in)),
            block_at=place.block_at if place else None,
            affordable=None if affordable is None else int(affordable),
            confirmation_depth=chain.confirmation_depth,
            posting_depth=chain.posting_depth,
            stale_seconds=chain.stale_head_seconds,
            nodes=nodes,
            loops=[_loop(loop) for loop in loops],
            endpoints=endpoint_facts(heads),
            jobs=[JobsFact(group.state, _reason(group.reason), group.count) for group in waiting],
            deliveries=[DeliveriesFact(**vars(group)) for group in deliveries],
            alarms=alarms,
        )
        return {
            "version": version("insula"),
            "chainId": chain.chain_id,
            "contract": chain.bridge_contract,
            "url": config.public_url,
            "relayer": self.dispatcher.relayer,
            "jobs": counts,
            "nodes": nodes,
            "scannedBlock": facts.scanned,
            "endpoints": [{"name": name, "head": value} for name, value in sorted(heads.items())],
            **_views(facts, waiting, place.moved_at if place else None),
            "loops": loops,
            "standing": _standing(standing_of(facts)),
        }

    def _shown(self, text: str) -> str:
        return redacted(text, self.dispatcher.config.chain.rpc_urls)


def _views(facts: Facts, waiting: Sequence[WaitingJobs], moved_at: float | None) -> dict[str, Any]:
    return {
        "finalBlock": facts.final,
        "headBlock": facts.head,
        "affordableDeliveries": facts.affordable,
        "blockTime": facts.block_at,
        "movedAt": moved_at,
        "waitingJobs": [{**vars(g), "state": g.state.value, "reason": reason_name(g.reason)} for g in waiting],
        "waitingDeliveries": [vars(group) for group in facts.deliveries],
        "alarms": [alarm_view(raised) for raised in facts.alarms],
    }


def _loop(state: dict[str, Any]) -> LoopFact:
    return LoopFact(state["name"], state["failures_in_a_row"], state["failing_since"], state["last_error"])


def _reason(code: int) -> Reason:
    return next((reason for reason in Reason if reason == code), Reason.NONE)


def _standing(standing: Standing) -> dict[str, Any]:
    return {"lines": list(standing.lines), "conclusion": standing.conclusion}
