"""Which DAGs a store keeps, for how long, and which blocks the world may see.

A root is kept under a label ("job:0x...", "upload:..."), so that two reasons to keep one DAG do not end each other.
Private is the default. A block is public only if it was reachable from a root when that root was published: the list is
written down then, so that serving a block costs one look-up and nothing that arrives later becomes public by itself.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

from executor.content.blockstore import BlockStore
from executor.content.walk import walk
from executor.errors import BlockMismatch, BlockMissing, ContentError, DiskFull
from executor.protocol.cid import Cid

BUSY_SECONDS: Final = 30.0
"""How long to wait for another process that writes roots."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS roots (
    root BLOB NOT NULL, label TEXT NOT NULL, public INTEGER NOT NULL, expires_at REAL,
    PRIMARY KEY (root, label)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS public_blocks (
    cid BLOB NOT NULL, root BLOB NOT NULL, PRIMARY KEY (cid, root)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS public_blocks_by_root ON public_blocks (root);
CREATE TABLE IF NOT EXISTS whole_roots (root BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_LIVE: Final = "(expires_at IS NULL OR expires_at > :now)"


class RootsDamaged(ContentError):
    """The list of kept content cannot be read; a human has to move it away."""


@dataclass(frozen=True, slots=True)
class Root:
    """A DAG that is kept. expires_at: seconds since 1970, None for as long as nobody drops it."""

    cid: Cid
    label: str
    public: bool
    expires_at: float | None


class RootSet:
    """The kept roots of one store, in a sqlite3 file beside its blocks; any number of threads and processes."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._path = store.root / "roots.sqlite3"
        with store.locked(exclusive=True), self._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)

    def keep(self, root: Cid, label: str, expires_at: float | None = None) -> None:
        """Keep whatever of a DAG is here or arrives; private under this label. Given again, the new expiry counts.

        Garbage collection leaves its blocks alone from now on. To keep blocks that were put long ago, keep first, then
        ask `missing`.
        """
        with self._store.locked(), self._writing() as db:
            _insert_root(db, Root(root, label, public=False, expires_at=expires_at))
            _forget_unpublished(db, root)

    def publish(self, root: Cid, label: str, expires_at: float | None = None) -> int:
        """Keep a DAG and serve all its blocks; how many there are. BlockMissing, and no change, if one is absent."""
        # The lock keeps garbage collection away from the first look to the last; the temporary table belongs to this
        # connection alone, so that no other writer of roots waits for the walk.
        with self._store.locked(), self._writing() as db:
            db.execute("CREATE TEMP TABLE reachable (cid BLOB PRIMARY KEY) WITHOUT ROWID")
            db.executemany("INSERT INTO reachable VALUES (?)", ((cid.binary,) for cid in self._below(root)))
            db.commit()
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT OR IGNORE INTO public_blocks SELECT cid, ? FROM reachable", (root.binary,))
            _insert_root(db, Root(root, label, public=True, expires_at=expires_at))
            count: int = db.execute("SELECT count(*) FROM reachable").fetchone()[0]
            return count

    def _below(self, root: Cid) -> Iterator[Cid]:
        """All blocks of a DAG, each of them here; BlockMissing."""
        try:
            for cid in walk(self._store, root):
                if not self._store.has(cid):
                    raise BlockMissing(cid)
                yield cid
        except BlockMismatch as exc:
            raise BlockMissing(exc.cid) from exc

    def prolong(self, root: Cid, label: str, expires_at: float | None = None) -> bool:
        """As `publish` for a DAG that is public already, which costs no walk; False, and no change, where it is not."""
        with self._writing() as db:
            db.execute("BEGIN IMMEDIATE")
            is_public = db.execute("SELECT 1 FROM roots WHERE root = ? AND public = 1", (root.binary,)).fetchone()
            if is_public:
                _insert_root(db, Root(root, label, public=True, expires_at=expires_at))
            return is_public is not None

    def note_whole(self, cids: Iterable[Cid]) -> None:
        """These DAGs are all here: if a block of one is missing later, garbage collection knows it for a loss."""
        with self._writing() as db:
            db.executemany("INSERT OR IGNORE INTO whole_roots VALUES (?)", ((cid.binary,) for cid in cids))

    def whole(self, now: float) -> set[Cid]:
        """The kept roots whose DAGs were all here at some time."""
        with self._connection() as db:
            rows = db.execute(
                f"SELECT DISTINCT root FROM roots JOIN whole_roots USING (root) WHERE {_LIVE}",  # noqa: S608
                {"now": now},
            )
            return {Cid.from_binary(root) for (root,) in rows}

    def public_blocks(self, now: float) -> set[Cid]:
        """Every block that may be served to anybody, whether it is here or not."""
        with self._connection() as db:
            rows = db.execute(
                "SELECT DISTINCT cid FROM public_blocks JOIN roots USING (root)"  # noqa: S608
                f" WHERE public = 1 AND {_LIVE}",
                {"now": now},
            )
            return {Cid.from_binary(cid) for (cid,) in rows}

    def drop(self, root: Cid, label: str) -> bool:
        """Stop keeping a DAG under this label, and serving it if nothing else publishes it; whether it was kept."""
        with self._writing() as db:
            found = db.execute("DELETE FROM roots WHERE root = ? AND label = ?", (root.binary, label)).rowcount
            _forget_unpublished(db, root)
            _forget_whole(db)
            return found > 0

    def shorten(self, label: str, until: float, *, but: Cid | None = None) -> int:
        """Keep what is private under this label, all `but` one, until then at most; how many roots that changed."""
        with self._writing() as db:
            return db.execute(
                "UPDATE roots SET expires_at = :until WHERE label = :label AND public = 0 AND root IS NOT :but"
                " AND (expires_at IS NULL OR expires_at > :until)",
                {"until": until, "label": label, "but": but.binary if but else None},
            ).rowcount

    def drop_expired(self, now: float) -> int:
        """Forget every root whose time is over; how many."""
        with self._writing() as db:
            db.execute("BEGIN IMMEDIATE")  # nobody prolongs one between the look and the removal
            gone = db.execute(f"SELECT root, label FROM roots WHERE NOT {_LIVE}", {"now": now}).fetchall()  # noqa: S608
            for root, label in gone:
                db.execute("DELETE FROM roots WHERE root = ? AND label = ?", (root, label))
                _forget_unpublished(db, Cid.from_binary(root))
            if gone:
                _forget_whole(db)
            return len(gone)

    def count_expired(self, now: float) -> int:
        """How many roots `drop_expired` would forget."""
        with self._connection() as db:
            row = db.execute(f"SELECT count(*) FROM roots WHERE NOT {_LIVE}", {"now": now}).fetchone()  # noqa: S608
        return int(row[0])

    def live(self, now: float, root: Cid | None = None) -> list[Root]:
        """Every root that is kept at this time, or this one, once for each of its labels; sorted by CID and label."""
        with self._connection() as db:
            rows = db.execute(
                "SELECT root, label, public, expires_at FROM roots"  # noqa: S608
                f" WHERE {_LIVE} AND root = ifnull(:root, root) ORDER BY root, label",
                {"now": now, "root": root.binary if root else None},
            ).fetchall()
        return [Root(Cid.from_binary(root), label, bool(public), expires) for root, label, public, expires in rows]

    def labels(self, root: Cid, now: float, limit: int) -> list[str]:
        """Under which labels a root is kept at this time, sorted, at most `limit`."""
        with self._connection() as db:
            rows = db.execute(
                f"SELECT label FROM roots WHERE root = :root AND {_LIVE} ORDER BY label LIMIT :limit",  # noqa: S608
                {"root": root.binary, "now": now, "limit": limit},
            ).fetchall()
        return [label for (label,) in rows]

    def is_public(self, cid: Cid, now: float) -> bool:
        """Whether a block may be served to anybody: reachable from a root that is public and not expired."""
        with self.public_view(lambda: now) as is_public:
            return is_public(cid)

    @contextmanager
    def public_view(self, clock: Callable[[], float]) -> Iterator[Callable[[Cid], bool]]:
        """`is_public` over one connection, for many blocks; any thread, one at a time. Sees what changes meanwhile."""
        with self._connection(check_same_thread=False) as db:
            yield lambda cid: _is_public(db, cid, clock())

    def public_until(self, root: Cid, now: float) -> float | None:
        """Until when a public root is served at least, seconds since 1970; inf for as long as nobody drops it, None
        where it is no root, or private.
        """
        ends = [kept.expires_at for kept in self.live(now, root) if kept.public]
        return max((math.inf if end is None else end for end in ends), default=None)

    @contextmanager
    def _connection(self, *, check_same_thread: bool = True) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS, check_same_thread=check_same_thread)) as db:
                yield db
        except sqlite3.Error as exc:
            raise self._named(exc) from exc

    def _named(self, error: sqlite3.Error) -> ContentError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return DiskFull(f"no space left for {str(self._path)!r}")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return RootsDamaged(
                f"{str(self._path)!r}: {error}: the list of kept content is damaged. Stop the program, move this file "
                "and its -wal and -shm away, and start again: the list begins anew. What is uploaded, fetched or "
                "produced from then on is on it; what else was kept is removed within hours: bring again what is needed"
            )
        return ContentError(f"{str(self._path)!r}: {error}")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as db, db:
            yield db


def _insert_root(db: sqlite3.Connection, root: Root) -> None:
    db.execute(
        "INSERT INTO roots VALUES (?, ?, ?, ?) ON CONFLICT (root, label)"
        " DO UPDATE SET public = excluded.public, expires_at = excluded.expires_at",
        (root.cid.binary, root.label, int(root.public), root.expires_at),
    )


def _forget_unpublished(db: sqlite3.Connection, root: Cid) -> None:
    db.execute(
        "DELETE FROM public_blocks WHERE root = :root"
        " AND NOT EXISTS (SELECT 1 FROM roots WHERE root = :root AND public = 1)",
        {"root": root.binary},
    )


def _is_public(db: sqlite3.Connection, cid: Cid, now: float) -> bool:
    row = db.execute(
        "SELECT 1 FROM public_blocks JOIN roots USING (root)"  # noqa: S608
        f" WHERE cid = :cid AND public = 1 AND {_LIVE} LIMIT 1",
        {"cid": cid.binary, "now": now},
    ).fetchone()
    return row is not None


def _forget_whole(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM whole_roots WHERE root NOT IN (SELECT root FROM roots)")
