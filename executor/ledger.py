"""What a node must never forget: what it has signed, its append-only log of receipts, and what it was about to do.

One sqlite3 file (WAL, synchronous=FULL). The rule that matters is in `sign_once`: for one request there is one record,
on disk before it leaves, so that neither kill -9 nor a second process makes this key sign two outcomes. A ledger
belongs to one key; a lost ledger means a new key, never a new ledger for the old key.

The log is a Merkle tree of RFC 6962 (`executor/ledgerlog.py`): each receipt that was signed, and before and after
it the begin and the end of every execution, signed or not.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from executor import ledgerlog
from executor.errors import InsulaError, InvalidInput
from executor.ledgerlog import LogEntry
from executor.protocol.canonical import sha256
from executor.protocol.logentry import end_body, intent_body
from executor.protocol.logproof import hashes_of
from executor.protocol.receipt import receipt_hash

VERSION: Final = 4
BUSY_SECONDS: Final = 30.0

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE signed (
    request_hash BLOB PRIMARY KEY, slot INTEGER NOT NULL, outcome BLOB NOT NULL, receipt BLOB NOT NULL,
    relayer TEXT NOT NULL, log_root BLOB NOT NULL, log_size INTEGER NOT NULL UNIQUE, signature BLOB NOT NULL,
    signed_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE log (position INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE peaks (level INTEGER PRIMARY KEY, hash BLOB NOT NULL);
CREATE TABLE intents (
    execution_id TEXT PRIMARY KEY, request_hash BLOB NOT NULL, request_id INTEGER NOT NULL, lease_id TEXT NOT NULL,
    slot INTEGER NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, detail TEXT NOT NULL,
    started_at REAL NOT NULL, changed_at REAL NOT NULL, closed_at REAL
) WITHOUT ROWID;
CREATE INDEX intents_by_time ON intents (started_at);
"""
#: since version 2: outputs that wait for their release (executor/holds.py)
_HOLDS: Final = """
CREATE TABLE holds (
    execution_id TEXT PRIMARY KEY, request_hash BLOB NOT NULL, request_id INTEGER NOT NULL, lease TEXT NOT NULL,
    decided TEXT NOT NULL, root TEXT NOT NULL, findings TEXT NOT NULL, outcome_hash BLOB NOT NULL,
    manifest_hash BLOB NOT NULL, salt BLOB NOT NULL, policy_hash BLOB NOT NULL, disk_bytes INTEGER NOT NULL,
    held_at REAL NOT NULL, until REAL NOT NULL, ruling TEXT NOT NULL, closed_at REAL
) WITHOUT ROWID;
CREATE TABLE votes (
    position INTEGER PRIMARY KEY, execution_id TEXT NOT NULL, signer TEXT NOT NULL, approve INTEGER NOT NULL,
    reason INTEGER NOT NULL, signature BLOB NOT NULL, cast_at REAL NOT NULL, UNIQUE (execution_id, signer)
);
"""
#: since version 3: a receipt's envelope and its place in the log; the log's own words
_RECORD: Final = """
ALTER TABLE signed ADD COLUMN dsse_signature BLOB;
ALTER TABLE signed ADD COLUMN log_proof BLOB;
ALTER TABLE log ADD COLUMN body TEXT;
"""
#: since version 4: forms of held outputs with less in them, each with votes of its own
_REDACTIONS: Final = """
CREATE TABLE redactions (
    id TEXT PRIMARY KEY, execution_id TEXT NOT NULL, root TEXT NOT NULL, outcome_hash BLOB NOT NULL,
    manifest_hash BLOB NOT NULL, salt BLOB NOT NULL, changes_hash BLOB NOT NULL, findings TEXT NOT NULL,
    proposed_by TEXT NOT NULL, proposed_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE votes_on_forms (
    position INTEGER PRIMARY KEY, execution_id TEXT NOT NULL, signer TEXT NOT NULL, approve INTEGER NOT NULL,
    reason INTEGER NOT NULL, signature BLOB NOT NULL, cast_at REAL NOT NULL, redaction TEXT NOT NULL,
    UNIQUE (execution_id, signer, redaction)
);
INSERT INTO votes_on_forms
    SELECT position, execution_id, signer, approve, reason, signature, cast_at, '' FROM votes;
DROP TABLE votes;
ALTER TABLE votes_on_forms RENAME TO votes;
"""
_STEPS: Final = {1: _HOLDS, 2: _RECORD, 3: _REDACTIONS}

