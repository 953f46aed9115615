"""One small practice export, made once for all tests of the stage."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.contract import RunFolder
from pipelines.practice.run import run
from pipelines.practice.spec import Spec


@pytest.fixture(scope="session")
def practice(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A practice export of 20 studies at 320 pixels: `root`, its answer `key` and the stage's `result`."""
    folder = tmp_path_factory.mktemp("practice")
    root = folder / "export"
    result = run(Spec(out=root, studies=20, seed=5, side=320), RunFolder(folder / "run"))
    key = json.loads(Path(f"{root}.key.json").read_text(encoding="utf-8"))
    return SimpleNamespace(root=root, key=key, result=result)
