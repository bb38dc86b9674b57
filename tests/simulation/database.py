"""The database of a run: in memory, one for all runs of a process (statements stay compiled), or in a file.

In memory a kill rolls back what was not committed, as SQLite does for a file after kill -9; the file variant uses the
store's own engine and opens the file anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from bridge.store.engine import _READING, _begin_immediate, open_engine
from bridge.store.schema import metadata

Hook = Callable[[bool], None]  # is told whether the transaction only reads


class Database:
    """An engine on an empty database, and hooks at each begin and commit."""

    def __init__(
        self, folder: Path | None, at_begin: Callable[[bool], None], at_commit: Callable[[bool], None]
    ) -> None:
        self._folder = folder
        self._number = 0
        self._path: Path | None = None
        self._hooks = {
            "begin": lambda connection: at_begin(_reads(connection)),
            "commit": lambda connection: at_commit(_reads(connection)),
        }
        self.engine = self._fresh()

    def delete(self) -> None:
        """As if the file had been removed while the bridge was down."""
        self.close()
        self.engine = self._fresh()

    def has_transaction(self, tx_hash: bytes) -> bool:
        """Whether signed bytes of this hash are stored now."""
        raw = _shared()[0] if self._path is None else sqlite3.connect(self._path)
        found = raw.execute("SELECT 1 FROM transactions WHERE tx_hash = ?", (tx_hash,)).fetchone()
        if self._path is not None:
            raw.close()
        return found is not None

    def close(self) -> None:
        """Take the hooks away, and close a file's connections."""
        for name, hook in self._hooks.items():
            event.remove(self.engine, name, hook)
        if self._path is not None:
            self.engine.dispose()

    def _fresh(self) -> Engine:
        engine = _memory() if self._folder is None else self._file(self._folder)
        for name, hook in self._hooks.items():
            event.listen(engine, name, hook)
        return engine

    def _file(self, folder: Path) -> Engine:
        self._number += 1
        self._path = folder / f"bridge{self._number}.db"
        target = sqlite3.connect(self._path)
        _template().backup(target)
        target.close()
        return open_engine(f"sqlite:///{self._path}")


def _reads(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get(_READING))


@cache
def _template() -> sqlite3.Connection:
    raw = sqlite3.connect(":memory:", check_same_thread=False)
    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    with engine.begin() as connection:
        metadata.create_all(connection)
    return raw


@cache
def _shared() -> tuple[sqlite3.Connection, Engine]:
    raw = sqlite3.connect(":memory:", check_same_thread=False)
    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    event.listen(engine, "connect", _by_hand)
    event.listen(engine, "begin", _begin_immediate)
    return raw, engine


def _memory() -> Engine:
    raw, engine = _shared()
    _template().backup(raw)
    return engine


def _by_hand(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is said by the store's own hook
