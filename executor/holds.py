"""Outputs that wait for their release: what a node's ledger says of them, and the decisions of their reviewers.

A hold and the phase of its execution are written in one transaction, before anybody is asked. The ruling is taken and
written in one transaction with the votes that it rests on, so that no vote comes between; after it, votes are refused.
A hold ends with its execution (`Ledger.finish`): then its row says only that it was there, and how it was ruled.
Tables: `executor/ledger.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass

from executor.audit.release import Ruling
from executor.errors import InvalidInput
from executor.ledger import Ledger
from executor.protocol.release import Held, Vote

HELD = "held"  # the state of an intent


@dataclass(frozen=True, kw_only=True)
class Hold:
    """One held output. lease, decided: JSON, the node's own; root: the output's CID; findings: broken rules, a line
    each; `until`: when waiting ends, seconds since 1970; `ruling`: approved, rejected, timeout or "" (none yet).
    """

    execution_id: str
    request_hash: bytes
    request_id: int
    lease: str
    decided: str
    root: str
    findings: str
    outcome_hash: bytes
    manifest_hash: bytes
    salt: bytes
    policy_hash: bytes
    disk_bytes: int
    held_at: float
    until: float
    ruling: str = ""
    closed_at: float | None = None

    @property
    def held(self) -> Held:
        """What reviewers sign."""
        return Held(outcome_hash=self.outcome_hash, manifest_hash=self.manifest_hash, salt=self.salt)


class Holds:
    """The held outputs of one ledger. Any number of threads and processes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def hold(self, hold: Hold) -> None:
        """Write down that an output is in quarantine and waits."""
        with self._ledger.writing() as db:
            db.execute(
                "INSERT INTO holds VALUES (:execution_id, :request_hash, :request_id, :lease, :decided, :root,"
                " :findings, :outcome_hash, :manifest_hash, :salt, :policy_hash, :disk_bytes, :held_at, :until,"
                " :ruling, :closed_at)",
                asdict(hold),
            )
            db.execute(
                "UPDATE intents SET state = ?, changed_at = ? WHERE execution_id = ? AND closed_at IS NULL",
                (HELD, hold.held_at, hold.execution_id),
            )

    def open(self) -> list[Hold]:
        """Those whose execution has not ended, oldest first."""
        with self._ledger.reading() as db:
            rows = db.execute("SELECT * FROM holds WHERE closed_at IS NULL ORDER BY held_at").fetchall()
        return [Hold(**dict(row)) for row in rows]

    def get(self, execution_id: str) -> Hold | None:
        """One of them, ended or not."""
        with self._ledger.reading() as db:
            return _hold(db, execution_id)

    def votes(self, execution_id: str) -> tuple[Vote, ...]:
        """Its decisions in the order in which they came."""
        with self._ledger.reading() as db:
            return _votes(db, execution_id)

    def vote(self, execution_id: str, vote: Vote, now: float) -> bool:
        """Keep a decision; False where the very same is kept already.

        InvalidInput: the signer has decided otherwise, the output is decided on, or its time is over. Whether the
        signature is good and the signer one of the policy's is the caller's to check; the node checks it again.
        """
        with self._ledger.writing() as db:
            hold = _hold(db, execution_id)
            if hold is None:
                raise InvalidInput("ID", f"{execution_id} is not held on this node")
            earlier = next((found for found in _votes(db, execution_id) if found.signer == vote.signer), None)
            if earlier is not None:
                if (earlier.approve, earlier.reason) == (vote.approve, vote.reason):
                    return False
                word = "approved" if earlier.approve else "rejected"
                raise InvalidInput("signature", f"{vote.signer} has {word} it already; the first decision stands")
            if hold.ruling or hold.closed_at is not None:
                raise InvalidInput("ID", f"{execution_id} is decided on already: {hold.ruling or 'its lease is over'}")
            if now >= hold.until:
                raise InvalidInput("ID", f"the time to decide on {execution_id} is over; it will be withheld")
            db.execute(
                "INSERT INTO votes (execution_id, signer, approve, reason, signature, cast_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (execution_id, vote.signer, int(vote.approve), vote.reason, vote.signature, now),
            )
        return True

    def settle(self, execution_id: str, judge: Callable[[tuple[Vote, ...]], Ruling | None]) -> Ruling | None:
        """`judge` the votes; a ruling is written down, and from then on it is the ruling whatever the time."""
        if judge(self.votes(execution_id)) is None:  # the usual case costs no lock
            return None
        with self._ledger.writing() as db:
            ruling = judge(_votes(db, execution_id))
            if ruling is not None:
                db.execute(
                    "UPDATE holds SET ruling = ? WHERE execution_id = ? AND ruling = ''", (ruling.word, execution_id)
                )
        return ruling


def _hold(db: sqlite3.Connection, execution_id: str) -> Hold | None:
    row = db.execute("SELECT * FROM holds WHERE execution_id = ?", (execution_id,)).fetchone()
    return None if row is None else Hold(**dict(row))


def _votes(db: sqlite3.Connection, execution_id: str) -> tuple[Vote, ...]:
    rows = db.execute("SELECT * FROM votes WHERE execution_id = ? ORDER BY position", (execution_id,))
    return tuple(
        Vote(signer=row["signer"], approve=bool(row["approve"]), reason=row["reason"], signature=row["signature"])
        for row in rows
    )
