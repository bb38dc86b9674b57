"""Outputs that wait for their release: what a node's ledger says of them, their redactions and their reviewers' votes.

A hold and the phase of its execution are written in one transaction, before anybody is asked. The ruling is taken and
written in one transaction with the votes that it rests on, so that no vote comes between; after it, votes are refused.
A redaction's row is written once and never changed; its blocks are in the quarantine before it.
A hold ends with its execution (`Ledger.finish`): then its row says only that it was there, and how it was ruled.
Until then, and for as long as the operator keeps what was rejected, what the row says of the output is sealed with the
key of its quarantine: with that key it is gone as well, from the write-ahead log and from every copy of the file.
Tables: `executor/ledger.py`.
"""

from __future__ import annotations

import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from executor.audit.release import Ruling
from executor.errors import InvalidInput
from executor.ledger import SCRUB_HOLD, Ledger
from executor.protocol.release import Held, Redacted, Vote
from executor.quarantine import QuarantineKeys
from executor.sealing import SealBroken, derive, seal, unseal

HELD = "held"  # the state of an intent
MAX_REDACTIONS = 8  # of one output, by one reviewer
_KEY_GONE: Final = "the key of its quarantine is gone, and with it the output"
#: what a row says of the output, and is sealed: fields of text, fields of bytes
_TEXTS: Final = ("decided", "root", "findings")
_BYTES: Final = ("outcome_hash", "manifest_hash", "salt")
#: the same of a redaction's row
_FORM_TEXTS: Final = ("root", "findings")
_FORM_BYTES: Final = ("outcome_hash", "manifest_hash", "salt", "changes_hash")


