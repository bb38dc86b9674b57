"""What has to be sent, and the signed transactions that send it. Bytes are stored before they first go on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, insert, or_, select, update

from bridge.chain.budget import Cost
from bridge.chain.fees import Fees
from bridge.chain.shapes import TxReceipt
from bridge.chain.signer import SignedTransaction, Transaction
from bridge.errors import StaleTransition
from bridge.jobs import OPEN_STATES, JobState
from bridge.store.schema import jobs, outbox, transaction_items, transactions


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

# Statements of every step are made once: making one costs more than running it.
_SIGNED_ROWS = (
    select(outbox)
    .where(outbox.c.state.in_([state.value for state in (*IN_FLIGHT, SendState.MINED)]))
    .order_by(outbox.c.id)
    .limit(bindparam("limit"))
)
_UNSIGNED_ROWS = (
    select(outbox)
    .where(outbox.c.state == SendState.NEW.value, outbox.c.id > bindparam("after"))
    .order_by(outbox.c.id)
    .limit(bindparam("limit"))
)
_WANTED_AGAIN = [JobState.POSTING.value, *(state.value for state in OPEN_STATES)]
_ENDED_ROWS = (
    select(outbox)
    .join(jobs, jobs.c.request_hash == outbox.c.request_hash)
    .where(
        jobs.c.state.in_(_WANTED_AGAIN),  # few are, and nearly all deliveries have ended: no way by their state
        outbox.c.state.concat("").in_([SendState.DONE.value, SendState.SUPERSEDED.value]),
        or_(
            and_(jobs.c.state == JobState.POSTING.value, outbox.c.kind == Delivery.FULFIL.value),
            and_(jobs.c.state.in_([s.value for s in OPEN_STATES]), outbox.c.kind != Delivery.FULFIL.value),
        ),
    )
    .limit(bindparam("limit"))
)
_NEWEST = (
    select(func.max(transactions.c.nonce).label("nonce"))
    .join(transaction_items, transaction_items.c.tx_hash == transactions.c.tx_hash)
    .join(outbox, outbox.c.id == transaction_items.c.outbox_id)
    .where(outbox.c.state.in_([state.value for state in IN_FLIGHT]))
    .group_by(outbox.c.id)
    .subquery()
)
_IN_FLIGHT_COUNT = select(func.count(_NEWEST.c.nonce.distinct()))
_ROW = select(outbox).where(outbox.c.request_hash == bindparam("request_hash"), outbox.c.kind == bindparam("kind"))
_ROWS = select(outbox).where(outbox.c.id.in_(bindparam("ids", expanding=True)))
_MOVE = (
    update(outbox)
    .where(
        outbox.c.id == bindparam("row"), outbox.c.state == bindparam("before"), outbox.c.calldata == bindparam("same")
    )
    .values(state=bindparam("after"), detail=bindparam("why"), changed_at=bindparam("now"))
)
_OF_ROWS = select(transactions).where(
    transactions.c.tx_hash.in_(
        select(transaction_items.c.tx_hash).where(transaction_items.c.outbox_id.in_(bindparam("ids", expanding=True)))
    )
)
_AT_NONCE = select(transactions).where(
    transactions.c.sender == bindparam("sender"), transactions.c.nonce == bindparam("nonce")
)
_OF_HASH = select(transactions).where(transactions.c.tx_hash == bindparam("tx_hash"))
_CARRIED = (
    select(transaction_items)
    .where(transaction_items.c.tx_hash.in_(bindparam("hashes", expanding=True)))
    .order_by(transaction_items.c.outbox_id)
)


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


Move = tuple[Item, SendState, str]  # a row as it was, its next state, and why


@dataclass(frozen=True)
class Attempt:
    """A signed transaction. `weights` names the outbox rows that it carries; none: it only fills a nonce."""

    tx_hash: bytes
    weights: Mapping[int, int]  # outbox row -> its part of the cost, against the others'
    nonce: int
    raw: bytes
    gas: int
    fees: Fees
    destination: str
    calldata: bytes
    signed_at: float
    sent_at: float | None
    error: str
    mined_block_hash: bytes | None
    mined_block_number: int | None
    mined_ok: bool | None
    gas_used: int | None
    gas_price: int | None  # wei, of the receipt

    @property
    def is_batch(self) -> bool:
        """Whether it carries several deliveries."""
        return len(self.weights) > 1

    @property
    def cost(self) -> int | None:
        """What it cost in wei, once its receipt was seen."""
        return None if self.gas_used is None or self.gas_price is None else self.gas_used * self.gas_price

    def cost_to(self, item_id: int) -> Cost:
        """What it costs one of the rows that it carries."""
        at_most = self.gas * self.fees.max_fee
        return Cost(self.nonce, at_most, self.cost, self.weights[item_id], sum(self.weights.values()))


def enqueue(connection: Connection, request_hash: bytes, kind: str, calldata: bytes, now: float) -> None:
    """Put a delivery into the outbox. Again: the same row, which starts over if it had failed or the calldata is new.

    One that had ended otherwise goes on with its bytes: they may wait in a mempool, and would be paid for too.
    """
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
    elif item.calldata != calldata or item.state is SendState.DEAD:
        # Transactions with the old calldata keep their nonces; the relayer signs the new one under a nonce of its own.
        fields = {"state": SendState.NEW.value, "calldata": calldata, "detail": "", "changed_at": now}
        connection.execute(update(outbox).where(outbox.c.id == item.id).values(**fields))
    elif item.state in (SendState.DONE, SendState.SUPERSEDED):
        revive(connection, request_hash, kind, now)


def find(connection: Connection, request_hash: bytes, kind: str) -> Item | None:
    """The row of a delivery."""
    row = connection.execute(_ROW, {"request_hash": request_hash, "kind": kind}).one_or_none()
    return None if row is None else _item(row)


def revive(connection: Connection, request_hash: bytes, kind: str, now: float) -> None:
    """A delivery's effect left the chain: its row lives again, and its bytes are sent again at once.

    A row in flight may have a receipt too: the process may end between noting that and moving the row.
    """
    item = find(connection, request_hash, kind)
    if item is None or item.state is SendState.NEW:
        return
    forget_receipts(connection, item, now)


def forget_receipts(connection: Connection, item: Item, now: float) -> None:
    """The blocks of a row's receipts left the chain: its bytes, if it has any, are sent again at once.

    The receipts were those of all rows that its transactions carry: none of them is mined now.
    """
    hashes = select(transaction_items.c.tx_hash).where(transaction_items.c.outbox_id == item.id)
    mine = transactions.c.tx_hash.in_(hashes)
    forgotten = {"mined_block_hash": None, "mined_block_number": None, "mined_ok": None}
    connection.execute(
        update(transactions).where(mine).values(sent_at=None, gas_used=None, gas_price_wei=None, **forgotten)
    )
    signed = connection.execute(select(func.count()).select_from(transactions).where(mine)).scalar_one()
    state = SendState.SIGNED if signed else SendState.NEW
    fields = {"state": state.value, "detail": "its result left the chain", "changed_at": now}
    connection.execute(update(outbox).where(outbox.c.id == item.id).values(**fields))
    with_it = select(transaction_items.c.outbox_id).where(transaction_items.c.tx_hash.in_(hashes))
    mined = (outbox.c.id.in_(with_it), outbox.c.state == SendState.MINED.value)
    connection.execute(update(outbox).where(*mined).values(**fields | {"state": SendState.SIGNED.value}))


PAGE = 1000  # rows of one kind that are looked at at once


def work(connection: Connection, after: int = 0, limit: int = PAGE) -> list[Item]:
    """Rows that are not at their end, oldest first; also ended ones whose job still waits: their end may be undone.

    Of those that wait to be signed only `limit` above row `after`: a thousand of one requester hide nobody else's.
    """
    values = {"limit": limit, "after": after}
    found = (connection.execute(query, values) for query in (_SIGNED_ROWS, _UNSIGNED_ROWS, _ENDED_ROWS))
    return sorted((_item(row) for rows in found for row in rows), key=lambda item: item.id)


def items_by_id(connection: Connection, ids: Iterable[int]) -> list[Item]:
    """These rows, whatever their state."""
    return [_item(row) for row in connection.execute(_ROWS, {"ids": list(ids)})]


def in_flight(connection: Connection) -> int:
    """How many transactions are under way: nonces under which rows have signed bytes that are not mined."""
    return int(connection.execute(_IN_FLIGHT_COUNT).scalar_one())


def move_item(connection: Connection, item: Item, after: SendState, now: float, detail: str = "") -> None:
    """Move a row. StaleTransition if it is no longer as `item` says."""
    move_items(connection, [(item, after, detail)], now)


def move_items(connection: Connection, moves: Sequence[Move], now: float) -> None:
    """Move rows, in one statement. StaleTransition if one is no longer as its item says: roll all back."""
    values = [
        {
            "row": item.id,
            "before": item.state.value,
            "same": item.calldata,
            "after": after.value,
            "why": detail[:4000],
            "now": now,
        }
        for item, after, detail in moves
    ]
    # Not every database's driver counts the rows of several updates together.
    together = connection.dialect.supports_sane_multi_rowcount
    for part in [values] if together else [[each] for each in values]:
        if connection.execute(_MOVE, part).rowcount != len(part):
            rows = ", ".join(str(each["row"]) for each in part)
            raise StaleTransition(f"outbox rows are not all as they were: {rows}"[:1000])


def attempts_of(connection: Connection, item_id: int) -> list[Attempt]:
    """All transactions of a row, newest last."""
    return attempts_for(connection, [item_id])[item_id]


def attempts_for(connection: Connection, item_ids: Iterable[int]) -> dict[int, list[Attempt]]:
    """All transactions of each of these rows, newest last."""
    found: dict[int, list[Attempt]] = {item_id: [] for item_id in item_ids}
    for attempt in _attempts(connection, connection.execute(_OF_ROWS, {"ids": list(found)}).all()):
        for item_id in attempt.weights:
            if item_id in found:
                found[item_id].append(attempt)
    return found


def attempts_at(connection: Connection, sender: str, nonce: int) -> list[Attempt]:
    """All transactions under one nonce, newest last."""
    return _attempts(connection, connection.execute(_AT_NONCE, {"sender": sender, "nonce": nonce}).all())


def store_attempt(
    connection: Connection,
    weights: Mapping[int, int],
    sender: str,
    transaction: Transaction,
    signed: SignedTransaction,
    now: float,
) -> Attempt:
    """Keep signed bytes, before they are sent. `weights`: the rows that they carry."""
    connection.execute(
        insert(transactions).values(
            tx_hash=signed.hash,
            sender=sender,
            nonce=transaction.nonce,
            raw=signed.raw,
            gas=transaction.gas,
            max_fee_wei=str(transaction.max_fee),
            tip_wei=str(transaction.tip),
            destination=transaction.to,
            calldata=transaction.data,
            signed_at=now,
        )
    )
    rows = [{"tx_hash": signed.hash, "outbox_id": item_id, "weight": part} for item_id, part in weights.items()]
    if rows:
        connection.execute(insert(transaction_items), rows)
    return _attempts(connection, connection.execute(_OF_HASH, {"tx_hash": signed.hash}).all())[0]


def note_sending(connection: Connection, tx_hash: bytes, now: float, error: str) -> None:
    """Remember that bytes were handed in, and what the endpoint said against it."""
    where = transactions.c.tx_hash == tx_hash
    connection.execute(update(transactions).where(where).values(sent_at=now, error=error[:1000]))


def note_mined(connection: Connection, receipt: TxReceipt, gas_price: int | None) -> None:
    """Keep a receipt when it is first seen: an endpoint forgets it later. `gas_price`: the effective one, in wei."""
    fields = {
        "mined_block_hash": receipt.block_hash,
        "mined_block_number": receipt.block_number,
        "mined_ok": receipt.ok,
        "gas_used": receipt.gas_used,
        "gas_price_wei": None if gas_price is None else str(gas_price),
    }
    connection.execute(update(transactions).where(transactions.c.tx_hash == receipt.tx_hash).values(**fields))


def _attempts(connection: Connection, rows: Sequence[Row[Any]]) -> list[Attempt]:
    weights: dict[bytes, dict[int, int]] = {row.tx_hash: {} for row in rows}
    if not weights:
        return []
    for row in connection.execute(_CARRIED, {"hashes": list(weights)}):
        weights[row.tx_hash][row.outbox_id] = row.weight
    found = [_attempt(row, weights[row.tx_hash]) for row in rows]
    # Not by time: a clock may jump. A replacement always offers more.
    return sorted(found, key=lambda attempt: (attempt.nonce, attempt.fees.max_fee, attempt.fees.tip))


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


def _attempt(row: Row[Any], weights: Mapping[int, int]) -> Attempt:
    return Attempt(
        tx_hash=row.tx_hash,
        weights=weights,
        nonce=row.nonce,
        raw=row.raw,
        gas=row.gas,
        fees=Fees(int(row.max_fee_wei), int(row.tip_wei)),
        destination=row.destination,
        calldata=row.calldata,
        signed_at=row.signed_at,
        sent_at=row.sent_at,
        error=row.error,
        mined_block_hash=row.mined_block_hash,
        mined_block_number=row.mined_block_number,
        mined_ok=row.mined_ok,
        gas_used=row.gas_used,
        gas_price=None if row.gas_price_wei is None else int(row.gas_price_wei),
    )
