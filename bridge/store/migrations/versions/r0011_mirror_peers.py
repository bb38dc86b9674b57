"""Which daemons answered at an address of content.kubo.

Revision ID: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table of its own: a bridge without a Kubo never writes to it."""
    op.create_table(
        "mirror_peers",
        sa.Column("address", sa.String(300), primary_key=True),
        sa.Column("peer", sa.String(128), primary_key=True),
        sa.Column("seen_at", sa.Float(), nullable=False),
    )
