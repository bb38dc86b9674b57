"""Who brought which blocks, nonces, uploads and their end; garbage collection of what nobody keeps."""

import os
import threading

import pytest
from sqlalchemy import text

from bridge.config import ContentConfig
from bridge.housekeeping import EVERY_SECONDS, TIGHT_SECONDS, Housekeeping
from bridge.jobs import JobState
from bridge.outputs import Holdings
from bridge.store.content import (
    BLOCK_OVERHEAD_BYTES,
    Upload,
    account_bytes,
    account_owner,
    begin_account_upload,
    drop_old_uploads,
    forget_nonces,
    held_bytes,
    held_cids,
    hold_blocks,
    note_account_upload,
    slot_owner,
    use_nonce,
)
from bridge.store.engine import reading, transaction
from bridge.uploads import store_car
from executor.content.car import write_car
from executor.content.importer import import_listing
from executor.content.limits import TreeLimits
from executor.content.quota import StoreLimits
from executor.errors import CarError, ContentTooLarge
from executor.protocol.cid import RAW, Cid
from tests.bridge_kit import CURATOR, REQUESTER, Bridge, attested, order_of, success

ONE, TWO = (Cid.of(RAW, word) for word in (b"one", b"two"))


@pytest.fixture
def bridge(tmp_path):
    bridge = Bridge(tmp_path, content=ContentConfig(retention_seconds=1000))
    yield bridge
    bridge.close()


def test_a_nonce_is_stored_once_for_each_key(bridge):
    assert use_nonce(bridge.engine, CURATOR, b"n" * 32, 1.0)
    assert not use_nonce(bridge.engine, CURATOR, b"n" * 32, 2.0)
    assert use_nonce(bridge.engine, REQUESTER, b"n" * 32, 2.0)


