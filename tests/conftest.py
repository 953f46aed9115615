"""Shared fixtures: the real radiographs and reports beside the checkout, and small inputs made on the spot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import parallel

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data; tests that need it run wherever it exists."""
    folder = Path(os.environ.get("INTRAMURAL_SHARED", ROOT.parent / "shared"))
    if not (folder / "make_pacs_export.py").exists():
        pytest.skip("the real radiographs and reports (../shared) are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def real_export(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PACS export of 60 real studies with planted identities; its answer key lies beside it."""
    out = tmp_path_factory.mktemp("real") / "export"
    command = [sys.executable, shared / "make_pacs_export.py", out, "--studies", "60", "--seed", "11"]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture(autouse=True)
def one_worker_works_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that a test runs with one worker start no process of their own: quick, and open to its patches."""
    monkeypatch.setattr(parallel, "ISOLATE", False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first, so that two workers end at about the same time."""
    first = ("tests/docs/", "tests/worker/")
    items.sort(key=lambda item: not item.nodeid.startswith(first))
