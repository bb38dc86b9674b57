"""A node's envelope signature over its receipt, and the proof that the receipt is in its log.

Revision ID: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Null for what was answered before."""
    op.add_column("slots", sa.Column("dsse_signature", sa.LargeBinary(length=65), nullable=True))
    op.add_column("slots", sa.Column("log_proof", sa.LargeBinary(), nullable=True))