def test_of_many_threads_with_one_nonce_one_wins(bridge):
    won = []
    threads = [
        threading.Thread(target=lambda: won.append(use_nonce(bridge.engine, CURATOR, b"n" * 32, 1.0))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(won) == [False] * 7 + [True]


def test_old_nonces_are_forgotten_when_their_time_is_refused_anyway(bridge):
    use_nonce(bridge.engine, CURATOR, b"a" * 32, 1.0)
    use_nonce(bridge.engine, CURATOR, b"b" * 32, 100.0)
    with transaction(bridge.engine) as connection:
        forget_nonces(connection, 50.0)

    assert use_nonce(bridge.engine, CURATOR, b"a" * 32, 101.0)
    assert not use_nonce(bridge.engine, CURATOR, b"b" * 32, 101.0)


def test_the_dispatcher_forgets_nonces_by_and_by(bridge):
    use_nonce(bridge.engine, CURATOR, b"a" * 32, bridge.clock.now)
    bridge.clock.now += 121
    bridge.dispatcher.step()

    with reading(bridge.engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM api_nonces")).scalar_one() == 0


def test_each_block_of_an_owner_counts_once_with_what_its_file_costs(bridge):
    with transaction(bridge.engine) as connection:
        hold_blocks(connection, "x", [(ONE, 3), (TWO, 3)])
        hold_blocks(connection, "x", [(ONE, 3)])

    with reading(bridge.engine) as connection:
        assert held_cids(connection, "x") == {ONE, TWO}
        assert held_bytes(connection, "x") == 2 * (3 + BLOCK_OVERHEAD_BYTES)
        assert held_bytes(connection, "y") == 0


def test_thousands_of_blocks_fit_into_one_call(bridge):
    blocks = [(Cid.of(RAW, i.to_bytes(4, "big")), 4) for i in range(3000)]
    with transaction(bridge.engine) as connection:
        hold_blocks(connection, "x", blocks)
        hold_blocks(connection, "x", blocks)

    with reading(bridge.engine) as connection:
        assert len(held_cids(connection, "x")) == 3000


def test_all_uploads_of_an_account_count_together_and_no_others(bridge):
    with transaction(bridge.engine) as connection:
        for account, root in ((CURATOR, ONE), (CURATOR, TWO), (REQUESTER, ONE)):
            upload = Upload(account=account, root=root.binary, public=False, requester=account, complete=False)
            begin_account_upload(connection, upload, 10.0)
            hold_blocks(connection, account_owner(account, root), [(root, 10)])

    with reading(bridge.engine) as connection:
        assert account_bytes(connection, CURATOR) == 2 * (10 + BLOCK_OVERHEAD_BYTES)


def test_an_upload_that_is_past_its_retention_counts_no_more(bridge):
    with transaction(bridge.engine) as connection:
        for root, now in ((ONE, 10.0), (TWO, 100.0)):
            hold_blocks(connection, account_owner(CURATOR, root), [(root, 10)])
            upload = Upload(account=CURATOR, root=root.binary, public=False, requester=CURATOR, complete=True)
            note_account_upload(connection, upload, 10, now)
            note_account_upload(connection, upload, 10, now)
        assert drop_old_uploads(connection, 50.0) == 1

    with reading(bridge.engine) as connection:
        assert account_bytes(connection, CURATOR) == 10 + BLOCK_OVERHEAD_BYTES


def test_an_owner_sees_only_what_he_brought(bridge):
    bridge.store.put(ONE, b"one")
    holdings = bridge.dispatcher.holdings

    assert holdings.missing("me", ONE) == [ONE]
    holdings.take(holdings.allowance("me", 10_000), [(ONE, b"one")])
    assert holdings.missing("me", ONE) == []
    assert holdings.missing("you", ONE) == [ONE]


def test_an_allowance_is_used_up_block_by_block_and_what_fitted_is_kept(bridge):
    holdings = bridge.dispatcher.holdings
    allowance = holdings.allowance("me", 3 + BLOCK_OVERHEAD_BYTES)

    with pytest.raises(ContentTooLarge):
        holdings.take(allowance, [(ONE, b"one"), (TWO, b"two")])
    assert holdings.missing("me", ONE) == []
    assert not bridge.store.has(TWO)
    holdings.take(allowance, [(ONE, b"one")])  # again costs nothing


def test_an_upload_that_is_wrong_in_its_middle_keeps_what_was_good(bridge):
    data = b"".join(write_car([ONE], [(ONE, b"one"), (TWO, b"xxx")]))
    holdings = bridge.dispatcher.holdings

    with pytest.raises(CarError):
        store_car(holdings, holdings.allowance("me", 10_000), [data])
    assert holdings.missing("me", ONE) == []


def test_a_dag_is_read_back_block_by_block(bridge):
    root = import_listing(bridge.store, {"a": b"one", "b": b"two"}, TreeLimits(max_bytes=100))
    holdings = Holdings(bridge.engine, bridge.store)
    assert holdings.unreadable(root) is None

    bridge.store.delete(TWO)
    assert holdings.unreadable(root) == TWO
    for _ in range(2):
        assert holdings.is_below("me", root, root, who="you")
        assert holdings.is_below("me", root, ONE, who="you")
        assert holdings.is_below("me", root, TWO, who="you")  # named by its parent, though it is not here
        assert not holdings.is_below("me", root, Cid.of(RAW, b"three"), who="you")
        assert not holdings.is_below("me", Cid.of(RAW, b"absent"), ONE, who="you")
        bridge.store.put(TWO, b"two")


def test_a_crash_between_storing_and_noting_blocks_costs_an_upload_and_nothing_else(bridge):
    bridge.store.put(ONE, b"one")  # stored, and killed before the row was written
    holdings = bridge.dispatcher.holdings

    assert holdings.missing(slot_owner(b"r" * 32, CURATOR), ONE) == [ONE]
    holdings.take(holdings.allowance(slot_owner(b"r" * 32, CURATOR), 10_000), [(ONE, b"one")])
    assert holdings.missing(slot_owner(b"r" * 32, CURATOR), ONE) == []


def test_what_nobody_keeps_is_collected_once_an_hour(bridge):
    bridge.store.put(ONE, b"one")
    bridge.store.put(TWO, b"two")
    os.utime(bridge.store._path(ONE), (1, 1))
    os.utime(bridge.store._path(TWO), (1, 1))
    bridge.dispatcher.roots.keep(TWO, "test")
    housekeeping = Housekeeping(bridge.store, bridge.dispatcher.roots, bridge.clock)
    assert not housekeeping.step()

    bridge.clock.now += EVERY_SECONDS
    assert housekeeping.step()
    assert not housekeeping.step()
    assert (bridge.store.has(ONE), bridge.store.has(TWO)) == (False, True)


def test_what_nobody_keeps_is_collected_within_a_minute_where_there_is_little_room(bridge):
    bridge.store.meter.set_limits(StoreLimits(2 * 4096, 0))
    bridge.store.put(ONE, b"one")
    bridge.store.put(TWO, b"two")
    os.utime(bridge.store._path(ONE), (1, 1))
    os.utime(bridge.store._path(TWO), (1, 1))
    bridge.dispatcher.roots.keep(TWO, "test")
    housekeeping = Housekeeping(bridge.store, bridge.dispatcher.roots, bridge.clock)

    bridge.clock.now += TIGHT_SECONDS
    assert housekeeping.step()
    bridge.clock.now += TIGHT_SECONDS
    assert not housekeeping.step()
    assert list(bridge.store) == [TWO]


def test_a_published_output_is_held_by_its_root_and_by_no_uploader(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    root = bridge.bring(node, lease, b"one")
    bridge.answer(node, lease, attested(node.key, lease, success(root)))
    bridge.set_job(job.request_hash, state=JobState.POSTED.value, outcome=success(root).encode())
    bridge.dispatcher.step()

    with reading(bridge.engine) as connection:
        assert held_bytes(connection, slot_owner(job.request_hash, node.key.address)) == 0
    assert bridge.dispatcher.roots.is_public(root, bridge.clock.now)


def test_a_reader_waits_for_no_writer(bridge):
    with transaction(bridge.engine) as writing:
        hold_blocks(writing, "x", [(ONE, 1)])
        with reading(bridge.engine) as connection:
            assert held_cids(connection, "x") == set()
