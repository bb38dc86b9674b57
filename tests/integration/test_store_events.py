"""What the store makes of one request's events, as they come and go."""

import pytest

from bridge.chain.events import decode_log
from bridge.chain.shapes import Block
from bridge.store.chain import add_events, delete_blocks, insert_blocks, mirror
from bridge.store.engine import open_engine, transaction
from bridge.store.jobs import get_job
from bridge.store.schema import metadata
from tests.property.test_backfill import ACCOUNT, SCOPE, digest, order_of
from tests.property.test_bulk import requested


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'bridge.db'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def block(number, branch):
    return Block(number, digest(branch, number), digest(branch, number - 1), 1000 + number)


def appear(connection, where, deadline):
    """The request's event in a block; the job that it makes."""
    log = requested(order_of(0), ACCOUNT, 1, deadline)._replace(block_number=where.number, block_hash=where.hash)
    event = decode_log(log, SCOPE.chain_id)
    add_events(connection, [event])
    mirror(connection, SCOPE, event.request_hash, 5.0)
    return get_job(connection, event.request_hash)


@pytest.mark.parametrize("seen_gone", [True, False], ids=["seen while it was gone", "moved between two looks"])
def test_a_request_that_moves_takes_over_the_deadline_of_its_new_block(engine, seen_gone):
    before, after = block(5, "one"), block(6, "other")
    with transaction(engine) as connection:
        insert_blocks(connection, [before])
        job = appear(connection, before, 100)

        delete_blocks(connection, [before])
        if seen_gone:
            mirror(connection, SCOPE, job.request_hash, 6.0)
        insert_blocks(connection, [after])
        moved = appear(connection, after, 101)

    assert (job.request.deadline, moved.request.deadline) == (100, 101)
    assert moved.request_hash == job.request_hash
