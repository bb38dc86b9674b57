"""Callbacks that anybody has retried as often as he likes: what one more costs does not grow with those before it."""

import pytest
from eth_abi import abi
from sqlalchemy import func, select

from bridge.chain.events import TOPICS, Kind, decode_log
from bridge.chain.shapes import Block, Log
from bridge.store.chain import Scope, add_events, delete_blocks, insert_blocks, mirror, prune_blocks
from bridge.store.engine import reading, transaction
from bridge.store.jobs import get_job
from bridge.store.schema import events
from executor.protocol.wire import Order, Request
from tests.integration.bridge_parts import new_engine

ACCOUNT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
SCOPE = Scope(1, ACCOUNT)
REQUEST = Request(chain_id=1, contract=ACCOUNT, id=1, requester=ACCOUNT, order=Order(spec=b"{}", ttl=60), deadline=10)
TOPIC = {kind: topic for topic, kind in TOPICS.items()}


def word(number):
    return number.to_bytes(32, "big")


def log(kind, topics, data, block, tx):
    return decode_log(Log(ACCOUNT, (TOPIC[kind], word(1), *topics), data, block, word(block), word(tx)), 1)


def requested():
    data = word(10) + word(64) + REQUEST.order.encode()[32:]
    return log(Kind.REQUESTED, (REQUEST.hash, bytes(12) + bytes.fromhex(ACCOUNT[2:])), data, 1, 1)


def called(block, tx, success=False):
    data = abi.encode(["bool", "bytes"], [success, b"no"])
    return log(Kind.CALLBACK, (bytes(12) + bytes.fromhex(ACCOUNT[2:]),), data, block, tx)


class Store:
    def __init__(self, folder):
        self.engine = new_engine(folder)
        self.take(requested())

    def take(self, *found):
        with transaction(self.engine) as connection:
            for request_hash in add_events(connection, found):
                mirror(connection, SCOPE, request_hash, 1.0)

    def block(self, number, final):
        """A block joins the window, whose oldest one is `final` afterwards."""
        with transaction(self.engine) as connection:
            insert_blocks(connection, [Block(number, word(number), word(number - 1), number)])
            prune_blocks(connection, final)

    def leave(self, number):
        with transaction(self.engine) as connection:
            for request_hash in delete_blocks(connection, [Block(number, word(number), word(number - 1), number)]):
                mirror(connection, SCOPE, request_hash, 1.0)

    def callback_ok(self):
        with reading(self.engine) as connection:
            return get_job(connection, REQUEST.hash).callback_ok

    def callbacks(self):
        with reading(self.engine) as connection:
            query = select(func.count()).where(events.c.kind == Kind.CALLBACK.value)
            return connection.execute(query).scalar_one()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_of_callbacks_in_final_blocks_only_the_last_is_kept(store):
    for number in range(2, 50):
        store.block(number, final=max(1, number - 3))
        store.take(called(number, number))
    assert store.callbacks() <= 5


def test_a_callback_that_leaves_the_chain_gives_way_to_the_one_before_it(store):
    for number, success in ((2, False), (3, False), (4, True)):
        store.block(number, final=2)
        store.take(called(number, number, success))
    assert store.callback_ok() is True
    store.leave(4)
    assert store.callback_ok() is False


@pytest.mark.parametrize("first", [True, False], ids=["stored first", "stored last"])
def test_in_one_block_the_callback_that_succeeded_is_the_last(store, first):
    store.block(2, final=2)
    store.take(called(2, 7, first), called(2, 8, not first))
    assert store.callback_ok() is True
