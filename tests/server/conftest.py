from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A running control plane on SQLite, without its network."""
    made = House(tmp_path)
    yield made
    made.close()
