"""Opening the database: SQLite in WAL mode with a busy deadline, or any URL that SQLAlchemy knows.

`Engine` and `Connection` are named here for those outside the store, which hand them on and never look inside.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError
from sqlalchemy.exc import SQLAlchemyError as StoreError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from bridge.errors import BridgeError, FatalError, StoreFull, StoreUnavailable
from executor.errors import InvalidInput

__all__ = [
    "BUSY_TIMEOUT_MS",
    "Connection",
    "Engine",
    "StoreError",
    "kept_open",
    "named",
    "open_engine",
    "reading",
    "transaction",
]

BUSY_TIMEOUT_MS = 30_000
CACHE_KIB = 65_536  # of pages, for the time of one transaction: storing many rows must not spill into the log again
IDLE_CONNECTIONS = 4  # kept open for the next use: opening one costs more than most transactions
_READING = "insula_reading"
_FILE = "insula_file"
_FAILED = "insula_failed"
_FULL = frozenset({sqlite3.SQLITE_FULL})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
#: What a disk, a limit of the process or another process does to us, and what goes by without a change of ours.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


def open_engine(url: str) -> Engine:
    """An engine for `url`. SQLite syncs fully; each use has a connection to itself, and as many as there are uses.

    A connection is not used again after an error of the disk, nor when its path holds another file by now.

    InvalidInput("database_url"): it is no such URL, or the database's driver is not installed.
    """
    if not url.startswith("sqlite"):
        return _engine(url, pool_pre_ping=True)
    engine = _engine(
        url,
        poolclass=QueuePool,
        pool_size=IDLE_CONNECTIONS,
        max_overflow=-1,
        pool_use_lifo=True,
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1000},
    )
    path = str(engine.url.database)

    def connected(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        entry.info[_FILE] = _file_at(path)
        _prepare_sqlite(connection)

    def checked_out(_connection: sqlite3.Connection, entry: ConnectionPoolEntry, _proxy: object) -> None:
        if entry.info[_FILE] != _file_at(path):
            raise DisconnectionError(f"{path} is another file now")

    event.listen(engine, "connect", connected)
    event.listen(engine, "checkout", checked_out)
    event.listen(engine, "checkin", _checked_in)
    event.listen(engine, "handle_error", _mark_what_failed)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _engine(url: str, **options: Any) -> Engine:
    try:
        return create_engine(url, **options)
    except (ArgumentError, ValueError, ImportError):
        reason = "is no URL of SQLAlchemy's, or its driver is not installed; leave it out for SQLite in data_dir"
    raise InvalidInput("database_url", reason)  # outside the handler: an error of the URL may repeat its password


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One database transaction: committed as a whole at the end, rolled back on any error. Errors as in `named`."""
    with _translated(engine), engine.begin() as connection:
        yield connection


@contextmanager
def kept_open(engine: Engine) -> Iterator[None]:
    """Keep one connection open, and close all that are idle at the end.

    SQLite works its log into the database whenever the last connection is closed: two more waits for the disk.
    """
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            cursor = connection.connection.cursor()
            cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()
            cursor.close()
        yield
    engine.dispose()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent snapshot to read from, that keeps no writer waiting. Nothing is written through it.

    Errors as in `named`.
    """
    with _translated(engine), engine.connect().execution_options(**{_READING: True}) as connection, connection.begin():
        yield connection


def named(error: DBAPIError, where: str) -> BridgeError | None:
    """What a failure of the database means; None for a fault of ours (a statement that is wrong, a broken constraint).

    StoreFull, StoreUnavailable; FatalError where the file is damaged. `where` is the file or database, for people.
    """
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is None:  # another database: its connection is lost, or it has no room
        lost = error.connection_invalidated or type(error).__name__ == "OperationalError"
        return StoreUnavailable(f"the database {where} cannot be used now: {error.orig}") if lost else None
    primary = code & 0xFF  # https://www.sqlite.org/rescode.html: the low byte of an extended code is its primary code
    if primary in _FULL:
        return StoreFull(f"no space is left for the database {where}: {error.orig}")
    if primary in _DAMAGED:
        return FatalError(
            f"{where} is damaged or no database ({error.orig}); put it aside with "
            "`insula bridge rebuild --config FILE`, then run the bridge: it reads every request from the chain anew"
        )
    return StoreUnavailable(f"the database {where} cannot be used now: {error.orig}") if primary in _PASSING else None


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DBAPIError as exc:
        error = named(exc, engine.url.database or str(engine.url))
        if error is None:
            raise
        raise error from exc


def _file_at(path: str) -> tuple[int, int] | None:
    """Which file a path holds now; None where there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _mark_what_failed(context: ExceptionContext) -> None:
    code = getattr(context.original_exception, "sqlite_errorcode", 0) & 0xFF
    if context.connection is not None and code in _FULL | _DAMAGED | _PASSING:
        context.connection.info[_FAILED] = True  # closed when it comes back: it is rolled back until then


def _checked_in(connection: sqlite3.Connection | None, entry: ConnectionPoolEntry) -> None:
    if connection is None:
        return
    if entry.info.pop(_FAILED, False):
        entry.invalidate()
    else:
        connection.execute("PRAGMA shrink_memory").close()


def _prepare_sqlite(connection: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, below
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    if connection.get_execution_options().get(_READING):
        connection.exec_driver_sql("BEGIN")
        return
    # A read that later writes cannot be upgraded in SQLite when another writer came between: take the lock first.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
