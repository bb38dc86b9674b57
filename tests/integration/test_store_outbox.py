"""What becomes of a delivery that is put into the outbox again."""

import pytest

from bridge.chain.signer import Transaction, TxSigner
from bridge.store.engine import open_engine, transaction
from bridge.store.outbox import SendState, attempts_of, enqueue, find, forget_receipts, move_item, store_attempt
from bridge.store.schema import metadata

REQUEST = b"r" * 32
SIGNER = TxSigner.from_hex("0x" + "11" * 32)
UNSIGNED = Transaction(chain_id=314, nonce=5, to=SIGNER.address, data=b"same", gas=9, max_fee=8, tip=7)


@pytest.fixture
def connection(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'bridge.db'}")
    metadata.create_all(engine)
    with transaction(engine) as connection:
        yield connection
    engine.dispose()


#: name -> (how it ended, the calldata that comes again, its state then)
AGAIN = {
    "superseded, the same": (SendState.SUPERSEDED, b"same", SendState.SIGNED),
    "done, the same": (SendState.DONE, b"same", SendState.SIGNED),
    "superseded, other calldata": (SendState.SUPERSEDED, b"other", SendState.NEW),
    "dead, the same": (SendState.DEAD, b"same", SendState.NEW),
    "still on its way, the same": (SendState.SENT, b"same", SendState.SENT),
}


@pytest.mark.parametrize("name", AGAIN)
def test_what_comes_again_goes_on_with_its_bytes_where_they_still_serve(connection, name):
    ended, calldata, state = AGAIN[name]
    enqueue(connection, REQUEST, "fulfil", b"same", 1.0)
    item = find(connection, REQUEST, "fulfil")
    store_attempt(connection, {item.id: 1}, SIGNER.address, UNSIGNED, SIGNER.sign_transaction(UNSIGNED), 2.0)
    move_item(connection, item, ended, 3.0)

    enqueue(connection, REQUEST, "fulfil", calldata, 4.0)

    assert (find(connection, REQUEST, "fulfil").state, find(connection, REQUEST, "fulfil").calldata) == (
        state,
        calldata,
    )
    assert [attempt.nonce for attempt in attempts_of(connection, item.id)] == [5]


def test_all_that_a_transaction_carries_goes_on_when_its_block_left_the_chain(connection):
    requests = [bytes([number]) * 32 for number in range(3)]
    for request in requests:
        enqueue(connection, request, "fulfil", b"same", 1.0)
    items = [find(connection, request, "fulfil") for request in requests]
    signed = SIGNER.sign_transaction(UNSIGNED)
    store_attempt(connection, {item.id: 1 for item in items[:2]}, SIGNER.address, UNSIGNED, signed, 2.0)
    for item in items:
        move_item(connection, item, SendState.MINED, 3.0)

    forget_receipts(connection, find(connection, requests[0], "fulfil"), 4.0)

    states = [find(connection, request, "fulfil").state for request in requests]
    assert states == [SendState.SIGNED, SendState.SIGNED, SendState.MINED]
