"""What is seen of the bridge from outside: counters, gauges and alarms, by names that stand in two tables.

An alarm latches: it stays after its cause is gone, until a person acknowledges it. Loops write here; the API shows it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from enum import StrEnum


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
    DELIVERY_DEAD = "delivery_dead"  # a delivery can never be accepted
    SENDER_ELSEWHERE = "sender_elsewhere"  # another process sends with the relayer's key


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
    "outbox_rows": Metric("gauge", "Deliveries in the outbox, but for those that are done", ("state",)),
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
    "signing_refused": Metric("counter", "Times that a delivery was not signed", ("reason",)),
}

Labels = tuple[tuple[str, str], ...]


class Watch:
    """Shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, Labels], float] = {}
        self._raised: dict[Alarm, Raised] = {}

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
        """Raise an alarm, or raise it again."""
        with self._lock:
            known = self._raised.get(alarm)
            first, times = (known.first_at, known.times) if known else (now, 0)
            self._raised[alarm] = Raised(alarm, detail, first, now, times + 1)

    def over(self, alarm: Alarm, now: float) -> None:
        """The alarm's cause is gone; it stays raised until it is acknowledged."""
        with self._lock:
            known = self._raised.get(alarm)
            if known is not None and known.over_at is None:
                self._raised[alarm] = replace(known, over_at=now)

    def alarms(self) -> list[Raised]:
        """What is raised, oldest first."""
        with self._lock:
            return sorted(self._raised.values(), key=lambda raised: raised.first_at)

    def acknowledge(self, alarm: Alarm) -> bool:
        """Take an alarm back; whether it was raised."""
        with self._lock:
            return self._raised.pop(alarm, None) is not None


def _key(name: str, kind: str, labels: dict[str, str]) -> tuple[str, Labels]:
    metric = METRICS[name]
    if metric.kind != kind or set(metric.labels) != set(labels):
        raise KeyError(f"{name} is a {metric.kind} with labels {metric.labels}")
    return name, tuple((label, labels[label]) for label in metric.labels)
