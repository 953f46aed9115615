"""Labels of a cohort: which source is heard, and which label runs are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.cohort import Cohort
from pipelines.contract import Outcome, read_json, run_stage, sha256_file
from pipelines.release import folder_digest
from pipelines.tables import LABELS, write_table
from tests.pipelines.build.folders import Deid, public_key


@pytest.fixture
def deid(tmp_path: Path) -> Deid:
    deid = Deid(tmp_path / "deid")
    for study in ("s1", "s2"):
        deid.image("p1", study, f"{study} image")
    deid.label("p1", "s1", "Effusion", 1)
    deid.write()
    return deid


def label_run(folder: Path, deid: Deid, rows: list[tuple[str, str, int, str]], **result: Any) -> Path:
    """A finished label run as the stage leaves it: (study, label, value, source) rows."""
    folder.mkdir()
    position = {"ETT": "abnormal"}
    table = [
        deid.keys("p1", study)
        | {"label": label, "value": value, "source": source, "version": f"{source}-1", "position": position.get(label)}
        for study, label, value, source in rows
    ]
    write_table(folder / "labels.parquet", table, LABELS)
    facts = {"digest": folder_digest(deid.folder), "labels_sha256": sha256_file(folder / "labels.parquet")}
    facts |= {"sources": {row["source"]: {} for row in table}} | result
    (folder / "result.json").write_text(json.dumps(facts))
    return folder


def build(deid: Deid, out: Path, **settings: Any) -> Outcome:
    key = public_key(deid.folder.parent)
    spec = {"deid": [str(deid.folder)], "release_key": str(key), "side": 40, "workers": 1} | settings
    return run_stage("build", spec, out)


def labels(deid: Deid, out: Path) -> dict[tuple[str, str], tuple]:
    studies = {deid.secret.accession(s): s for s in ("s1", "s2")}
    rows = Cohort.open(out).labels.to_pylist()
    return {(studies[r["accession"]], r["label"]): (r["value"], r["source"], r["version"], r["position"]) for r in rows}


ROWS = [
    ("s1", "Pleural Effusion", 1, "site"), ("s1", "Pleural Effusion", 0, "rules"),
    ("s1", "Pleural Effusion", 0, "model"), ("s1", "ETT", 1, "rules"), ("s2", "Edema", -1, "model"),
    ("s2", "Edema", 1, "rules"), ("s2", "Fracture", 1, "model"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        (["site", "rules"], {("s1", "Pleural Effusion"): (1, "site"), ("s2", "Edema"): (1, "rules")}),
        (["model", "rules", "site"], {("s1", "Pleural Effusion"): (0, "model"), ("s2", "Edema"): (-1, "model")}),
        (["rules"], {("s1", "Pleural Effusion"): (0, "rules"), ("s2", "Edema"): (1, "rules")}),
    ],
)
def test_the_source_named_first_is_heard(deid: Deid, tmp_path: Path, order: list[str], wanted: dict) -> None:
    run = label_run(tmp_path / "labels", deid, ROWS)
    assert build(deid, tmp_path / "out", labels=[str(run)], label_sources=order) is Outcome.DONE
    found = labels(deid, tmp_path / "out")
    assert {key: value[:2] for key, value in found.items() if key in wanted} == wanted
    assert found["s1", "ETT"] == (1, "rules", "rules-1", "abnormal")
    assert (("s2", "Fracture") in found) == ("model" in order)


def test_without_a_label_run_the_sites_table_speaks(deid: Deid, tmp_path: Path) -> None:
    assert build(deid, tmp_path / "out") is Outcome.DONE
    assert labels(deid, tmp_path / "out") == {("s1", "Effusion"): (1, "site", None, None)}
    assert read_json(tmp_path / "out" / "result.json")["counts"]["labels_from"] == {"site": 1}


def refused(deid: Deid, out: Path, **settings: Any) -> str:
    assert build(deid, out, **settings) is Outcome.BAD_INPUT
    return read_json(out / "outcome.json")["message"]


def test_label_runs_that_do_not_fit_are_refused(deid: Deid, tmp_path: Path) -> None:
    good = label_run(tmp_path / "good", deid, ROWS)
    again = label_run(tmp_path / "again", deid, ROWS[:1])
    old = label_run(tmp_path / "old", deid, ROWS, digest="0" * 64)
    half = label_run(tmp_path / "half", deid, ROWS)
    (half / "result.json").unlink()
    altered = label_run(tmp_path / "altered", deid, ROWS)
    write_table(altered / "labels.parquet", [], LABELS)
    assert "none of the exports" in refused(deid, tmp_path / "1", labels=[str(old)])
    assert "not finished" in refused(deid, tmp_path / "2", labels=[str(half)])
    assert "damaged or was changed" in refused(deid, tmp_path / "3", labels=[str(altered)])
    assert "give one" in refused(deid, tmp_path / "4", labels=[str(good), str(again)])
    assert "'model'" in refused(deid, tmp_path / "5", labels=[str(again)], label_sources=["site", "model"])
    assert "'rules'" in refused(deid, tmp_path / "6", label_sources=["rules"])
    assert "named twice" in refused(deid, tmp_path / "7", label_sources=["site", "site"])


def test_a_build_is_resumed_with_the_same_labels_only(deid: Deid, tmp_path: Path) -> None:
    run = label_run(tmp_path / "labels", deid, ROWS)
    assert build(deid, tmp_path / "out", labels=[str(run)]) is Outcome.DONE
    (tmp_path / "out" / "result.json").unlink()
    write_table(run / "labels.parquet", [], LABELS)
    facts = read_json(run / "result.json") | {"labels_sha256": sha256_file(run / "labels.parquet")}
    (run / "result.json").write_text(json.dumps(facts))
    assert "changed since this build was begun" in refused(deid, tmp_path / "out", labels=[str(run)])
