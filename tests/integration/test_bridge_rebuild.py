"""`insula bridge rebuild` and the lock of the data folder."""

import pytest

from bridge.cli.bridge_verbs import put_aside
from bridge.lock import folder_lock
from bridge.store.engine import open_engine, reading
from bridge.store.jobs import count_by_state
from bridge.store.migrations import migrate
from executor.errors import InvalidInput


def test_a_database_is_put_aside_whole_and_the_next_one_begins_empty(tmp_path):
    first = open_engine(f"sqlite:///{tmp_path / 'bridge.db'}")
    migrate(first)
    first.dispose()
    (tmp_path / "bridge.db-wal").write_bytes(b"not yet written back")

    moved = put_aside(tmp_path / "bridge.db", "T")

    assert sorted(path.name for path in moved) == ["bridge.db.T", "bridge.db.T-wal"]
    engine = open_engine(f"sqlite:///{tmp_path / 'bridge.db'}")
    migrate(engine)
    with reading(engine) as connection:
        assert count_by_state(connection) == {}
    engine.dispose()


def test_a_folder_without_a_database_is_bad_input(tmp_path):
    with pytest.raises(InvalidInput, match="no database"):
        put_aside(tmp_path / "bridge.db", "T")


def test_a_folder_has_one_bridge(tmp_path):
    with folder_lock(tmp_path), pytest.raises(InvalidInput, match="a bridge runs in"), folder_lock(tmp_path):
        pass


def test_a_folder_is_free_again_after_its_bridge(tmp_path):
    with folder_lock(tmp_path):
        pass

    with folder_lock(tmp_path):
        pass
