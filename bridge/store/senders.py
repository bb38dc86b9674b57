"""Who may send with a key now, which nonce comes next, and what its transactions have cost."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from bridge.chain.budget import Cost, Sample
from bridge.errors import StaleTransition
from bridge.store.schema import outbox, senders, transaction_items, transactions

# Statements of every step are made once: making one costs more than running it.
_NEXT_NONCE = select(senders.c.next_nonce).where(
    senders.c.chain_id == bindparam("chain_id"), senders.c.address == bindparam("address")
)
_COSTS = select(
    transactions.c.nonce,
    transactions.c.gas,
    transactions.c.max_fee_wei,
    transactions.c.gas_used,
    transactions.c.gas_price_wei,
).where(transactions.c.sender == bindparam("sender"), transactions.c.signed_at >= bindparam("since"))
_CARRIES = (
    select(func.count())
    .select_from(transaction_items)
    .where(transaction_items.c.tx_hash == transactions.c.tx_hash)
    .scalar_subquery()
)
_SAMPLES = (
    select(
        transactions.c.gas_used,
        transactions.c.gas_price_wei,
        func.length(transactions.c.calldata).label("size"),
        _CARRIES.label("carries"),
    )
    .where(
        transactions.c.sender == bindparam("sender"),
        transactions.c.mined_ok.is_(True),
        transactions.c.gas_used.is_not(None),
        exists().where(
            transaction_items.c.tx_hash == transactions.c.tx_hash,
            transaction_items.c.outbox_id == outbox.c.id,
            outbox.c.kind == bindparam("kind"),
        ),
    )
    .order_by(transactions.c.nonce.desc())
    .limit(bindparam("limit"))
)
_OTHER = transactions.alias()
_WITHOUT_RECEIPT = (
    select(transactions.c.tx_hash)
    .where(
        and_(transactions.c.sender == bindparam("sender"), transactions.c.signed_at >= bindparam("since")),
        ~exists().where(
            _OTHER.c.sender == bindparam("sender"),
            _OTHER.c.nonce == transactions.c.nonce,
            _OTHER.c.mined_block_number.is_not(None),
        ),
    )
    .order_by(transactions.c.nonce)
    .limit(bindparam("limit"))
)


@dataclass(frozen=True)
class Lease:
    """Which process may send with an account's key, and until when (seconds since 1970)."""

    owner: str
    until: float


def take_lease(
    connection: Connection, chain_id: int, address: str, owner: str, now: float, until: float
) -> Lease | None:
    """Take or renew the lease; None when it is ours now, else whose it is."""
    mine = (senders.c.chain_id == chain_id, senders.c.address == address)
    row = connection.execute(select(senders.c.lease_owner, senders.c.lease_until).where(*mine)).one_or_none()
    fields = {"lease_owner": owner, "lease_until": until}
    if row is None:
        try:
            connection.execute(insert(senders).values(chain_id=chain_id, address=address, next_nonce=0, **fields))
        except IntegrityError:  # another process came between
            return Lease("another process", until)
        return None
    if row.lease_owner not in (None, owner) and row.lease_until > now:
        return Lease(row.lease_owner, row.lease_until)
    where = (*mine, senders.c.lease_owner.is_not_distinct_from(row.lease_owner))
    taken = connection.execute(update(senders).where(*where).values(**fields)).rowcount == 1
    return None if taken else Lease("another process", until)


def keep_lease(connection: Connection, chain_id: int, address: str, owner: str, until: float) -> None:
    """Renew the lease within a transaction that stores signed bytes. StaleTransition when another process has it."""
    where = (senders.c.chain_id == chain_id, senders.c.address == address, senders.c.lease_owner == owner)
    if connection.execute(update(senders).where(*where).values(lease_until=until)).rowcount != 1:
        raise StaleTransition(f"another process sends with the key of {address}")


def next_nonce(connection: Connection, chain_id: int, address: str) -> int | None:
    """The nonce that we would use next; None for an account with which this database has never sent."""
    return connection.execute(_NEXT_NONCE, {"chain_id": chain_id, "address": address}).scalar_one_or_none() or None


def take_nonce(connection: Connection, chain_id: int, address: str, at_least: int) -> int:
    """Allocate a nonce: ours, unless the chain is further. Only in the transaction that stores the signed bytes."""
    known = next_nonce(connection, chain_id, address) or 0
    nonce = max(known, at_least)
    where = (senders.c.chain_id == chain_id, senders.c.address == address, senders.c.next_nonce == known)
    if connection.execute(update(senders).where(*where).values(next_nonce=nonce + 1)).rowcount != 1:
        raise StaleTransition(f"another process took nonce {known} of {address}")
    return nonce


def costs_since(connection: Connection, sender: str, since: float) -> list[Cost]:
    """What an account's transactions that were signed since then cost, or may cost."""
    return [
        Cost(row.nonce, row.gas * int(row.max_fee_wei), _actual(row.gas_used, row.gas_price_wei))
        for row in connection.execute(_COSTS, {"sender": sender, "since": since})
    ]


def samples(connection: Connection, sender: str, kind: str, limit: int = 50) -> list[Sample]:
    """Gas, bytes and cost per delivery of the last successful transactions that carried this kind."""
    return [
        Sample(
            row.gas_used // row.carries,
            row.size // row.carries,
            (_actual(row.gas_used, row.gas_price_wei) or 0) // row.carries,
        )
        for row in connection.execute(_SAMPLES, {"sender": sender, "kind": kind, "limit": limit})
    ]


def without_receipt(connection: Connection, sender: str, since: float, limit: int = 50) -> list[bytes]:
    """Hashes of lately sent transactions under whose nonce no receipt was seen yet."""
    values = {"sender": sender, "since": since, "limit": limit}
    return list(connection.execute(_WITHOUT_RECEIPT, values).scalars())


def _actual(gas_used: int | None, price: str | None) -> int | None:
    return None if gas_used is None or price is None else gas_used * int(price)
