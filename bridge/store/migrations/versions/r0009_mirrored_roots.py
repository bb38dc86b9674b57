"""What was given to the operator's Kubo.

Revision ID: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table of its own: a bridge without a Kubo never writes to it."""
    op.create_table(
        "mirrored_roots",
        sa.Column("root", sa.LargeBinary(64), primary_key=True),
        sa.Column("peer", sa.String(128), primary_key=True),
        sa.Column("ours", sa.Boolean(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
    )
