"""The row of a job that was final when it was read holds its two logs.

Revision ID: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Who relayed a result, of such jobs."""
    op.add_column("jobs", sa.Column("settled_relayer", sa.LargeBinary(20)))
