"""Bringing a database to this version's schema: at the start of the embedded form, or as a step of its own."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from pipelines.contract import BadInput
from server.store.db import Database

_LOCK = 0x1A7D18


def upgrade(url: str) -> None:
    """Upgrade the database at `url` in one transaction; two that start at once do it one after the other.

    BadInput when it does not answer or a newer version has written it.
    """
    db = Database(url)
    try:
        with db.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            known = {s.revision for s in _scripts().walk_revisions()}
            revision = MigrationContext.configure(connection).get_current_revision()
            if revision is not None and revision not in known:
                raise BadInput("A newer version has written this database; start that version, or restore a backup.")
            command.upgrade(_config(connection), "head")
    except OperationalError:
        raise BadInput("The database does not answer; check INTRAMURAL_DATABASE_URL and that it runs.") from None
    finally:
        db.engine.dispose()


def current(db: Database) -> str | None:
    """The revision that a database has."""
    with db.engine.execution_options(reading=True).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """The revision that this version wants."""
    return _scripts().get_current_head()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    return config
