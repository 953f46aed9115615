"""Files that crash, stall or exhaust the process which reads them cost themselves, and nothing beside."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.keys import DerivationSecret, create_vault_key
from tests.dicoms import as_bytes, instance

ROOT = Path(__file__).parents[2]
WAYS = ("crash", "hang", "bomb")


@pytest.mark.parametrize(
    ("stage", "who"),
    [
        ("scan", "inventory"),
        pytest.param("deidentify", "inventory", marks=pytest.mark.slow),
        pytest.param("deidentify", "instance", marks=pytest.mark.slow),
    ],
)
def test_a_bad_file_costs_one_file(stage: str, who: str, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    for number, comment in enumerate([*(f"{who} {how}" for how in WAYS), *[""] * 5], 1):
        ds = instance(number, accession=f"ACC{number:06d}", study=str(number))
        ds.ImageComments = comment
        (tmp_path / "export" / f"IM{number}").write_bytes(as_bytes(ds))
    DerivationSecret.create(tmp_path / "secret.json")
    create_vault_key(tmp_path / "vault.key")
    given = {"export": tmp_path / "export", "secret": tmp_path / "secret.json", "vault_key": tmp_path / "vault.key"}
    spec = {key: str(path) for key, path in given.items()} | {"workers": 2, "item_seconds": 6}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipelines", stage, tmp_path / "spec.json", out]
    path = f"{Path(__file__).parent / 'hostile'}:{ROOT}"
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, cwd=ROOT, check=False).returncode == 0
    counts = json.loads((out / "result.json").read_text())["counts"]
    if stage == "scan":
        assert counts == {"crash": 2, "timeout": 1, "image": 5}
    else:
        assert (counts["images_written"], counts["quarantined"]) == (5, {"crash": 2, "timeout": 1})
        with (out / "quarantine.csv").open(newline="") as file:
            assert sorted(row["reason"] for row in csv.DictReader(file)) == ["crash", "crash", "timeout"]
