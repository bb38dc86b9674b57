"""Which results were read back from an operator's Kubo before they go on-chain.

Revision ID: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table of its own: a bridge whose results need no copies never writes to it."""
    op.create_table(
        "copies",
        sa.Column("request_hash", sa.LargeBinary(32), primary_key=True),
        sa.Column("peer", sa.String(128), primary_key=True),
        sa.Column("root", sa.LargeBinary(64), nullable=False),
        sa.Column("confirmed_at", sa.Float(), nullable=False),
    )
