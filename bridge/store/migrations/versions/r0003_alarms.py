"""Alarms that outlive the process; counts of transactions that read no row.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of alarms, and an index."""
    op.create_table(
        "alarms",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("first_at", sa.Float(), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("over_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("transactions_by_fate", "transactions", ["mined_ok"], unique=False)