@dataclass(frozen=True, kw_only=True)
class Hold:
    """One held output. lease: JSON, the node's own; decided, withheld: what is signed if it is released, and if it is
    not; root: the output's CID; findings: broken rules, a line each; `until`: when waiting ends, seconds since 1970;
    `ruling`: approved, redacted, refused (a redaction, by the audit), rejected, timeout or "" (none yet).

    gone: why nothing of the output can be read any more, else empty. Then all that is known of it is `withheld` and
    `held_hash`; without `withheld`, a node of an older version held it.
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
    withheld: str = ""
    gone: str = ""
    shown_hash: bytes = b""  # the held_hash of what is gone

    @property
    def held(self) -> Held:
        """What reviewers sign."""
        return Held(outcome_hash=self.outcome_hash, manifest_hash=self.manifest_hash, salt=self.salt)

    @property
    def held_hash(self) -> bytes:
        """Its hash. The salt is in it, so that nobody can try outputs against it."""
        return self.shown_hash or self.held.hash


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
    """The held outputs of one ledger, and `keys`, those of their quarantines. Any number of threads and processes."""

    def __init__(self, ledger: Ledger, keys: QuarantineKeys) -> None:
        self._ledger = ledger
        self.keys = keys

    def hold(self, hold: Hold) -> None:
        """Write down that an output is in quarantine and waits. InvalidInput where its key is gone already."""
        key = self.keys.get(hold.execution_id)
        if key is None:
            raise InvalidInput(hold.execution_id, _KEY_GONE)
        with self._ledger.writing() as db:
            db.execute(
                "INSERT INTO holds VALUES (:execution_id, :request_hash, :request_id, :lease, :decided, :root,"
                " :findings, :outcome_hash, :manifest_hash, :salt, :policy_hash, :disk_bytes, :held_at, :until,"
                " :ruling, :closed_at)",
                _row(hold, key),
            )
            db.execute(
                "UPDATE intents SET state = ?, changed_at = ? WHERE execution_id = ? AND closed_at IS NULL",
                (HELD, hold.held_at, hold.execution_id),
            )

    def open(self) -> list[Hold]:
        """Those whose execution has not ended, oldest first."""
        return self._all("closed_at IS NULL ORDER BY held_at")

    def kept(self) -> list[Hold]:
        """Those that were not released, whose execution has ended, and whose bytes are still there; oldest first."""
        return self._all("closed_at IS NOT NULL AND decided != '' ORDER BY closed_at")

    def scrub(self, execution_id: str) -> None:
        """Nothing of the output stays in its row."""
        with self._ledger.writing() as db:
            db.execute(f"UPDATE holds SET {SCRUB_HOLD} WHERE execution_id = ?", (execution_id,))  # noqa: S608 - ours

    def get(self, execution_id: str) -> Hold | None:
        """One of them, ended or not."""
        with self._ledger.reading() as db:
            return _hold(db, execution_id, self.keys)

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
            hold = _hold(db, execution_id, self.keys)
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
            if vote.redaction and vote.redaction not in _redaction_ids(db, execution_id):
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
            return _redactions(db, execution_id, self.keys)

    def check_proposal(self, execution_id: str, by: str, now: float) -> None:
        """InvalidInput where a redaction by this reviewer would not be kept: asked before its blocks are made."""
        with self._ledger.reading() as db:
            _check_proposal(db, execution_id, by, now, self.keys)

    def propose(self, redaction: Redaction) -> Redaction:
        """Keep a redaction, or find the one of the same bytes that is kept already.

        InvalidInput: the output is decided on or its time is over, or the reviewer has proposed MAX_REDACTIONS.
        """
        with self._ledger.writing() as db:
            _check_proposal(db, redaction.execution_id, redaction.proposed_by, redaction.proposed_at, self.keys)
            key = self.keys.get(redaction.execution_id)
            if key is None:
                raise InvalidInput("ID", _KEY_GONE)
            earlier = _redactions(db, redaction.execution_id, self.keys)
            same = next((one for one in earlier if one.root == redaction.root), None)
            if same is not None:
                return same
            db.execute(
                "INSERT INTO redactions VALUES (:id, :execution_id, :root, :outcome_hash, :manifest_hash, :salt,"
                " :changes_hash, :findings, :proposed_by, :proposed_at)",
                _form_row(redaction, key),
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

    def _all(self, clause: str) -> list[Hold]:
        with self._ledger.reading() as db:
            rows = db.execute(f"SELECT * FROM holds WHERE {clause}").fetchall()  # noqa: S608 - ours
        return [_opened(dict(row), self.keys) for row in rows]


def _hold(db: sqlite3.Connection, execution_id: str, keys: QuarantineKeys) -> Hold | None:
    row = db.execute("SELECT * FROM holds WHERE execution_id = ?", (execution_id,)).fetchone()
    return None if row is None else _opened(dict(row), keys)


def _row(hold: Hold, key: bytes) -> dict[str, Any]:
    """The hold as its row: what tells of the output is sealed, in `decided`; the columns that were for it are empty."""
    row = asdict(hold)
    sealed = _sealed(row, _TEXTS, _BYTES, key, _about(row))
    public = {"sealed": sealed, "held": hold.held_hash.hex(), "withheld": hold.withheld}
    return row | dict.fromkeys(_TEXTS, "") | dict.fromkeys(_BYTES, b"") | {"decided": json.dumps(public)}


def _opened(row: dict[str, Any], keys: QuarantineKeys) -> Hold:
    if not row["decided"]:  # it has ended, and is scrubbed
        return Hold(**row)
    public = json.loads(row["decided"])
    if "sealed" not in public:
        return Hold(**row, gone="it is held by an older version of this node, which did not encrypt it")
    row |= {"decided": "", "withheld": public["withheld"]}
    shown_hash = bytes.fromhex(public["held"])
    key = keys.get(row["execution_id"])
    if key is None:
        return Hold(**row, shown_hash=shown_hash, gone=_KEY_GONE)
    try:
        row |= _unsealed(public["sealed"], _TEXTS, _BYTES, key, _about(row))
    except SealBroken as exc:
        return Hold(**row, shown_hash=shown_hash, gone=f"its row in the ledger does not open: {exc}")
    return Hold(**row)


def _sealed(row: dict[str, Any], texts: Iterable[str], hashes: Iterable[str], key: bytes, about: bytes) -> str:
    secret = {name: row[name] for name in texts} | {name: row[name].hex() for name in hashes}
    return b64encode(seal(_row_key(key), json.dumps(secret).encode(), about)).decode()


def _unsealed(sealed: str, texts: Iterable[str], hashes: Iterable[str], key: bytes, about: bytes) -> dict[str, Any]:
    try:
        given = b64decode(sealed, validate=True)
    except ValueError as exc:
        raise SealBroken("what was sealed is no base64") from exc
    secret = json.loads(unseal(_row_key(key), given, about))
    return {name: secret[name] for name in texts} | {name: bytes.fromhex(secret[name]) for name in hashes}


def _row_key(key: bytes) -> bytes:
    return derive(key, "a hold's row")


def _about(row: dict[str, Any]) -> bytes:
    return bytes(row["request_hash"]) + str(row["execution_id"]).encode()


def _check_open(hold: Hold, now: float) -> None:
    if hold.ruling or hold.closed_at is not None:
        raise InvalidInput("ID", f"{hold.execution_id} is decided on already: {hold.ruling or 'its lease is over'}")
    if now >= hold.until:
        raise InvalidInput("ID", f"the time to decide on {hold.execution_id} is over; it will be withheld")


def _check_proposal(db: sqlite3.Connection, execution_id: str, by: str, now: float, keys: QuarantineKeys) -> None:
    hold = _hold(db, execution_id, keys)
    if hold is None:
        raise InvalidInput("ID", f"{execution_id} is not held on this node")
    _check_open(hold, now)
    mine = "SELECT count(*) FROM redactions WHERE execution_id = ? AND proposed_by = ?"
    if db.execute(mine, (execution_id, by)).fetchone()[0] >= MAX_REDACTIONS:
        problem = (
            f"{execution_id} has {MAX_REDACTIONS} redactions by this reviewer, the most that are kept; approve one"
        )
        raise InvalidInput("ID", problem)


def _redaction_ids(db: sqlite3.Connection, execution_id: str) -> set[str]:
    return {row["id"] for row in db.execute("SELECT id FROM redactions WHERE execution_id = ?", (execution_id,))}


def _redactions(db: sqlite3.Connection, execution_id: str, keys: QuarantineKeys) -> tuple[Redaction, ...]:
    """None of an output that is gone: they went with it."""
    key = keys.get(execution_id)
    if key is None:
        return ()
    rows = db.execute("SELECT * FROM redactions WHERE execution_id = ? ORDER BY proposed_at, id", (execution_id,))
    found = (_form_opened(dict(row), key) for row in rows.fetchall())
    return tuple(one for one in found if one is not None)


def _form_row(redaction: Redaction, key: bytes) -> dict[str, Any]:
    """As `_row`, sealed in `findings`. The id is of a salted hash and tells nothing."""
    row = asdict(redaction) | {"id": redaction.id}
    sealed = _sealed(row, _FORM_TEXTS, _FORM_BYTES, key, row["id"].encode())
    return row | dict.fromkeys(_FORM_TEXTS, "") | dict.fromkeys(_FORM_BYTES, b"") | {"findings": sealed}


def _form_opened(row: dict[str, Any], key: bytes) -> Redaction | None:
    try:
        row |= _unsealed(row["findings"], _FORM_TEXTS, _FORM_BYTES, key, row["id"].encode())
    except SealBroken:  # nobody can approve what nobody can read
        return None
    del row["id"]
    return Redaction(**row)


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
