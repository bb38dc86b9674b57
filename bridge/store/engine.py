"""Opening the database: SQLite in WAL mode with a busy deadline, or any URL that SQLAlchemy knows.

`Engine` and `Connection` are named here for those outside the store, which hand them on and never look inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

__all__ = ["BUSY_TIMEOUT_MS", "Connection", "Engine", "kept_open", "open_engine", "reading", "transaction"]

BUSY_TIMEOUT_MS = 30_000
CACHE_KIB = 65_536  # of pages, for the time of one transaction: storing many rows must not spill into the log again
_READING = "insula_reading"


def open_engine(url: str) -> Engine:
    """An engine for `url`. SQLite connections are opened per use (no state shared between threads) and synced fully."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One database transaction: committed as a whole at the end, rolled back on any error."""
    with engine.begin() as connection:
        yield connection


@contextmanager
def kept_open(engine: Engine) -> Iterator[None]:
    """Keep one connection open. SQLite works its log into the database whenever the last connection is closed, which
    costs each transaction two more waits for the disk.
    """
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            cursor = connection.connection.cursor()
            cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()
            cursor.close()
        yield


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent snapshot to read from, that keeps no writer waiting. Nothing is written through it."""
    with engine.connect().execution_options(**{_READING: True}) as connection, connection.begin():
        yield connection


def _prepare_sqlite(connection: Any, _record: object) -> None:
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
