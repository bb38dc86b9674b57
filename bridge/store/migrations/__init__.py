"""The database's versions: Alembic revisions, packaged with the code that needs them.

A change of `bridge.store.schema` comes with a revision in `versions/`; a test compares the two. Revisions are never
edited once released.
"""

from __future__ import annotations

from importlib import resources

from sqlalchemy import Engine, inspect, text

from bridge.errors import FatalError
from bridge.store.engine import reading, transaction

_LOCK = 0x696E73756C61  # "insula": one replica migrates at a time


def migrate(engine: Engine) -> None:
    """Bring the database to this code's version, as one transaction. FatalError if it is of a newer one."""
    if _version(engine) != newest():
        _upgrade(engine)


def newest() -> str:
    """This code's version: that of the newest revision, by the names of their files (`r0001_words.py`)."""
    names = [path.name for path in resources.files(__name__).joinpath("versions").iterdir()]
    return max(name[1:5] for name in names if name.startswith("r"))


def _version(engine: Engine) -> str | None:
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _upgrade(engine: Engine) -> None:
    # Alembic is loaded only where there is something to do: most starts are of a database that is up to date.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

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
