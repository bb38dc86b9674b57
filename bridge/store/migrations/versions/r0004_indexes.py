"""Queries that do not grow with history.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PARTIAL = (
    ("jobs_unpublished", "published_at", "state IN ('posted', 'final') AND published_at IS NULL"),
    ("jobs_taken_back", "state", "(state NOT IN ('posted', 'final')) AND published_at IS NOT NULL"),
)


def upgrade() -> None:
    """Indexes for what is looked at often, and a count of what only grows."""
    op.drop_index("jobs_by_state", "jobs")
    op.create_index("jobs_by_state", "jobs", ["state", "block_number", "request_id"])
    op.create_index("jobs_by_block", "jobs", ["block_number", "request_id"])
    for name, column, where in _PARTIAL:
        op.create_index(name, "jobs", [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    op.create_index("uploads_by_root", "uploads", ["root"])
    op.drop_index("events_by_block", "events")
    requested = sa.text("kind = 'JobRequested'")
    op.create_index("events_by_id", "events", ["request_id"], sqlite_where=requested, postgresql_where=requested)
    op.add_column("cursors", sa.Column("final_jobs", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE cursors SET final_jobs = (SELECT count(*) FROM jobs WHERE jobs.state = 'final')")
