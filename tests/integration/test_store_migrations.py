"""The revisions make exactly the schema that the code works with."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from bridge.errors import FatalError
from bridge.store.engine import open_engine, transaction
from bridge.store.migrations import migrate
from bridge.store.schema import metadata


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'bridge.db'}")
    yield engine
    engine.dispose()


def described(engine):
    """Every table of a database with its columns, keys and indexes."""
    found = inspect(engine)
    return {
        table: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)],
            found.get_pk_constraint(table)["constrained_columns"],
            sorted(sorted(u["column_names"]) for u in found.get_unique_constraints(table)),
            sorted((i["name"], i["column_names"], i["unique"]) for i in found.get_indexes(table)),
        )
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def partial_indexes(engine):
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql LIKE '%WHERE%'")).all()
    return {name: " ".join(sql.split()).split(" WHERE ")[1] for name, sql in rows}


def test_the_revisions_make_the_schema_of_the_code(engine, tmp_path):
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []

    made = open_engine(f"sqlite:///{tmp_path / 'made.db'}")
    metadata.create_all(made)
    assert described(engine) == described(made)
    assert partial_indexes(engine) == partial_indexes(made) != {}
    made.dispose()


def test_migrating_again_changes_nothing(engine):
    migrate(engine)
    before = described(engine)
    migrate(engine)

    assert described(engine) == before


def test_a_database_of_a_newer_version_is_refused_and_left_alone(engine):
    migrate(engine)
    with transaction(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(FatalError, match="run the newer program"):
        migrate(engine)


def test_a_killed_migration_leaves_nothing_behind(engine):
    with pytest.raises(RuntimeError), transaction(engine) as connection:
        metadata.create_all(connection)
        raise RuntimeError

    assert described(engine) == {}
