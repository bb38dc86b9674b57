"""A transaction may carry many deliveries; what it cost is kept; one process sends with a key at a time.

Revision ID: 0002
"""

from __future__ import annotations

import rlp  # type: ignore[import-untyped]
import sqlalchemy as sa
from alembic import op
from eth_utils.address import to_checksum_address

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TO, _DATA = 5, 7  # fields of a transaction of type 2 (EIP-1559)


def upgrade() -> None:
    """Move each transaction's one delivery into a table of its own, and read out of its bytes what it says."""
    op.create_table(
        "transaction_items",
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("outbox_id", sa.BigInteger(), nullable=False),
        sa.Column("weight", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tx_hash", "outbox_id"),
    )
    op.create_index("transaction_items_by_outbox", "transaction_items", ["outbox_id"], unique=False)
    op.execute(
        "INSERT INTO transaction_items (tx_hash, outbox_id, weight)"
        " SELECT tx_hash, outbox_id, 1 FROM transactions WHERE outbox_id IS NOT NULL"
    )
    with op.batch_alter_table("transactions") as table:
        table.add_column(sa.Column("destination", sa.String(length=42), nullable=True))
        table.add_column(sa.Column("calldata", sa.LargeBinary(), nullable=True))
        table.add_column(sa.Column("gas_used", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("gas_price_wei", sa.String(length=78), nullable=True))
        table.drop_index("transactions_by_outbox")
        table.drop_column("outbox_id")
    _read_out()
    with op.batch_alter_table("transactions") as table:
        table.alter_column("destination", existing_type=sa.String(length=42), nullable=False)
        table.alter_column("calldata", existing_type=sa.LargeBinary(), nullable=False)
    op.create_index("transactions_by_time", "transactions", ["sender", "signed_at"], unique=False)
    op.create_index("outbox_by_state", "outbox", ["state"], unique=False)
    with op.batch_alter_table("senders") as table:
        table.add_column(sa.Column("lease_owner", sa.String(length=300), nullable=True))
        table.add_column(sa.Column("lease_until", sa.Float(), nullable=True))


def _read_out() -> None:
    table = sa.table(
        "transactions",
        sa.column("tx_hash", sa.LargeBinary),
        sa.column("raw", sa.LargeBinary),
        sa.column("destination", sa.String),
        sa.column("calldata", sa.LargeBinary),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(table.c.tx_hash, table.c.raw)).all():
        fields = rlp.decode(row.raw[1:])
        values = {"destination": to_checksum_address(fields[_TO]), "calldata": fields[_DATA]}
        connection.execute(sa.update(table).where(table.c.tx_hash == row.tx_hash).values(**values))
