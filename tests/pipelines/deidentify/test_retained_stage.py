"""A policy that keeps dates and UIDs, through the whole stage: proof, score and cohort take the kept for no leak."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pydicom
import pytest

from pipelines.build.inputs import Source, list_candidates
from pipelines.contract import Outcome, run_stage
from pipelines.deidentify.policy import FOLDER
from pipelines.keys import DerivationSecret, create_vault_key
from tests.dicoms import STUDY_DATE, as_bytes, instance

DATED, UNDATED = f"1.2.826.0.1.3680043.10.777.{STUDY_DATE}.5.1", "1.2.826.0.1.3680043.10.777.5.100"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of one image with its key, de-identified under full dates and retained UIDs."""
    root = tmp_path_factory.mktemp("kept")
    DerivationSecret.create(root / "keys" / "secret.json")
    create_vault_key(root / "keys" / "vault.key")
    (root / "export").mkdir()
    ds = instance(1, study="5")
    ds.StationName = "XRAYNODE-83"
    (root / "export" / "a").write_bytes(as_bytes(ds))
    text = (FOLDER / "policies" / "longitudinal-research.toml").read_text()
    for old, new in (('dates = "shift"', 'dates = "keep"'), ('uids = "replace"', 'uids = "keep"'),
                     ('style = "surrogates"', 'style = "tags"'), ("device = false", "device = true")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    (root / "full.toml").write_text(text)
    planted = [("PatientName", "NAME", "Kvothensdottir^Zimraana"), ("PatientID", "ID", "MRN7700123"),
               ("StudyDate", "DATE", STUDY_DATE), ("PatientBirthDate", "DATE", "19310521"),
               ("SOPInstanceUID", "UID", DATED), ("StudyInstanceUID", "UID", UNDATED),
               ("StationName", "ID", "XRAYNODE-83")]  # fmt: skip
    record = {"path": "a", "accession": "ACCN900417", "patient": "1", "burned_in": [],
              "planted": [{"where": w, "kind": k, "value": v} for w, k, v in planted]}  # fmt: skip
    key = {"instances": {DATED: record}, "reports": {}, "broken": [], "duplicates": []}
    (root / "export.key.json").write_text(json.dumps(key))
    values = {"export": str(root / "export"), "policy": str(root / "full.toml"), "workers": 1,
              "secret": str(root / "keys" / "secret.json"), "vault_key": str(root / "keys" / "vault.key")}  # fmt: skip
    assert run_stage("deidentify", values, root / "deid") is Outcome.DONE
    return root


def output(places: Path) -> pydicom.FileDataset:
    (path,) = (places / "deid" / "dicom").rglob("*.dcm")
    return pydicom.dcmread(path)


def test_what_is_kept_stands_in_the_object_and_nowhere_in_a_path(places: Path) -> None:
    ds = output(places)
    assert (ds.SOPInstanceUID, ds.StudyInstanceUID, ds.StudyDate) == (DATED, UNDATED, STUDY_DATE)
    assert ds.StationName == "XRAYNODE-83" and ds.PatientBirthDate == ""
    assert ds.LongitudinalTemporalInformationModified == "UNMODIFIED"
    codes = {c.CodeValue for c in ds.DeidentificationMethodCodeSequence}
    assert {"113106", "113109", "113110"} <= codes and "113107" not in codes
    named = " ".join(str(p.relative_to(places / "deid")) for p in (places / "deid").rglob("*"))
    assert DATED not in named and UNDATED not in named and STUDY_DATE not in named


def test_the_score_takes_what_is_kept_for_no_leak_and_still_finds_the_rest(places: Path) -> None:
    values = {"deid": str(places / "deid"), "export": str(places / "export"), "workers": 1,
              "key": str(places / "export.key.json"), "secret": str(places / "keys" / "secret.json")}  # fmt: skip
    assert run_stage("score", values, places / "score") is Outcome.DONE
    result = json.loads((places / "score" / "result.json").read_text())
    assert result["leaks"] == 0 and result["losses"] == {}
    for check in ("date_shifted", "uid_changed", "text_removed"):
        assert result["checks"][check]["passed"] == result["checks"][check]["total"] > 0, check
    told = json.loads((places / "deid" / "result.json").read_text())
    told["policy_options"] |= {"dates": "shift", "uids": "replace", "device": False}
    (places / "deid" / "result.json").write_text(json.dumps(told))
    assert run_stage("score", values, places / "again") is Outcome.DONE
    assert json.loads((places / "again" / "result.json").read_text())["leaks"] >= 3


def test_a_cohort_finds_its_images_by_pseudonym(places: Path) -> None:
    source = Source(places / "deid", "d", "s", "site", "p", False)
    candidates, _ = list_candidates([source])
    (row,) = candidates.to_pylist()
    manifest = pq.read_table(places / "deid" / "manifest.parquet").to_pylist()
    assert row["instance"].startswith("2.25.") and row["instance"] == manifest[0]["instance"]
    assert (places / "deid" / row["output"]).exists()
