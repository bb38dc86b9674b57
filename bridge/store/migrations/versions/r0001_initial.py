"""The first version.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    _api_nonces()
    _blocks()
    _cursors()
    _events()
    _held_blocks()
    _jobs()
    _leases()
    _nodes()
    _outbox()
    _senders()
    _slots()
    _transactions()
    _uploads()


def _api_nonces() -> None:
    op.create_table(
        "api_nonces",
        sa.Column("key", sa.String(length=42), nullable=False),
        sa.Column("nonce", sa.LargeBinary(length=32), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key", "nonce"),
    )


def _blocks() -> None:
    op.create_table(
        "blocks",
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("parent_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        sa.UniqueConstraint("number"),
    )


def _cursors() -> None:
    op.create_table(
        "cursors",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("contract", sa.String(length=42), nullable=False),
        sa.Column("genesis_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scanned_number", sa.BigInteger(), nullable=False),
        sa.Column("scanned_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("final_number", sa.BigInteger(), nullable=False),
        sa.Column("final_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "contract"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("topics", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("block_hash", "tx_hash", "kind", "request_hash"),
    )
    op.create_index("events_by_block", "events", ["block_number"], unique=False)
    op.create_index("events_by_request", "events", ["request_hash"], unique=False)


def _held_blocks() -> None:
    op.create_table(
        "held_blocks",
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("cid", sa.LargeBinary(length=36), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "cid"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("request_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("contract", sa.String(length=42), nullable=False),
        sa.Column("request_id", sa.BigInteger(), nullable=False),
        sa.Column("requester", sa.String(length=42), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("order_bytes", sa.LargeBinary(), nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("observed_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("agreed_at", sa.Float(), nullable=True),
        sa.Column("outcome", sa.LargeBinary(), nullable=True),
        sa.Column("chain_state", sa.Integer(), nullable=False),
        sa.Column("settled_tx", sa.LargeBinary(length=32), nullable=True),
        sa.Column("settled_block_number", sa.BigInteger(), nullable=True),
        sa.Column("settled_block_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("cancel_marked", sa.Boolean(), nullable=False),
        sa.Column("callback_ok", sa.Boolean(), nullable=True),
        sa.Column("wanted_block", sa.LargeBinary(), nullable=True),
        sa.Column("published_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("request_hash"),
    )
    op.create_index("jobs_by_id", "jobs", ["request_id"], unique=False)
    op.create_index("jobs_by_state", "jobs", ["state", "block_number"], unique=False)


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("token", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("lease_id", sa.String(length=32), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("operator", sa.String(length=42), nullable=False),
        sa.Column("key", sa.String(length=42), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("granted_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("cpu_millis", sa.BigInteger(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=False),
        sa.Column("uploaded_bytes", sa.BigInteger(), nullable=False),
        sa.Column("output_root", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("token"),
        sa.UniqueConstraint("lease_id"),
    )
    op.create_index("leases_by_request", "leases", ["request_hash", "slot"], unique=False)
    op.create_index("leases_by_state", "leases", ["state", "expires_at"], unique=False)
    op.create_index(
        "leases_one_active",
        "leases",
        ["request_hash", "slot"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=42), nullable=False),
        sa.Column("operator", sa.String(length=42), nullable=False),
        sa.Column("advert", sa.JSON(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("node_id"),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("request_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("calldata", sa.LargeBinary(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("request_hash", "kind"),
    )


def _senders() -> None:
    op.create_table(
        "senders",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.String(length=42), nullable=False),
        sa.Column("next_nonce", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "address"),
    )


def _slots() -> None:
    op.create_table(
        "slots",
        sa.Column("request_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.BigInteger(), nullable=True),
        sa.Column("operator", sa.String(length=42), nullable=True),
        sa.Column("key", sa.String(length=42), nullable=True),
        sa.Column("outcome", sa.LargeBinary(), nullable=True),
        sa.Column("outcome_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("receipt", sa.LargeBinary(), nullable=True),
        sa.Column("receipt_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("log_root", sa.LargeBinary(length=32), nullable=True),
        sa.Column("log_size", sa.BigInteger(), nullable=True),
        sa.Column("relayer", sa.String(length=42), nullable=True),
        sa.Column("signature", sa.LargeBinary(length=65), nullable=True),
        sa.Column("answered_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("request_hash", "slot"),
        sa.UniqueConstraint("request_hash", "node_id", name="slots_one_per_node"),
        sa.UniqueConstraint("request_hash", "operator", name="slots_one_per_operator"),
    )


def _transactions() -> None:
    op.create_table(
        "transactions",
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("outbox_id", sa.BigInteger(), nullable=True),
        sa.Column("sender", sa.String(length=42), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("gas", sa.BigInteger(), nullable=False),
        sa.Column("max_fee_wei", sa.String(length=78), nullable=False),
        sa.Column("tip_wei", sa.String(length=78), nullable=False),
        sa.Column("signed_at", sa.Float(), nullable=False),
        sa.Column("sent_at", sa.Float(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("mined_block_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("mined_block_number", sa.BigInteger(), nullable=True),
        sa.Column("mined_ok", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("tx_hash"),
    )
    op.create_index("transactions_by_nonce", "transactions", ["sender", "nonce"], unique=False)
    op.create_index("transactions_by_outbox", "transactions", ["outbox_id"], unique=False)


def _uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("account", sa.String(length=42), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("requester", sa.String(length=42), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("account", "root"),
    )
