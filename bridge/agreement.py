"""What the answers of a request's slots amount to, and the state a job rests in meanwhile. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bridge.jobs import JobState
from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.leases import Phase
from executor.protocol.reasons import Reason
from executor.protocol.wire import MAX_PAYLOAD_BYTES, Order, Outcome, ResultKind, Status


@dataclass(frozen=True)
class Agreement:
    """agreed: the outcome hash that a quorum gave, or None. possible: whether a quorum can still come about.

    complete: every slot has answered.
    """

    agreed: bytes | None
    possible: bool
    complete: bool


def agreement(order: Order, answers: Sequence[bytes]) -> Agreement:
    """What the outcome hashes of the answered slots amount to. 2*quorum > nodes: at most one outcome can have it."""
    counts = Counter(answers)
    best, votes = counts.most_common(1)[0] if counts else (None, 0)
    open_slots = order.nodes - len(answers)
    return Agreement(
        agreed=best if votes >= order.quorum else None,
        possible=votes + open_slots >= order.quorum,
        complete=open_slots <= 0,
    )


def resting_state(phases: Collection[Phase], answered: int) -> JobState:
    """Where a job without a quorum stands, by the phases of its active leases and how many slots have answered."""
    if Phase.RUNNING in phases:
        return JobState.RUNNING
    if Phase.HELD in phases:
        return JobState.HELD
    return JobState.RUNNING if answered else JobState.READY


def check_outcome(order: Order, outcome: Outcome) -> Cid | None:
    """The output's CID, or None where there is none. InvalidInput("outcome...") unless status, reason and parts agree.

    Stricter than the contract (WireRules.checkOutcome): what passes here is never refused there.
    """
    status = _status(outcome)
    _check_reason(status, outcome)
    released = status in (Status.SUCCEEDED, Status.FAILED)
    _check_payload(order, outcome, released)
    if not outcome.output_cid:
        if status is Status.SUCCEEDED and order.result_kind == ResultKind.CID:
            raise InvalidInput("outcome.outputCid", "is missing; the order asks for the output's CID")
        return None
    if not released:
        raise InvalidInput("outcome.outputCid", "must be empty: nothing was released")
    return Cid.from_binary(outcome.output_cid, "outcome.outputCid")


def _status(outcome: Outcome) -> Status:
    try:
        return Status(outcome.status)
    except ValueError as exc:
        raise InvalidInput("outcome.status", f"is {outcome.status}; it must be from 1 to 4") from exc


def _check_reason(status: Status, outcome: Outcome) -> None:
    known = {reason.value for reason in Reason if reason.is_attestable}
    if outcome.reason not in known:
        raise InvalidInput("outcome.reason", f"is {outcome.reason}, which is no reason that a node attests")
    hundred = {Status.SUCCEEDED: 0, Status.FAILED: 2, Status.REFUSED: 1, Status.WITHHELD: 3}[status]
    if outcome.reason // 100 != hundred:
        raise InvalidInput("outcome.reason", f"{outcome.reason} does not go with status {status.name}")
    if status in (Status.SUCCEEDED, Status.REFUSED) and outcome.exit_code != 0:
        raise InvalidInput("outcome.exitCode", f"must be 0 with status {status.name}")
    if outcome.reason == Reason.EXIT_NON_ZERO and outcome.exit_code == 0:
        raise InvalidInput("outcome.exitCode", "must not be 0 with reason EXIT_NON_ZERO")


def _check_payload(order: Order, outcome: Outcome, released: bool) -> None:
    payload = outcome.payload
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise InvalidInput("outcome.payload", f"has {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are accepted")
    if payload and (not released or order.result_kind == ResultKind.CID):
        raise InvalidInput("outcome.payload", "must be empty for this status and result kind")
    if order.result_kind == ResultKind.EXIT_CODE and released and payload != str(outcome.exit_code).encode():
        if outcome.status == Status.FAILED and not payload:
            return  # a limit cut the program off: there is no exit code that every node would see
        raise InvalidInput("outcome.payload", f"must be the exit code in decimal digits: {outcome.exit_code}")