#: of an output that nobody holds any more nothing stays, not even what a guess could be held against
SCRUB_HOLD: Final = "decided = '', root = '', findings = '', outcome_hash = x'', manifest_hash = x'', salt = x''"

_DAMAGED: Final = (
    ": the ledger is damaged, so nobody knows what this key has signed, and the key must sign no more. Keep the file; "
    "make a new key with `insula node init` in a new folder, and let it join this node with "
    "`insula node rotate-key N --dir FOLDER`"
)


class LedgerError(InsulaError):
    """The ledger cannot be read or written. damaged: for good; else it may go again, as where the disk was full."""

    def __init__(self, problem: str, *, damaged: bool = False) -> None:
        super().__init__(problem)
        self.damaged = damaged


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a node is about to sign: `outcome` is abi.encode(outcome), `receipt` the receipt's exact bytes.

    dsse_signature: of the receipt's envelope, kept with the rest so that it, too, is the same when asked again.
    """

    request_hash: bytes
    slot: int
    outcome: bytes
    receipt: bytes
    relayer: str
    dsse_signature: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class SignedRecord:
    """What a node has signed for a request, the one and only. `log_root` and `log_size` are after this receipt.

    log_proof: that the receipt is the last of these entries. It and the envelope are None of records from before.
    """

    request_hash: bytes
    slot: int
    outcome: bytes
    receipt: bytes
    relayer: str
    log_root: bytes
    log_size: int
    signature: bytes
    signed_at: float
    dsse_signature: bytes | None = None
    log_proof: tuple[bytes, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Intent:
    """An execution that was begun. `state` is "running" until it is closed; `closed_at` None means that it is open."""

    execution_id: str
    request_hash: bytes
    request_id: int
    lease_id: str
    slot: int
    attempt: int
    state: str = "running"
    detail: str = ""
    started_at: float
    changed_at: float
    closed_at: float | None = None


class Ledger:
    """See the module. One per node; any number of threads."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        self._lock = threading.RLock()

    @classmethod
    def create(cls, path: Path, key: str) -> Self:
        """A new, empty ledger for the key with this address. InvalidInput if the file exists."""
        if path.exists():
            raise InvalidInput(str(path), "exists already; a ledger is never replaced")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # its WAL gets the same mode
        with _translated(path), closing(_connect(path)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"BEGIN;{_SCHEMA}{''.join(_STEPS.values())}PRAGMA user_version = {VERSION};COMMIT;")
            db.execute("INSERT INTO meta VALUES ('key', ?)", (key,))
        return cls.open(path, key)

    @classmethod
    def open(cls, path: Path, key: str) -> Self:
        """The ledger of this key. InvalidInput if it is not there or belongs to another key."""
        if not path.is_file():
            raise InvalidInput(
                str(path),
                "is not there, so nobody knows what this key has signed; make a new key with `insula node init` in a "
                "new folder, and replace the node's key in the registry",
            )
        with _translated(path):
            db = _connect(path)
            try:
                _check(path, db, key)
            except BaseException:
                db.close()
                raise
            return cls(path, db)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # -- signing ---------------------------------------------------------------------------------------------------

    def sign_once(self, draft: Draft, sign: Callable[[bytes, int], bytes], now: float) -> SignedRecord:
        """The one record of `draft.request_hash`: an earlier one unchanged, else `draft`, signed and on disk.

        sign(log_root, log_size) gives the 65 bytes of the signature; the record becomes visible to nobody before it is
        committed. LedgerError, and nothing signed, when the disk says no.
        """
        with self.writing() as db:
            earlier = _signed(db, draft.request_hash)
            if earlier is not None:
                return earlier
            added = ledgerlog.append(db, receipt_hash(draft.receipt))
            record = SignedRecord(
                **asdict(draft),
                log_root=added.root,
                log_size=added.size,
                signature=sign(added.root, added.size),
                signed_at=now,
                log_proof=added.proof,
            )
            db.execute(
                "INSERT INTO signed (request_hash, slot, outcome, receipt, relayer, log_root, log_size, signature,"
                " signed_at, dsse_signature, log_proof) VALUES (:request_hash, :slot, :outcome, :receipt, :relayer,"
                " :log_root, :log_size, :signature, :signed_at, :dsse_signature, :log_proof)",
                {**asdict(record), "log_proof": b"".join(added.proof)},
            )
        return record

    def signed(self, request_hash: bytes) -> SignedRecord | None:
        """What was signed for a request, if anything."""
        with self.reading() as db:
            return _signed(db, request_hash)

    def signed_count(self) -> int:
        """How many requests were signed."""
        with self.reading() as db:
            return int(db.execute("SELECT count(*) FROM signed").fetchone()[0])

    # -- the log ---------------------------------------------------------------------------------------------------

    def log_root(self) -> tuple[bytes, int]:
        """Root and size of the log now."""
        with self.reading() as db:
            return ledgerlog.root_now(db), ledgerlog.size_of(db)

    def log_entries(self, size: int | None = None) -> list[bytes]:
        """The log's first `size` entries (all by default): hashes, for proofs."""
        with self.reading() as db:
            return ledgerlog.entries(db, size)

    def last_entries(self, count: int) -> list[LogEntry]:
        """The log's newest entries, newest first, with what they say."""
        with self.reading() as db:
            return ledgerlog.last_entries(db, count)

    def check_log(self) -> str:
        """What does not fit between the log and what was signed, empty where all does; reads everything."""
        with self.reading() as db:
            return ledgerlog.problem(db)

    # -- intents ---------------------------------------------------------------------------------------------------

    def begin(self, intent: Intent) -> None:
        """Write down what is about to be done, before it is done; in the log, too."""
        body = intent_body(intent.execution_id, intent.request_hash, intent.slot, intent.attempt, intent.started_at)
        with self.writing() as db:
            ledgerlog.append(db, sha256(body), body.decode())
            db.execute(
                "INSERT INTO intents VALUES (:execution_id, :request_hash, :request_id, :lease_id, :slot, :attempt,"
                " :state, :detail, :started_at, :changed_at, :closed_at)",
                asdict(intent),
            )

    def note(self, execution_id: str, state: str, now: float) -> None:
        """Say which phase an open execution is in."""
        with self.writing() as db:
            db.execute(
                "UPDATE intents SET state = ?, changed_at = ? WHERE execution_id = ? AND closed_at IS NULL",
                (state, now, execution_id),
            )

    def finish(
        self,
        execution_id: str,
        state: str,
        detail: str,
        now: float,
        *,
        keep_hold: bool = False,
        opening: Mapping[str, Any] | None = None,
    ) -> None:
        """Close an execution, held or not: how it ended, in the log, too. Closing a closed one changes nothing.

        keep_hold: its output was not released, and the operator keeps it for a while (`Holds.scrub` ends that).
        opening: root, outcome_hash, manifest_hash and salt of the original of what was released in part. They stay if
        it was signed for, so that it can be proved what was taken out.
        """
        body = end_body(execution_id, state, now)
        scrub = "" if keep_hold else f", {SCRUB_HOLD}"
        with self.writing() as db:
            closed_hold = db.execute(
                f"UPDATE holds SET closed_at = ?{scrub} WHERE execution_id = ? AND closed_at IS NULL",  # noqa: S608 - ours
                (now, execution_id),
            )
            if closed_hold.rowcount and opening is not None:
                db.execute(
                    "UPDATE holds SET root = :root, outcome_hash = :outcome_hash, manifest_hash = :manifest_hash,"
                    " salt = :salt WHERE execution_id = :id AND request_hash IN (SELECT request_hash FROM signed)",
                    {**opening, "id": execution_id},
                )
            db.execute("DELETE FROM redactions WHERE execution_id = ?", (execution_id,))
            closed = db.execute(
                "UPDATE intents SET state = ?, detail = ?, changed_at = ?, closed_at = ?"
                " WHERE execution_id = ? AND closed_at IS NULL",
                (state, detail, now, now, execution_id),
            )
            if closed.rowcount:
                ledgerlog.append(db, sha256(body), body.decode())

    def open_intents(self) -> list[Intent]:
        """Executions that were begun and not closed, oldest first; after a start-up these are what a crash left."""
        return self._intents("WHERE closed_at IS NULL ORDER BY started_at", 10_000)

    def last_intents(self, count: int) -> list[Intent]:
        """The newest executions, newest first."""
        return self._intents("ORDER BY started_at DESC", count)

    def last_intent(self, request_hash: bytes) -> Intent | None:
        """The newest execution of one request."""
        with self.reading() as db:
            row = db.execute(
                "SELECT * FROM intents WHERE request_hash = ? ORDER BY started_at DESC LIMIT 1", (request_hash,)
            ).fetchone()
        return None if row is None else Intent(**dict(row))

    def _intents(self, clause: str, count: int) -> list[Intent]:
        with self.reading() as db:
            rows = db.execute(f"SELECT * FROM intents {clause} LIMIT ?", (count,)).fetchall()  # noqa: S608 - ours
        return [Intent(**dict(row)) for row in rows]

    # -- transactions ----------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The file, to read. LedgerError."""
        with self._lock, _translated(self.path):
            yield self._db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is on disk at the end, or nothing. LedgerError."""
        with self._lock, _translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")  # fsyncs: synchronous=FULL
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


class FolderLock:
    """One agent per work folder. The lock is the kernel's: it ends with the process, however that ends."""

    def __init__(self, folder: Path, wait_seconds: float = 1.0) -> None:
        self._path = folder / "agent.lock"
        self._wait_seconds = wait_seconds  # `is_locked` of another process holds it for an instant
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _flock(descriptor, self._wait_seconds)
        except BlockingIOError as exc:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise InvalidInput(
                str(self._path.parent),
                f"another node process ({holder or 'unknown'}) works in this folder; stop it first, or give this "
                "node a folder and a key of its own",
            ) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)  # for the message of whoever comes second
        self._descriptor = descriptor
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _flock(descriptor: int, wait_seconds: float) -> None:
    end = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.02)
        else:
            return


