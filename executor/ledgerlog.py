"""The append-only log inside a ledger: what is in it, how it grows, and whether it is still what was signed.

An entry is a SHA-256: of a receipt, or of a body that stays here (`executor.protocol.logentry`): an intent before an
execution begins, an end when it has one. Only the roots of the tree's full subtrees ("peaks", one per set bit of the
size) are needed to append, so an entry costs the same whatever the log's length. They are also, smallest first, the
proof that the entry that comes next is the last one.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from executor.protocol.canonical import sha256
from executor.protocol.merkle import Tree, leaf_hash, node_hash, root_of
from executor.protocol.receipt import receipt_hash


@dataclass(frozen=True)
class Appended:
    """An entry that was added: the log's root and size with it, and the proof that it is the last one."""

    root: bytes
    size: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class LogEntry:
    """One entry. `body` is JSON, or None of a receipt."""

    position: int
    entry: bytes
    body: str | None


def size_of(db: sqlite3.Connection) -> int:
    """How many entries there are."""
    return int(db.execute("SELECT coalesce(max(position) + 1, 0) FROM log").fetchone()[0])


def root_now(db: sqlite3.Connection) -> bytes:
    """The root of the whole log."""
    peaks = _peaks(db)
    if not peaks:
        return root_of([])
    root = peaks[0]
    for left in peaks[1:]:
        root = node_hash(left, root)
    return root


def append(db: sqlite3.Connection, entry: bytes, body: str | None = None) -> Appended:
    """Add an entry. Like adding 1 in binary: full subtrees of one size merge upwards."""
    size, proof = size_of(db), _peaks(db)
    db.execute("INSERT INTO log (position, entry, body) VALUES (?, ?, ?)", (size, entry, body))
    top, level = leaf_hash(entry), 0
    while size >> level & 1:
        left = db.execute("SELECT hash FROM peaks WHERE level = ?", (level,)).fetchone()[0]
        db.execute("DELETE FROM peaks WHERE level = ?", (level,))
        top, level = node_hash(left, top), level + 1
    db.execute("INSERT INTO peaks VALUES (?, ?)", (level, top))
    return Appended(root_now(db), size + 1, tuple(proof))


def entries(db: sqlite3.Connection, size: int | None = None) -> list[bytes]:
    """The first `size` entries, all by default."""
    rows = db.execute("SELECT entry FROM log ORDER BY position LIMIT ?", (-1 if size is None else size,))
    return [row[0] for row in rows]


def last_entries(db: sqlite3.Connection, count: int) -> list[LogEntry]:
    """The newest entries, newest first."""
    rows = db.execute("SELECT position, entry, body FROM log ORDER BY position DESC LIMIT ?", (count,))
    return [LogEntry(row["position"], row["entry"], row["body"]) for row in rows]


def problem(db: sqlite3.Connection) -> str:
    """What does not fit: an entry that is not its body's hash, a signed record that does not follow from the entries.

    Empty where all does. Reads everything, once.
    """
    signed = {row["log_size"]: row for row in db.execute("SELECT receipt, log_root, log_size FROM signed")}
    tree = Tree()
    for row in db.execute("SELECT position, entry, body FROM log ORDER BY position"):
        size = row["position"] + 1
        if size != tree.size + 1:
            return f"entry {tree.size + 1} is gone"
        tree.append(leaf_hash(row["entry"]))
        if said := _entry_problem(row, signed.pop(size, None), tree):
            return said
    if signed:
        return f"the log ends at {tree.size} entries, and a root of {max(signed)} was signed"
    if tree.root() != root_now(db):
        return "the tree's stored peaks are not those of its entries"
    return ""


def _entry_problem(row: sqlite3.Row, record: sqlite3.Row | None, tree: Tree) -> str:
    if record is None:
        is_its_own = row["body"] is not None and sha256(row["body"].encode()) == row["entry"]
        return "" if is_its_own else f"entry {tree.size} belongs to nothing that was signed, begun or ended"
    if receipt_hash(record["receipt"]) != row["entry"]:
        return f"entry {tree.size} is not the hash of the receipt that was signed with it"
    if tree.root() != record["log_root"]:
        return f"the root that was signed at {tree.size} entries does not follow from them"
    return ""


def _peaks(db: sqlite3.Connection) -> list[bytes]:
    """Smallest first."""
    return [row[0] for row in db.execute("SELECT hash FROM peaks ORDER BY level")]
