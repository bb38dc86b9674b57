"""Outputs that wait for their release: what a node's ledger says of them, their redactions and their reviewers' votes.

A hold and the phase of its execution are written in one transaction, before anybody is asked. The ruling is taken and
written in one transaction with the votes that it rests on, so that no vote comes between; after it, votes are refused.
A redaction's row is written once and never changed; its blocks are in the quarantine before it.
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
from executor.protocol.release import Held, Redacted, Vote

HELD = "held"  # the state of an intent
MAX_REDACTIONS = 8  # of one output, by one reviewer


@dataclass(frozen=True, kw_only=True)
class Hold:
    """One held output. lease, decided: JSON, the node's own; root: the output's CID; findings: broken rules, a line
    each; `until`: when waiting ends, seconds since 1970; `ruling`: approved, redacted, refused (a
    redaction, by the audit), rejected, timeout or "" (none).
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


@dataclass(frozen=True, kw_only=True)
class Redaction:
    """One form of a held output with less in it. root: its CID, whose blocks are in the quarantine.

    findings: as of a hold; changes_hash: of its `Changes`; proposed_by: a reviewer's address, "" in the node's folder.
    """

    execution_id: str
    root: str
    outcome_hash: bytes
    manifest_hash: bytes
    salt: bytes
    changes_hash: bytes
    findings: str
    proposed_by: str
    proposed_at: float

    @property
    def held(self) -> Held:
        """This form, as its reviewers see it."""
        return Held(outcome_hash=self.outcome_hash, manifest_hash=self.manifest_hash, salt=self.salt)

    @property
    def signed(self) -> Redacted:
        """What reviewers sign of it, beside the original."""
        return Redacted(held=self.held.hash, changes=self.changes_hash)

    @property
    def id(self) -> str:
        """Its name on this node."""
        return self.signed.id


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
            for earlier in (found for found in _votes(db, execution_id) if found.signer == vote.signer):
                if (earlier.approve, earlier.reason, earlier.redaction) == (vote.approve, vote.reason, vote.redaction):
                    return False
                if not (earlier.approve and vote.approve):  # several forms may be approved, each for itself
                    word = "approved" if earlier.approve else "rejected"
                    form = f" (redaction {earlier.redaction})" if earlier.redaction else ""
                    problem = f"{vote.signer} has {word} it already{form}; the first decision stands"
                    raise InvalidInput("signature", problem)
            _check_open(hold, now)
            if vote.redaction and vote.redaction not in {one.id for one in _redactions(db, execution_id)}:
                raise InvalidInput("--redaction", f"{vote.redaction!r:.40} is no redaction of {execution_id}")
            db.execute(
                "INSERT INTO votes (execution_id, signer, approve, reason, signature, cast_at, redaction)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (execution_id, vote.signer, int(vote.approve), vote.reason, vote.signature, now, vote.redaction),
            )
        return True

    def redactions(self, execution_id: str) -> tuple[Redaction, ...]:
        """What was proposed, in the order in which it came."""
        with self._ledger.reading() as db:
            return _redactions(db, execution_id)

    def check_proposal(self, execution_id: str, by: str, now: float) -> None:
        """InvalidInput where a redaction by this reviewer would not be kept: asked before its blocks are made."""
        with self._ledger.reading() as db:
            _check_proposal(db, execution_id, by, now)

    def propose(self, redaction: Redaction) -> Redaction:
        """Keep a redaction, or find the one of the same bytes that is kept already.

        InvalidInput: the output is decided on or its time is over, or the reviewer has proposed MAX_REDACTIONS.
        """
        with self._ledger.writing() as db:
            _check_proposal(db, redaction.execution_id, redaction.proposed_by, redaction.proposed_at)
            earlier = _redactions(db, redaction.execution_id)
            same = next((one for one in earlier if one.root == redaction.root), None)
            if same is not None:
                return same
            db.execute(
                "INSERT INTO redactions VALUES (:id, :execution_id, :root, :outcome_hash, :manifest_hash, :salt,"
                " :changes_hash, :findings, :proposed_by, :proposed_at)",
                {**asdict(redaction), "id": redaction.id},
            )
        return redaction

    def overrule(self, execution_id: str) -> None:
        """Write down that the audit refuses the redaction that was approved: it is as if nothing had been released."""
        with self._ledger.writing() as db:
            db.execute(
                "UPDATE holds SET ruling = 'refused' WHERE execution_id = ? AND ruling = 'redacted'", (execution_id,)
            )

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


def _check_open(hold: Hold, now: float) -> None:
    if hold.ruling or hold.closed_at is not None:
        raise InvalidInput("ID", f"{hold.execution_id} is decided on already: {hold.ruling or 'its lease is over'}")
    if now >= hold.until:
        raise InvalidInput("ID", f"the time to decide on {hold.execution_id} is over; it will be withheld")


def _check_proposal(db: sqlite3.Connection, execution_id: str, by: str, now: float) -> None:
    hold = _hold(db, execution_id)
    if hold is None:
        raise InvalidInput("ID", f"{execution_id} is not held on this node")
    _check_open(hold, now)
    if sum(one.proposed_by == by for one in _redactions(db, execution_id)) >= MAX_REDACTIONS:
        problem = (
            f"{execution_id} has {MAX_REDACTIONS} redactions by this reviewer, the most that are kept; approve one"
        )
        raise InvalidInput("ID", problem)


def _redactions(db: sqlite3.Connection, execution_id: str) -> tuple[Redaction, ...]:
    rows = db.execute("SELECT * FROM redactions WHERE execution_id = ? ORDER BY proposed_at, id", (execution_id,))
    return tuple(Redaction(**{name: row[name] for name in row.keys() if name != "id"}) for row in rows)  # noqa: SIM118


def _votes(db: sqlite3.Connection, execution_id: str) -> tuple[Vote, ...]:
    rows = db.execute("SELECT * FROM votes WHERE execution_id = ? ORDER BY position", (execution_id,))
    return tuple(
        Vote(
            signer=row["signer"],
            approve=bool(row["approve"]),
            reason=row["reason"],
            signature=row["signature"],
            redaction=row["redaction"],
        )
        for row in rows
    )
