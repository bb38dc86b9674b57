"""What has to be sent, and the signed transactions that send it. Bytes are stored before they first go on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, or_, select, update

from bridge.chain.fees import Fees
from bridge.chain.signer import SignedTransaction, Transaction
from bridge.errors import StaleTransition
from bridge.jobs import OPEN_STATES, JobState
from bridge.store.schema import jobs, outbox, senders, transactions


class Delivery(StrEnum):
    """What an outbox row sends."""

    FULFIL = "fulfil"
    EXPIRE = "expire"
    DRAW = "draw"


class SendState(StrEnum):
    """Where an outbox row stands."""

    NEW = "new"  # not signed, or its nonce was used by something else
    SIGNED = "signed"  # signed bytes are stored
    SENT = "sent"  # and were handed to an endpoint, which may have lost them
    MINED = "mined"  # one of its transactions has a receipt
    DONE = "done"  # the contract says so
    SUPERSEDED = "superseded"  # the contract holds something else: a refund, or another outcome
    DEAD = "dead"  # it can never be accepted; `detail` says why


IN_FLIGHT = (SendState.SIGNED, SendState.SENT)
LIVE = (SendState.NEW, *IN_FLIGHT, SendState.MINED)
ENDED = (SendState.DONE, SendState.SUPERSEDED, SendState.DEAD)


@dataclass(frozen=True)
class Item:
    """An outbox row."""

    id: int
    request_hash: bytes
    kind: Delivery
    state: SendState
    calldata: bytes
    detail: str
    created_at: float
    changed_at: float


@dataclass(frozen=True)
class Attempt:
    """A signed transaction of an outbox row, or (`item_id` None) one that only fills a nonce."""

    tx_hash: bytes
    item_id: int | None
    nonce: int
    raw: bytes
    gas: int
    fees: Fees
    signed_at: float
    sent_at: float | None
    error: str
    mined_block_hash: bytes | None
    mined_block_number: int | None
    mined_ok: bool | None


def enqueue(connection: Connection, request_hash: bytes, kind: str, calldata: bytes, now: float) -> None:
    """Put a delivery into the outbox. Again: the same row, which starts over if it had ended or the calldata is new."""
    item = find(connection, request_hash, kind)
    if item is None:
        connection.execute(
            insert(outbox).values(
                request_hash=request_hash,
                kind=Delivery(kind).value,
                state=SendState.NEW.value,
                calldata=calldata,
                created_at=now,
                changed_at=now,
            )
        )
    elif item.calldata != calldata or item.state in (SendState.SUPERSEDED, SendState.DEAD):
        # Transactions with the old calldata keep their nonces; the relayer signs the new one under a nonce of its own.
        fields = {"state": SendState.NEW.value, "calldata": calldata, "detail": "", "changed_at": now}
        connection.execute(update(outbox).where(outbox.c.id == item.id).values(**fields))
    elif item.state is SendState.DONE:
        revive(connection, request_hash, kind, now)


def find(connection: Connection, request_hash: bytes, kind: str) -> Item | None:
    """The row of a delivery."""
    query = select(outbox).where(outbox.c.request_hash == request_hash, outbox.c.kind == kind)
    row = connection.execute(query).one_or_none()
    return None if row is None else _item(row)


def revive(connection: Connection, request_hash: bytes, kind: str, now: float) -> None:
    """A delivery's effect left the chain: its row lives again, and its bytes are sent again at once.

    A row in flight may have a receipt too: the process may end between noting that and moving the row.
    """
    item = find(connection, request_hash, kind)
    if item is None or item.state is SendState.NEW:
        return
    mine = transactions.c.outbox_id == item.id
    connection.execute(
        update(transactions)
        .where(mine)
        .values(sent_at=None, mined_block_hash=None, mined_block_number=None, mined_ok=None)
    )
    signed = connection.execute(select(func.count()).select_from(transactions).where(mine)).scalar_one()
    state = SendState.SIGNED if signed else SendState.NEW
    fields = {"state": state.value, "detail": "its result left the chain", "changed_at": now}
    connection.execute(update(outbox).where(outbox.c.id == item.id).values(**fields))


def work(connection: Connection, limit: int = 1000) -> list[Item]:
    """Rows that are not at their end, oldest first; also ended ones whose job still waits: their end may be undone."""
    ended = outbox.c.state.in_([SendState.DONE.value, SendState.SUPERSEDED.value])
    query = (
        select(outbox)
        .join(jobs, jobs.c.request_hash == outbox.c.request_hash)
        .where(
            or_(
                outbox.c.state.in_([state.value for state in LIVE]),
                and_(ended, outbox.c.kind == Delivery.FULFIL.value, jobs.c.state == JobState.POSTING.value),
                and_(ended, outbox.c.kind != Delivery.FULFIL.value, jobs.c.state.in_([s.value for s in OPEN_STATES])),
            )
        )
        .order_by(outbox.c.id)
        .limit(limit)
    )
    return [_item(row) for row in connection.execute(query)]


def in_flight(connection: Connection) -> int:
    """How many rows have signed bytes that are not mined."""
    flying = outbox.c.state.in_([state.value for state in IN_FLIGHT])
    return int(connection.execute(select(func.count()).select_from(outbox).where(flying)).scalar_one())


def move_item(connection: Connection, item: Item, after: SendState, now: float, detail: str = "") -> None:
    """Move a row. StaleTransition if it is no longer as `item` says."""
    result = connection.execute(
        update(outbox)
        .where(outbox.c.id == item.id, outbox.c.state == item.state.value, outbox.c.calldata == item.calldata)
        .values(state=after.value, detail=detail[:4000], changed_at=now)
    )
    if result.rowcount != 1:
        raise StaleTransition(f"outbox row {item.id} is no longer {item.state}")


def attempts_of(connection: Connection, item_id: int) -> list[Attempt]:
    """All transactions of a row, newest last."""
    return _attempts(connection, transactions.c.outbox_id == item_id)


def attempts_at(connection: Connection, sender: str, nonce: int) -> list[Attempt]:
    """All transactions under one nonce, newest last."""
    return _attempts(connection, transactions.c.sender == sender, transactions.c.nonce == nonce)


def next_nonce(connection: Connection, chain_id: int, address: str) -> int | None:
    """The nonce that we would use next; None for a sender that the database does not know."""
    where = (senders.c.chain_id == chain_id, senders.c.address == address)
    value = connection.execute(select(senders.c.next_nonce).where(*where)).scalar_one_or_none()
    return None if value is None else int(value)


def take_nonce(connection: Connection, chain_id: int, address: str, at_least: int) -> int:
    """Allocate a nonce: ours, unless the chain is further. Only in the transaction that stores the signed bytes."""
    known = next_nonce(connection, chain_id, address)
    nonce = at_least if known is None else max(known, at_least)
    if known is None:
        connection.execute(insert(senders).values(chain_id=chain_id, address=address, next_nonce=nonce + 1))
        return nonce
    where = (senders.c.chain_id == chain_id, senders.c.address == address, senders.c.next_nonce == known)
    if connection.execute(update(senders).where(*where).values(next_nonce=nonce + 1)).rowcount != 1:
        raise StaleTransition(f"another process took nonce {known} of {address}")
    return nonce


def store_attempt(
    connection: Connection,
    item_id: int | None,
    sender: str,
    transaction: Transaction,
    signed: SignedTransaction,
    now: float,
) -> Attempt:
    """Keep signed bytes, before they are sent."""
    connection.execute(
        insert(transactions).values(
            tx_hash=signed.hash,
            outbox_id=item_id,
            sender=sender,
            nonce=transaction.nonce,
            raw=signed.raw,
            gas=transaction.gas,
            max_fee_wei=str(transaction.max_fee),
            tip_wei=str(transaction.tip),
            signed_at=now,
        )
    )
    return _attempts(connection, transactions.c.tx_hash == signed.hash)[0]


def note_sending(connection: Connection, tx_hash: bytes, now: float, error: str) -> None:
    """Remember that bytes were handed in, and what the endpoint said against it."""
    where = transactions.c.tx_hash == tx_hash
    connection.execute(update(transactions).where(where).values(sent_at=now, error=error[:1000]))


def note_mined(
    connection: Connection, tx_hash: bytes, block_hash: bytes | None, block_number: int | None, ok: bool | None
) -> None:
    """Keep a receipt when it is first seen (an endpoint forgets it later); None takes it back."""
    where = transactions.c.tx_hash == tx_hash
    fields = {"mined_block_hash": block_hash, "mined_block_number": block_number, "mined_ok": ok}
    connection.execute(update(transactions).where(where).values(**fields))


def _attempts(connection: Connection, *where: Any) -> list[Attempt]:
    found = [_attempt(row) for row in connection.execute(select(transactions).where(*where))]
    return sorted(found, key=lambda attempt: (attempt.nonce, attempt.signed_at, attempt.fees.max_fee))


def _item(row: Row[Any]) -> Item:
    return Item(
        id=row.id,
        request_hash=row.request_hash,
        kind=Delivery(row.kind),
        state=SendState(row.state),
        calldata=row.calldata,
        detail=row.detail,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        tx_hash=row.tx_hash,
        item_id=row.outbox_id,
        nonce=row.nonce,
        raw=row.raw,
        gas=row.gas,
        fees=Fees(int(row.max_fee_wei), int(row.tip_wei)),
        signed_at=row.signed_at,
        sent_at=row.sent_at,
        error=row.error,
        mined_block_hash=row.mined_block_hash,
        mined_block_number=row.mined_block_number,
        mined_ok=row.mined_ok,
    )
