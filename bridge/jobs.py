"""The states of a job and the moves between them: one table, nothing else. Pure.

docs/architecture.md shows this table; a test keeps the two equal. The store makes each move a guarded update
(`UPDATE ... WHERE state = :from`): zero rows is StaleTransition, never silence.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands."""

    OBSERVED = "observed"  # its log is in the window
    READY = "ready"  # deep enough: it may be leased
    RUNNING = "running"  # at least one slot is leased or has answered
    HELD = "held"  # a node holds the output in quarantine until it is released
    ATTESTED = "attested"  # a quorum agrees
    STORED = "stored"  # the output was fetched back by its CID from our own disk
    POSTING = "posting"  # the outbox holds the delivery
    POSTED = "posted"  # an outcome stands on-chain, whoever relayed it
    FINAL = "final"  # and its block is final
    EXPIRED = "expired"  # refunded after the deadline
    CANCELLED = "cancelled"  # refunded to a requester who cancelled
    ORPHANED = "orphaned"  # its log left the chain


_OPEN = (
    JobState.OBSERVED,
    JobState.READY,
    JobState.RUNNING,
    JobState.HELD,
    JobState.ATTESTED,
    JobState.STORED,
    JobState.POSTING,
)
_SETTLED = (JobState.POSTED, JobState.EXPIRED, JobState.CANCELLED)


def _table() -> dict[JobState, frozenset[JobState]]:
    s = JobState
    moves: dict[JobState, set[JobState]] = {
        s.OBSERVED: {s.READY},
        s.READY: {s.RUNNING, s.OBSERVED},
        s.RUNNING: {s.READY, s.HELD, s.ATTESTED},
        s.HELD: {s.RUNNING, s.READY, s.ATTESTED},
        s.ATTESTED: {s.STORED, s.READY},
        s.STORED: {s.POSTING},
        s.POSTING: {s.STORED},
        s.POSTED: {s.FINAL, s.POSTING, s.OBSERVED},
        s.EXPIRED: {s.FINAL, s.OBSERVED},
        s.CANCELLED: {s.FINAL, s.OBSERVED},
        s.ORPHANED: {s.OBSERVED},
        s.FINAL: set(),
    }
    for state in _OPEN:  # the chain may settle a request at any moment, through whomever
        moves[state] |= set(_SETTLED)
    for state in (*_OPEN, *_SETTLED):  # and may drop it again until it is final
        moves[state].add(s.ORPHANED)
    return {state: frozenset(targets) for state, targets in moves.items()}


#: state -> the states that may follow
TRANSITIONS: dict[JobState, frozenset[JobState]] = _table()

#: The chain may still settle these.
OPEN_STATES: frozenset[JobState] = frozenset(_OPEN)


def is_allowed(before: JobState, after: JobState) -> bool:
    """Whether a job may move from `before` to `after`."""
    return after in TRANSITIONS[before]
