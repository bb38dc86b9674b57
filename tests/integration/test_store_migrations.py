"""The revisions make exactly the schema that the code works with."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from eth_utils.address import to_checksum_address
from sqlalchemy import MetaData, insert, inspect, select, text

from bridge.chain.signer import Transaction, TxSigner
from bridge.errors import FatalError
from bridge.store.chain import Scope, logs_of
from bridge.store.engine import open_engine, transaction
from bridge.store.migrations import migrate
from bridge.store.outbox import attempts_at
from bridge.store.schema import metadata
from bridge.store.senders import next_nonce, take_lease


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


def test_transactions_of_the_first_version_keep_what_they_carry(engine):
    signer = TxSigner.from_hex("0x" + "11" * 32)
    to = to_checksum_address("0x" + "ab" * 20)
    made = [
        signer.sign_transaction(Transaction(chain_id=314, nonce=nonce, to=to, data=data, gas=9, max_fee=8, tip=7))
        for nonce, data in enumerate((b"one", b"two", b""))
    ]
    config = Config()
    config.set_main_option("script_location", "bridge.store:migrations")
    with transaction(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for nonce, (signed, item) in enumerate(zip(made, (5, 6, None), strict=True)):
            fields = {"hash": signed.hash, "item": item, "sender": signer.address, "nonce": nonce, "raw": signed.raw}
            connection.execute(
                text(
                    "INSERT INTO transactions (tx_hash, outbox_id, sender, nonce, raw, gas, max_fee_wei, tip_wei,"
                    " signed_at, error) VALUES (:hash, :item, :sender, :nonce, :raw, 9, '8', '7', 1.0, '')"
                ),
                fields,
            )
        connection.execute(
            text("INSERT INTO senders (chain_id, address, next_nonce) VALUES (314, :a, 3)"), {"a": signer.address}
        )
    migrate(engine)

    with transaction(engine) as connection:
        under = [attempts_at(connection, signer.address, nonce)[0] for nonce in range(3)]
        assert next_nonce(connection, 314, signer.address) == 3
        assert take_lease(connection, 314, signer.address, "me", 1.0, 2.0) is None
    assert [attempt.tx_hash for attempt in under] == [signed.hash for signed in made]
    assert [attempt.weights for attempt in under] == [{5: 1}, {6: 1}, {}]
    assert [attempt.calldata for attempt in under] == [b"one", b"two", b""]
    assert {attempt.destination for attempt in under} == {to}
    assert {attempt.cost for attempt in under} == {None}


def a_row(table, number):
    """Some value in each column of a table as it is in the database."""
    made = {}
    for column in table.columns:
        kind = column.type.python_type
        size = getattr(column.type, "length", None) or 8
        values = {
            bytes: bytes([number]) * min(size, 36), str: f"{number}" * min(size, 8), int: number, float: number + 0.5,
            bool: True, object: {"n": number},
        }  # fmt: skip
        made[column.name] = [f"{number:064x}"] if column.name == "topics" else values[kind]
    return made


def test_rows_in_every_table_of_an_older_version_stay_as_they_are(engine):
    config = Config()
    config.set_main_option("script_location", "bridge.store:migrations")
    before, found = MetaData(), {}
    with transaction(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        before.reflect(connection)
        tables = [table for table in before.sorted_tables if table.name != "alembic_version"]
        for table in tables:
            connection.execute(insert(table), [a_row(table, 1), a_row(table, 2)])
            found[table.name] = connection.execute(select(table)).all()
        request_hash = connection.scalars(select(before.tables["jobs"].c.request_hash)).first()

    migrate(engine)

    with transaction(engine) as connection:
        assert {table.name: connection.execute(select(table)).all() for table in tables} == found
        assert connection.scalars(select(metadata.tables["jobs"].c.settled_relayer)).all() == [None, None]
        assert connection.execute(select(metadata.tables["contradictions"])).all() == []
        assert [log.data for log in logs_of(connection, Scope(1, "1"), request_hash)] == [b"\x01" * 8]
    assert len(tables) == len(metadata.tables) - 4


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
