"""What a disk does to the database, and what it is called then: real SQLite files, limits and damage."""

import errno
import sqlite3

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from bridge.api.problems import problem_of, problem_of_system
from bridge.errors import FatalError, StoreFull, StoreUnavailable
from bridge.store.engine import named, open_engine, reading, transaction
from bridge.store.migrations import migrate
from executor.errors import DiskFull
from tests.api_kit import serving
from tests.bridge_kit import Bridge, order_of


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'bridge.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


def write(engine):
    with transaction(engine) as connection:
        connection.execute(text("PRAGMA max_page_count=1"))  # SQLite's own limit: the error is that of a full disk
        connection.execute(text("CREATE TABLE more (x)"))
        connection.execute(text("INSERT INTO more VALUES (zeroblob(1000000))"))  # more than pages that are free


def read(engine):
    with reading(engine) as connection:
        connection.execute(text("SELECT count(*) FROM jobs"))


def test_a_full_disk_has_a_name(engine):
    with pytest.raises(StoreFull, match="no space is left for the database"):
        write(engine)


def test_a_connection_that_met_an_error_of_the_disk_is_not_used_again(engine):
    with pytest.raises(StoreFull):
        write(engine)

    with transaction(engine) as connection:
        connection.execute(text("CREATE TABLE more (x)"))


def test_a_file_that_took_the_databases_place_is_read_at_once(engine, tmp_path):
    read(engine)
    for end in ("", "-wal", "-shm"):
        (tmp_path / f"bridge.db{end}").rename(tmp_path / f"away.db{end}")
    other = sqlite3.connect(tmp_path / "bridge.db")
    other.execute("CREATE TABLE other (x)")
    other.close()

    with reading(engine) as connection:
        tables = connection.execute(text("SELECT name FROM sqlite_master")).scalars().all()
    assert tables == ["other"]


def test_a_file_that_cannot_be_opened_has_a_name(engine, tmp_path):
    (tmp_path / "bridge.db").rename(tmp_path / "gone")
    (tmp_path / "bridge.db").mkdir()

    with pytest.raises(StoreUnavailable, match="unable to open"):
        read(engine)


def test_a_locked_database_has_a_name(engine, tmp_path):
    other = sqlite3.connect(tmp_path / "bridge.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreUnavailable, match="locked"), reading(engine) as connection:
            connection.execute(text("PRAGMA busy_timeout=0"))
            connection.execute(text("CREATE TABLE more (x)"))
    finally:
        other.close()


def test_a_fault_of_ours_keeps_its_own_name(engine):
    with pytest.raises(Exception, match="no such table") as caught, reading(engine) as connection:
        connection.execute(text("SELECT * FROM absent"))
    assert not isinstance(caught.value, StoreUnavailable)


#: name -> what is done to a good database file's bytes
DAMAGE = {
    "no database at all": lambda data: b"this is no database, and never was one" * 200,
    "overwritten in the middle": lambda data: data[:100] + b"\xff" * (len(data) - 100),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_database_is_named_with_what_to_do(engine, tmp_path, name):
    path = tmp_path / "bridge.db"
    engine.dispose()
    path.write_bytes(DAMAGE[name](path.read_bytes()))

    with pytest.raises(FatalError, match=r"bridge\.db is damaged .*insula bridge rebuild --config"):
        migrate(open_engine(f"sqlite:///{path}"))


def test_calls_say_that_the_database_cannot_be_used_and_go_on_when_it_can(tmp_path):
    bridge = Bridge(tmp_path)
    bridge.request(order_of())
    path = tmp_path / "bridge.db"
    with serving(bridge) as api:
        path.rename(tmp_path / "away")
        path.mkdir()
        problem = api.get("/v1/status")
        assert (problem.status_code, problem.json()["type"]) == (503, "urn:insula:problem:store-unavailable")
        assert problem.headers["Retry-After"] == "5"
        assert str(tmp_path) not in problem.text

        path.rmdir()
        (tmp_path / "away").rename(path)
        assert api.get("/v1/status").status_code == 200
    bridge.close()


#: error -> status and name of the problem that a caller sees
PROBLEMS = {
    "no room for the database": (StoreFull("/secret/bridge.db"), 507, "disk-full"),
    "a database that is locked": (StoreUnavailable("/secret/bridge.db"), 503, "store-unavailable"),
    "no room for a block": (DiskFull("/secret/blocks"), 507, "disk-full"),
    "no room for a body": (OSError(errno.ENOSPC, "No space left", "/secret/tmp"), 507, "disk-full"),
    "no descriptor left": (OSError(errno.EMFILE, "Too many open files", "/secret/x"), 503, "system"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_the_environment_does_is_a_problem_that_names_no_folder(name):
    error, status, kind = PROBLEMS[name]

    problem = problem_of_system(error) if isinstance(error, OSError) else problem_of(error)

    assert (problem.status, problem.name) == (status, kind)
    assert "/secret" not in problem.detail


def test_a_lost_connection_to_a_database_server_has_a_name():
    lost = OperationalError("SELECT 1", {}, Exception("server closed the connection"), connection_invalidated=True)
    broken = ProgrammingError("SELEC 1", {}, Exception("syntax error"))

    assert isinstance(named(lost, "insula"), StoreUnavailable)
    assert named(broken, "insula") is None
