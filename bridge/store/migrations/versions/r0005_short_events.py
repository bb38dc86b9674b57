"""Final events that follow from their job are kept short.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Topics may be left out."""
    with op.batch_alter_table("events") as table:
        table.alter_column("topics", existing_type=sa.JSON(), nullable=True)
