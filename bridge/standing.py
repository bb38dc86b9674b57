"""Why nothing is happening, in words. Pure: sentences from facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bridge.jobs import JobState
from bridge.watch import Alarm, Raised
from executor.protocol.reasons import Reason

FAILING = 3  # so many failures in a row are worth a sentence,
FAILING_SECONDS = 15.0  # and fewer that last so long: a call that hangs takes its whole deadline to fail
MAX_ERROR = 160  # characters of it in the last line
BEHIND = 5  # blocks that an endpoint may be behind another


@dataclass(frozen=True)
class LoopFact:
    """A loop of the process. failing_since: seconds since 1970, None while its last step succeeded."""

    name: str
    failures: int = 0
    failing_since: float | None = None
    error: str = ""


@dataclass(frozen=True)
class JobsFact:
    """So many jobs are in one state for one reason."""

    state: JobState
    reason: Reason
    count: int


@dataclass(frozen=True)
class DeliveriesFact:
    """So many deliveries of a kind wait in one state; `since`: when the oldest was ordered."""

    kind: str
    state: str
    detail: str
    count: int
    since: float


@dataclass(frozen=True)
class EndpointFact:
    """An endpoint as the bridge last saw it. problem: empty while it may be used; head: the newest block it showed."""

    name: str
    problem: str = ""
    head: int = 0


def endpoint_facts(heads: Mapping[str, int]) -> list[EndpointFact]:
    """Endpoints by the newest block that each has shown: who is behind the others is of no use."""
    top = max(heads.values(), default=0)
    behind = {name: top - head for name, head in heads.items()}
    return [
        EndpointFact(name, f"{count} blocks behind the others" if count > BEHIND else "", heads[name])
        for name, count in sorted(behind.items())
    ]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known. Block numbers; times in seconds since 1970. None: not known."""

    now: float
    scanned: int | None = None
    final: int | None = None
    head: int | None = None
    block_at: float | None = None
    affordable: int | None = None  # deliveries that the relayer's balance pays for
    confirmation_depth: int
    posting_depth: int
    stale_seconds: float  # a newest block older than this is old
    nodes: int = 0
    loops: Sequence[LoopFact] = ()
    endpoints: Sequence[EndpointFact] = ()
    jobs: Sequence[JobsFact] = ()
    deliveries: Sequence[DeliveriesFact] = ()
    alarms: Sequence[Raised] = ()


@dataclass(frozen=True)
class Standing:
    """lines: what is so, most important first; conclusion: what is waited for, in one line."""

    lines: tuple[str, ...]
    conclusion: str


def standing_of(facts: Facts) -> Standing:
    """What the facts say."""
    lines = (
        _chain(facts),
        *_relayer(facts),
        *_alarms(facts),
        *_loops(facts),
        *_endpoints(facts),
        *_jobs(facts),
        *_deliveries(facts),
    )
    return Standing(lines, _conclusion(facts))


def span(seconds: float) -> str:
    """A length of time for people: "40 s", "12 min", "5 h", "3 days"."""
    seconds = max(0.0, seconds)
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} days"


# -- what is so ---------------------------------------------------------------------------------------------------


def _chain(facts: Facts) -> str:
    if facts.scanned is None or facts.final is None:
        return "chain: nothing read yet"
    said = f"chain: read up to block {facts.scanned}"
    if facts.head is not None:
        behind = max(0, facts.head - facts.scanned)
        said += f", {behind} behind the endpoint's head" if behind else ", the endpoint's head"
    said += f"; final up to {facts.final}, {max(0, facts.scanned - facts.final)} blocks behind that"
    if facts.block_at is None:
        return said
    return f"{said}; the newest block is {span(facts.now - facts.block_at)} old"


def _relayer(facts: Facts) -> Iterator[str]:
    if facts.affordable is not None:
        pays = _counted(facts.affordable, "delivery", "deliveries")
        yield f"relayer: its balance pays for about {pays} more"


def _alarms(facts: Facts) -> Iterator[str]:
    for raised in facts.alarms:
        standing = "its cause stands" if raised.over_at is None else f"over {span(facts.now - raised.over_at)} ago"
        times = "once" if raised.times == 1 else f"{raised.times} times"
        when = f"first {span(facts.now - raised.first_at)} ago, {times}, {standing}"
        yield f"alarm {raised.alarm.value} ({when}): {raised.detail}"


def _loops(facts: Facts) -> Iterator[str]:
    for loop in _failing(facts):
        since = facts.now if loop.failing_since is None else loop.failing_since
        yield f"loop {loop.name}: failing for {span(facts.now - since)}, {loop.failures} times in a row: {loop.error}"


def _endpoints(facts: Facts) -> Iterator[str]:
    for endpoint in facts.endpoints:
        yield f"endpoint {endpoint.name}: {endpoint.problem or f'last showed block {endpoint.head}'}"


def _jobs(facts: Facts) -> Iterator[str]:
    for group in facts.jobs:
        reason = "" if group.reason is Reason.NONE else f" ({group.reason.name})"
        yield f"jobs: {_counted(group.count, 'job')} {group.state.value}{reason}: waiting for {_need(group, facts)}"


