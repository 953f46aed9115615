"""Migrations make exactly the tables of the models, once, whoever starts first."""

import threading
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from pipelines.contract import BadInput
from server.store import migrate
from server.store.db import Database
from server.store.models import Base


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    made = Database(url)
    yield made
    made.engine.dispose()


def test_an_upgrade_from_nothing_equals_the_models(url, db):
    migrate.upgrade(url)
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    assert migrate.current(db) == migrate.newest()


def test_upgrading_twice_changes_nothing(url, db):
    migrate.upgrade(url)
    with db.engine.begin() as connection:
        connection.execute(text("INSERT INTO setup_link (hash, created_at) VALUES ('x', '2026-01-01 00:00:00')"))
    migrate.upgrade(url)
    with db.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM setup_link")) == 1


def test_two_that_start_at_once_do_not_meet(url, db):
    errors: list[BaseException] = []

    def start() -> None:
        try:
            migrate.upgrade(url)
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert migrate.current(db) == migrate.newest()


def test_a_migration_that_fails_leaves_nothing_behind(url, db, monkeypatch):
    """Alembic takes SQLite for a database that cannot roll back DDL; ours does."""
    upgrade = migrate.command.upgrade

    def failing(*args: object, **kwargs: object) -> None:
        upgrade(*args, **kwargs)
        raise RuntimeError("power cut")

    monkeypatch.setattr(migrate.command, "upgrade", failing)
    with pytest.raises(RuntimeError):
        migrate.upgrade(url)
    assert inspect(db.engine).get_table_names() == []


def test_a_database_of_a_newer_version_is_refused(url, db):
    migrate.upgrade(url)
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(BadInput, match="newer version"):
        migrate.upgrade(url)


def test_a_database_that_does_not_answer_is_one_sentence(tmp_path):
    for nowhere in (f"sqlite:///{tmp_path / 'none' / 'x.db'}", "postgresql+psycopg://127.0.0.1:1/none"):
        with pytest.raises(BadInput, match="does not answer"):
            migrate.upgrade(nowhere)
