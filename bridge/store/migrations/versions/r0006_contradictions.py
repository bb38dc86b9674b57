"""Evidence against nodes that sign two outcomes of one request.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "contradictions",
        sa.Column("request_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("key", sa.String(length=42), nullable=False),
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("found_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("request_hash", "key"),
    )
    op.create_index("contradictions_by_node", "contradictions", ["node_id", "found_at"])
