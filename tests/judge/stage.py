"""Running the whole de-identification on an export, and pairing each output with its source."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.contract import Outcome, run_stage
from pipelines.keys import DerivationSecret, create_vault_key


@dataclass(frozen=True)
class Pair:
    """A file of an export and what became of it; `output` is None where nothing was written."""

    source: Path
    output: Path | None
    row: dict[str, Any]


def make_keys(folder: Path, site: str = "site") -> Path:
    """A derivation secret and a vault key of a site of its own."""
    if not (folder / "secret.json").exists():
        DerivationSecret.create(folder / "secret.json", site)
        create_vault_key(folder / "vault.key")
    return folder


def deidentify(export: Path, out: Path, keys: Path, **more: object) -> dict[str, Any]:
    """Run the stage to its end; its result. Raises AssertionError with the sentence for a person otherwise."""
    spec = {"export": str(export), "secret": str(keys / "secret.json"), "vault_key": str(keys / "vault.key")}
    outcome = run_stage("deidentify", {**spec, "workers": 1, **more}, out)
    assert outcome is Outcome.DONE, json.loads((out / "outcome.json").read_text())["message"]
    return dict(json.loads((out / "result.json").read_text()))


def pairs(export: Path, out: Path, keys: Path) -> list[Pair]:
    """Every file of the export with its row of the manifest; a file without one is an error."""
    secret = DerivationSecret.load(keys / "secret.json")
    rows = {row["source_id"]: row for row in pq.read_table(out / "manifest.parquet").to_pylist()}
    found = []
    for path in sorted(p for p in export.rglob("*") if p.is_file() and not p.is_symlink()):
        row = rows[secret.source_id(path.relative_to(export).as_posix())]
        found.append(Pair(path, out / row["output"] if row["state"] == "written" else None, row))
    return found