def is_locked(folder: Path) -> bool:
    """Whether an agent works in this folder now."""
    try:
        with FolderLock(folder, wait_seconds=0):
            return False
    except InvalidInput:
        return True


def _connect(path: Path) -> sqlite3.Connection:
    # isolation_level None: this module writes BEGIN and COMMIT itself. Its lock makes one thread use it at a time.
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")  # what a held output leaves here is overwritten when it ends
    return db


def _check(path: Path, db: sqlite3.Connection, key: str) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version in _STEPS:
        version = _upgrade(db)
    if version != VERSION:
        raise InvalidInput(str(path), f"is a ledger of version {version}; this program reads version {VERSION}")
    owner = db.execute("SELECT value FROM meta WHERE name = 'key'").fetchone()
    if owner is None or owner[0] != key:
        raise InvalidInput(str(path), f"belongs to the key {owner[0] if owner else '?'}, not to {key}")


def _upgrade(db: sqlite3.Connection) -> int:
    """From an older version, whoever comes first; the version then. Nothing that was there is touched."""
    db.execute("BEGIN IMMEDIATE")
    try:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        while version in _STEPS:
            for statement in _STEPS[version].split(";"):
                db.execute(statement)
            version += 1
            db.execute(f"PRAGMA user_version = {version}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return version


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        damaged = getattr(exc, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        raise LedgerError(f"{path}: {exc}{_DAMAGED if damaged else ''}", damaged=damaged) from exc


def _signed(db: sqlite3.Connection, request_hash: bytes) -> SignedRecord | None:
    row = db.execute("SELECT * FROM signed WHERE request_hash = ?", (request_hash,)).fetchone()
    if row is None:
        return None
    fields: dict[str, Any] = dict(row)
    if fields["log_proof"] is not None:
        fields["log_proof"] = hashes_of(fields["log_proof"])
    return SignedRecord(**fields)
