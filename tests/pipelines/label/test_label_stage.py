"""Stage `label`: each source's labels with their version, what could not be read, resuming, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines import tables
from pipelines.contract import Outcome, read_json, run_stage
from tests.pipelines.build.folders import SECRET, Deid, public_key, release

REPORTS = {
    "s1": "INDICATION: Pneumonia?\nFINDINGS: Left pleural effusion. PICC tip in the SVC.\nIMPRESSION: No pneumothorax.",
    "s2": "FINDINGS: Lungs are clear.\nIMPRESSION: Normal chest.",
    "s3": "FINDINGS: Possible effusion.",
    "s4": "",
    "s5": "FINDINGS: " + "No pneumothorax. " * 7000,
    "s7": "FINDINGS: Das Herz ist nicht vergrößert und die Lunge ist frei. Kein Erguss.",
}
SITE = {"s1": {"Effusion": 1, "ETT": 0}, "s2": {"Effusion": 1}, "s6": {"Effusion": 1}}


@pytest.fixture
def deid(tmp_path: Path) -> Path:
    deid = Deid(tmp_path / "deid")
    for n, (study, text) in enumerate(REPORTS.items()):
        deid.report(f"p{n}", study, text)
    for study, labels in SITE.items():
        for label, value in labels.items():
            deid.label("p", study, label, value)
    deid.folder.mkdir()
    return deid.write()


def spec(deid: Path, **settings: Any) -> dict[str, Any]:
    return {"deid": str(deid), "release_key": str(public_key(deid.parent)), "workers": 1} | settings


def label(deid: Path, out: Path, **settings: Any) -> dict[str, Any]:
    assert run_stage("label", spec(deid, **settings), out) is Outcome.DONE, (out / "outcome.json").read_text()
    return read_json(out / "result.json")


def refusal(deid: Path, out: Path, **settings: Any) -> str:
    assert run_stage("label", spec(deid, **settings), out) is Outcome.BAD_INPUT
    return read_json(out / "outcome.json")["message"]


def labels_of(out: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    names = {SECRET.accession(study): study for study in (*REPORTS, "s6")}
    rows = pq.read_table(out / "labels.parquet", schema=tables.LABELS).to_pylist()
    return {(names[row["accession"]], row["source"], row["label"]): row for row in rows}


def test_every_source_speaks_with_its_version(deid: Path, tmp_path: Path) -> None:
    result = label(deid, tmp_path / "out")
    rows = labels_of(tmp_path / "out")
    assert rows["s1", "rules", "Pleural Effusion"]["value"] == 1
    assert rows["s1", "rules", "Pneumothorax"]["value"] == 0
    assert ("s1", "rules", "Pneumonia") not in rows, "what the indication asks is no finding"
    assert rows["s1", "rules", "CVC"]["position"] == "normal"
    assert rows["s2", "rules", "No Finding"]["value"] == 1
    assert rows["s3", "rules", "Pleural Effusion"]["value"] == -1
    assert {row["version"] for row in rows.values() if row["source"] == "rules"} == {result["versions"]["rules"]}
    assert rows["s2", "site", "Pleural Effusion"]["value"] == 1, "the site's spelling is brought to the labellers'"
    assert {study for study, source, _ in rows if source == "rules"} == {"s1", "s2", "s3"}


def test_what_is_not_read_is_counted_with_its_reason(deid: Path, tmp_path: Path) -> None:
    result = label(deid, tmp_path / "out")
    rules = result["sources"]["rules"]
    assert (rules["read"], rules["not_read"]) == (3, {"empty": 1, "language": 1, "too_long": 1})
    assert rules["read"] + sum(rules["not_read"].values()) == result["reports"] == len(REPORTS)
    effusion = rules["labels"]["Pleural Effusion"]
    assert effusion == {"present": 1, "absent": 0, "uncertain": 1, "blank": 1}


def test_sources_are_compared_on_what_both_read(deid: Path, tmp_path: Path) -> None:
    compared = {row["label"]: row for row in label(deid, tmp_path / "out")["comparison"]}
    effusion = compared["Pleural Effusion"]
    assert (effusion["first"], effusion["second"]) == ("site", "rules")
    assert (effusion["studies"], effusion["spoken"]) == (2, 1), "s6 has no report, s3 no row of the site"
    assert (effusion["first_present"], effusion["second_present"], effusion["both_present"]) == (2, 1, 1)
    assert effusion["agreement"] == 1.0
    stored = pq.read_table(tmp_path / "out" / "comparison.parquet", schema=tables.COMPARED).to_pylist()
    assert stored == list(compared.values())


def test_the_same_bytes_after_a_stop(deid: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("pipelines.label.reports.PART", 2)
    label(deid, tmp_path / "one")
    # As a killed run leaves it: some parts whole, none of the tables.
    (tmp_path / "three" / "parts").mkdir(parents=True)
    for name in ("parts/rules-000000.parquet", "begun.json"):
        (tmp_path / "three" / name).write_bytes((tmp_path / "one" / name).read_bytes())
    kept = (tmp_path / "three" / "parts" / "rules-000000.parquet").stat().st_mtime_ns
    label(deid, tmp_path / "three")
    assert (tmp_path / "three" / "parts" / "rules-000000.parquet").stat().st_mtime_ns == kept
    assert len(list((tmp_path / "three" / "parts").glob("rules-*"))) == 3
    same_tables(tmp_path / "three", tmp_path / "one")


@pytest.mark.slow  # each process imports spaCy
def test_the_same_bytes_whatever_the_processes(deid: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("pipelines.label.reports.PART", 2)
    label(deid, tmp_path / "one")
    label(deid, tmp_path / "two", workers=2)
    assert len(list((tmp_path / "two" / "parts").glob("rules-*"))) == 3
    same_tables(tmp_path / "two", tmp_path / "one")


def same_tables(one: Path, other: Path) -> None:
    assert len(pq.read_table(one / "labels.parquet")) > 3
    for name in ("labels.parquet", "studies.parquet", "comparison.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_only_a_released_export_is_labelled(deid: Path, tmp_path: Path) -> None:
    release(deid, verdict="sent_back")
    assert "sent back" in refusal(deid, tmp_path / "a")
    (deid / "release.json").unlink()
    assert "not released" in refusal(deid, tmp_path / "b")


def test_a_run_is_resumed_with_the_same_phrases_only(deid: Path, tmp_path: Path) -> None:
    own, out = tmp_path / "own.toml", tmp_path / "out"
    own.write_text("[findings.Edema]\npresent = ['wet lungs']\n")
    label(deid, out, phrases=str(own))
    (out / "result.json").unlink()
    own.write_text("[findings.Edema]\npresent = ['soaked lungs']\n")
    assert "changed since this run began" in refusal(deid, out, phrases=str(own))


@pytest.mark.parametrize("settings", [{"sources": ["model"]}, {"model": "/nowhere"}, {"sources": ["rules", "rules"]}])
def test_sources_that_cannot_be_asked_are_refused(deid: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    assert "label spec is not valid" in refusal(deid, tmp_path / "out", **settings)


def test_nothing_of_a_report_stands_in_events_or_result(deid: Path, tmp_path: Path) -> None:
    result = label(deid, tmp_path / "out")
    told = json.dumps(result) + (tmp_path / "out" / "events.jsonl").read_text()
    assert "effusion. PICC" not in told and "Normal chest" not in told
