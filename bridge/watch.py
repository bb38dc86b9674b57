"""What is seen of the bridge from outside: counters, gauges and alarms, by names that stand in two tables.

An alarm latches: it stays after its cause is gone, until a person acknowledges it. Loops write here, in whatever
transaction they are: nothing is written to a database at that moment. `bridge.alarms.AlarmKeeper` keeps what was raised
in the store; the API shows it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import structlog

log = structlog.get_logger("bridge.watch")

MAX_DETAIL = 1000  # characters kept of what is said with an alarm


class Alarm(StrEnum):
    """What a person should know of. The value is the alarm's name in metrics and in `insula bridge status`."""

    REORG_BELOW_FINALITY = "reorg_below_finality"  # a block that was final left the chain: the bridge has halted
    CHAIN_RESET = "chain_reset"  # the endpoint's chain has another first block
    STALE_HEAD = "stale_head"  # the newest block is old: the endpoint hangs, or the chain does
    FINALITY_REGRESSED = "finality_regressed"  # the endpoint's finalized block went back; ours did not
    LATE_LOGS = "late_logs"  # events that only the second reading found
    HISTORY_PRUNED = "history_pruned"  # no endpoint shows the blocks that are still to be read
    ENDPOINT_REFUSED = "endpoint_refused"  # an endpoint is on another chain
    ENDPOINTS_DISAGREE = "endpoints_disagree"  # two endpoints tell different things about one block
    LOW_BALANCE = "low_balance"  # the relayer can pay few more deliveries
    NO_FUNDS = "no_funds"  # the relayer cannot pay the next one
    FEES_AT_CAP = "fees_at_cap"  # a delivery waits for lower fees
    DAY_CAP = "day_cap"  # today's spending has reached its cap
    GAS_JUMP = "gas_jump"  # an estimate is far beyond what such deliveries needed
    OUTCOME_CONFLICT = "outcome_conflict"  # the contract holds another outcome than the one that a quorum gave us
    NODE_CONTRADICTION = "node_contradiction"  # a node signed two outcomes of one request
    DELIVERY_DEAD = "delivery_dead"  # a delivery can never be accepted
    SENDER_ELSEWHERE = "sender_elsewhere"  # another process sends with the relayer's key
    COPIES_MISSING = "copies_missing"  # a result waits for copies at other places
    HALTED = "halted"  # the bridge has stopped by itself and said why


@dataclass(frozen=True)
class Raised:
    """An alarm that was raised. Times are seconds since 1970; `over_at` None: its cause still stands."""

    alarm: Alarm
    detail: str
    first_at: float
    last_at: float
    times: int
    over_at: float | None = None


