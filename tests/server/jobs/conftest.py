from collections.abc import Iterator
from pathlib import Path

import pytest

from server.store.db import Database
from server.store.models import Base
from tests.databases import postgresql


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of either kind."""
    if request.param == "sqlite":
        yield from opened(f"sqlite:///{tmp_path / 'jobs.db'}")
    else:
        with postgresql() as url:
            yield from opened(url)


def opened(url: str) -> Iterator[Database]:
    database = Database(url)
    Base.metadata.create_all(database.engine)
    yield database
    database.engine.dispose()