def _deliveries(facts: Facts) -> Iterator[str]:
    for group in facts.deliveries:
        oldest = f"the oldest for {span(facts.now - group.since)}"
        yield f"deliveries: {group.count} {group.kind} {group.state}, {oldest}: {_delivery(group)}"


# -- what is waited for -------------------------------------------------------------------------------------------


def _conclusion(facts: Facts) -> str:
    waits = list(dict.fromkeys([*_troubles(facts), *_work(facts)]))
    latched = sum(raised.over_at is not None for raised in facts.alarms)
    note = f" ({_counted(latched, 'alarm')} to acknowledge)" if latched else ""
    if waits:
        return f"waiting for: {'; '.join(waits)}{note}"
    return f"nothing is wrong: no request is open{note}"


def _troubles(facts: Facts) -> Iterator[str]:
    standing = {raised.alarm for raised in facts.alarms if raised.over_at is None}
    if Alarm.HALTED in standing:
        yield "a person: the bridge has halted"
    if Alarm.NO_FUNDS in standing:
        yield "funds for the relayer: it is paused"
    elif Alarm.LOW_BALANCE in standing:
        yield "funds for the relayer: its balance is low"
    others = standing - {Alarm.HALTED, Alarm.NO_FUNDS, Alarm.LOW_BALANCE}
    if others:
        yield f"a look at the alarms {', '.join(sorted(others))}"
    for error in dict.fromkeys(loop.error for loop in _failing(facts)):
        names = [loop.name for loop in _failing(facts) if loop.error == error]
        yield f"{'loop' if len(names) == 1 else 'loops'} {', '.join(names)} to succeed ({error[:MAX_ERROR]})"
    if facts.endpoints and all(endpoint.problem for endpoint in facts.endpoints):
        yield "an endpoint that can be used"
    if facts.scanned is None:
        yield "the first block from the chain"
    elif facts.head is not None and facts.head - facts.scanned > BEHIND:
        yield f"the bridge's own reading: {facts.head - facts.scanned} blocks are left"
    elif facts.block_at is not None and facts.now - facts.block_at > facts.stale_seconds:
        yield f"a newer block than {facts.scanned}"


def _work(facts: Facts) -> Iterator[str]:
    for group in facts.jobs:
        if group.state is not JobState.POSTING or not facts.deliveries:
            yield f"{_need(group, facts)} ({_counted(group.count, 'job')})"
    for delivery in facts.deliveries:
        yield f"{_delivery(delivery)} ({_counted(delivery.count, 'delivery', 'deliveries')})"


def _need(group: JobsFact, facts: Facts) -> str:
    if group.state is JobState.OBSERVED:
        return f"{facts.confirmation_depth} blocks on top of the request"
    if group.state is JobState.STORED and group.reason is Reason.COPIES_MISSING:
        return "copies of its output at other places"
    if group.state is JobState.STORED:
        return f"{facts.posting_depth} blocks on top of the request"
    if group.state in (JobState.READY, JobState.RUNNING, JobState.HELD):
        if group.reason in _REASONS:
            return _REASONS[group.reason]
        if group.state is JobState.READY and facts.nodes == 0:
            return "a node: none is connected"
    return _STATES.get(group.state, "nothing")


def _delivery(group: DeliveriesFact) -> str:
    return group.detail or _SENDING.get(group.state, "the relayer")


def _failing(facts: Facts) -> list[LoopFact]:
    return [loop for loop in facts.loops if loop.failures >= FAILING or _lasts(loop, facts.now)]


def _lasts(loop: LoopFact, now: float) -> bool:
    return loop.failures > 0 and loop.failing_since is not None and now - loop.failing_since >= FAILING_SECONDS


def _counted(count: int, noun: str, plural: str = "") -> str:
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


#: what a job waits for, by the reason that the dispatcher noted
_REASONS = {
    Reason.WAITING_FOR_DEPTH: "more blocks on top of the request",
    Reason.NO_NODE_MATCHES: "a node with what the request asks for (labels, tier, capacity, price)",
    Reason.NODES_BUSY: "a node that is free",
    Reason.TOO_LATE: "its deadline: too little time is left to run it",
    Reason.PRICE_BELOW_MINIMUM: "its deadline: it offers less than this bridge's minimum",
    Reason.NO_AGREEMENT: "its deadline: the nodes' outcomes differ",
    Reason.SPEC_UNREADABLE: "its spec to be readable",
    Reason.ATTEMPTS_EXHAUSTED: "its deadline: every attempt was used",
}
_STATES = {
    JobState.READY: "a node that asks for work",
    JobState.RUNNING: "the nodes that run it",
    JobState.HELD: "a person's release at the node",
    JobState.ATTESTED: "its output to be read back",
    JobState.POSTING: "its delivery",
    JobState.POSTED: "the result's block to be final",
}
_SENDING = {
    "new": "the relayer's signature",
    "signed": "the relayer to send",
    "sent": "a block with the transaction",
    "mined": "the contract's word on a canonical block",
}