@dataclass(frozen=True)
class Metric:
    """A metric's kind (counter or gauge), its help text and the names of its labels."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()


#: every metric that loops write, without the prefix `insula_`
METRICS: dict[str, Metric] = {
    "head": Metric("gauge", "Number of the newest block taken in"),
    "finalized": Metric("gauge", "Number of the newest final block"),
    "head_age_seconds": Metric("gauge", "Age of the newest block that the endpoint showed"),
    "null_rounds": Metric("counter", "Epochs without a block between the blocks taken in"),
    "reorgs": Metric("counter", "Times that blocks left the chain"),
    "reorged_blocks": Metric("counter", "Blocks that left the chain"),
    "reorg_depth": Metric("gauge", "Blocks that left the chain in the last reorg"),
    "late_logs": Metric("counter", "Requests with events that only the second reading found"),
    "undecodable_logs": Metric("counter", "Logs of the contract that were refused"),
    "rpc_requests": Metric("counter", "HTTP requests to an endpoint", ("endpoint",)),
    "rpc_seconds": Metric("counter", "Seconds that an endpoint took for its answers", ("endpoint",)),
    "rpc_errors": Metric(
        "counter", "Failures by kind: transport, throttled, answer, pruned, refused", ("endpoint", "kind")
    ),
    "endpoint_head": Metric("gauge", "Number of the newest block that an endpoint showed", ("endpoint",)),
    "transactions_sent": Metric("counter", "Transactions handed in for the first time"),
    "transactions_resent": Metric("counter", "Times that the same bytes were handed in again"),
    "fee_raises": Metric("counter", "Replacements with higher fees"),
    "nonces_filled": Metric("counter", "Payments of nothing to ourselves that use a nonce up"),
    "batches": Metric("counter", "Transactions that carry several deliveries"),
    "batched_deliveries": Metric("counter", "Deliveries signed in batches"),
    "spent_wei": Metric("counter", "Cost of transactions whose receipts were seen"),
    "spent_today_wei": Metric("gauge", "Cost of the last 24 hours, at its most where no receipt was seen"),
    "balance_wei": Metric("gauge", "Balance of the relayer's account"),
    "balance_deliveries": Metric("gauge", "Deliveries that the balance pays for, by the last ones' cost"),
    "results_without_copies": Metric("gauge", "Results that wait for copies at other places"),
    "signing_refused": Metric("counter", "Times that a delivery was not signed", ("reason",)),
}

Labels = tuple[tuple[str, str], ...]


class Watch:
    """Shared by threads.

    What was raised is in two parts: what the store is known to hold, and what was raised since. Without a keeper the
    first part stays empty.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, Labels], float] = {}
        self._stored: dict[Alarm, Raised] = {}
        self._pending: dict[Alarm, Raised] = {}
        self._repeats: dict[Alarm, int] = {}  # since the alarm was last logged at error level
        self.on_news: Callable[[], None] = lambda: None  # called, outside the lock, when there is something to keep

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = _key(name, "counter", labels)
        with self._lock:
            self._values[key] = self._values.get(key, 0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        key = _key(name, "gauge", labels)
        with self._lock:
            self._values[key] = value

    def samples(self) -> dict[tuple[str, Labels], float]:
        """All values: (name, labels in the order of the table) -> value."""
        with self._lock:
            return dict(self._values)

    def alarm(self, alarm: Alarm, detail: str, now: float) -> None:
        """Raise an alarm, or raise it again. Logged as an error when its cause is new, later at 10, 100, 1000 times."""
        detail = detail[:MAX_DETAIL]
        with self._lock:
            known = self._pending.get(alarm)
            first, times = (known.first_at, known.times) if known and known.times else (now, 0)
            self._pending[alarm] = Raised(alarm, detail, first, now, times + 1)
            repeats = self._repeats.get(alarm, 0) + 1
            self._repeats[alarm] = repeats
        if repeats == 1:
            log.error("alarm", alarm=alarm.value, detail=detail)
            self.on_news()
        elif str(repeats).strip("0") == "1":
            log.warning("alarm again", alarm=alarm.value, detail=detail, times=repeats)

    def over(self, alarm: Alarm, now: float) -> None:
        """The alarm's cause is gone; it stays raised until it is acknowledged."""
        with self._lock:
            known = self._current().get(alarm)
            if known is None or known.over_at is not None:
                return
            pending = self._pending.get(alarm, replace(known, times=0))
            self._pending[alarm] = replace(pending, over_at=now)
            self._repeats.pop(alarm, None)
        log.info("alarm's cause is gone", alarm=alarm.value)
        self.on_news()

    def alarms(self) -> list[Raised]:
        """What is raised, oldest first."""
        with self._lock:
            return sorted(self._current().values(), key=lambda raised: raised.first_at)

    def pending(self) -> dict[Alarm, Raised]:
        """What the store does not hold yet. `times` counts from there; 0: only its cause is over."""
        with self._lock:
            return dict(self._pending)

    def kept(self, written: dict[Alarm, Raised], stored: dict[Alarm, Raised]) -> None:
        """The keeper wrote `written`, as `pending` gave it, and the store holds `stored` now."""
        with self._lock:
            for alarm in self._stored.keys() - stored.keys():
                self._repeats.pop(alarm, None)  # somebody took it back
            self._stored = dict(stored)
            for alarm, done in written.items():
                left = self._pending[alarm]
                if left == done:
                    del self._pending[alarm]
                else:  # raised again while it was being written
                    self._pending[alarm] = replace(left, times=left.times - done.times)

    def _current(self) -> dict[Alarm, Raised]:
        added = {alarm: merged(self._stored.get(alarm), since) for alarm, since in self._pending.items()}
        return self._stored | added


def merged(before: Raised | None, since: Raised) -> Raised:
    """What was raised until now, of what was known before and what came since."""
    if before is None:
        return since
    detail = since.detail if since.times else before.detail
    last = max(before.last_at, since.last_at)
    return Raised(since.alarm, detail, before.first_at, last, before.times + since.times, since.over_at)


def _key(name: str, kind: str, labels: dict[str, str]) -> tuple[str, Labels]:
    metric = METRICS[name]
    if metric.kind != kind or set(metric.labels) != set(labels):
        raise KeyError(f"{name} is a {metric.kind} with labels {metric.labels}")
    return name, tuple((label, labels[label]) for label in metric.labels)
