"""The database's versions: Alembic revisions, packaged with the code that needs them.

A change of `bridge.store.schema` comes with a revision in `versions/`; a test compares the two. Revisions are never
edited once released.
"""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Engine, text

from bridge.errors import FatalError
from bridge.store.engine import transaction

_LOCK = 0x696E73756C61  # "insula": one replica migrates at a time


def migrate(engine: Engine) -> None:
    """Bring the database to this code's version, as one transaction. FatalError if it is of a newer one."""
    config = Config()
    config.set_main_option("script_location", "bridge.store:migrations")
    with transaction(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as exc:
            raise FatalError(f"the database cannot be brought to this version: {exc}; run the newer program") from exc
