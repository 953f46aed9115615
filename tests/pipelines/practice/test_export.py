"""The export as a hospital would hand it over: layout, identities, disorder, determinism, resume."""

import csv
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID

from pipelines.contract import BadInput, RunFolder, Stopped
from pipelines.practice.exam import Task, perform, truth_path
from pipelines.practice.plan import make_plan
from pipelines.practice.run import run
from pipelines.practice.spec import Spec


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def read(path: Path, entry: dict):
    ds = dcmread(path, force=entry["preamble"] != "full")
    if entry["preamble"] == "bare":
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    return ds


def test_every_instance_opens_decodes_and_is_what_the_key_says(practice):
    for sop, entry in practice.key["instances"].items():
        ds = read(practice.root / entry["path"], entry)
        assert sop == ds.SOPInstanceUID and ds.AccessionNumber == entry["accession"]
        assert ds.pixel_array.shape == (ds.Rows, ds.Columns)
        assert ds.pixel_array.max() < 2**ds.BitsStored
        assert ds.ViewPosition == {"LATERAL": "LL"}.get(entry["view"], entry["view"])
        if entry["preamble"] != "bare":
            coded = ds.file_meta.TransferSyntaxUID
            assert (ds.LossyImageCompression == "01") == (coded == UID("1.2.840.10008.1.2.4.50"))


def test_a_small_export_has_every_coding_depth_and_kind_of_opening(practice):
    entries = practice.key["instances"].values()
    headers = [read(practice.root / e["path"], e) for e in entries]
    syntaxes = {str(h.file_meta.TransferSyntaxUID) for h in headers}
    assert {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50",
            "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"} <= syntaxes  # fmt: skip
    assert {h.BitsStored for h in headers} == {8, 10, 12, 16}
    assert {h.PhotometricInterpretation for h in headers} == {"MONOCHROME1", "MONOCHROME2"}
    assert {h.Modality for h in headers} == {"CR", "DX"}
    assert {e["preamble"] for e in entries} == {"full", "missing", "bare"}
    assert {e["view"] for e in entries} == {"AP", "PA", "LATERAL"}
    assert all(Path(e["path"]).suffix == "" for e in entries)


def test_every_planted_value_is_in_the_bytes_of_its_file(practice):
    for entry in practice.key["instances"].values():
        raw = (practice.root / entry["path"]).read_bytes()
        assert len(entry["planted"]) > 20
        for planted in entry["planted"]:
            codings = {planted["value"].encode(), planted["value"].encode("latin-1", "ignore")}
            assert any(value in raw for value in codings), planted["where"]


def test_identities_are_marked_as_practice(practice):
    for entry in practice.key["instances"].values():
        ds = read(practice.root / entry["path"], entry)
        assert ds.IssuerOfPatientID == "PRACTICE"
        assert all(
            str(uid).startswith("2.25.") for uid in (ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID)
        )
        phones = [p["value"] for p in entry["planted"] if p["kind"] == "PHONE"]
        assert phones and all(re.fullmatch(r"\d{3}-555-01\d\d", phone) for phone in phones)


def test_report_spans_hold_the_planted_text_and_cover_the_patient(practice):
    for report in practice.key["reports"].values():
        text = report["text"]
        assert all(text[s["start"] : s["end"]] == s["text"] for s in report["spans"])
        kinds = Counter(s["type"] for s in report["spans"])
        assert kinds["NAME"] >= 2 and kinds["ID"] == 1 and kinds["DATE"] >= 2
        # No record number or phone may stand in the text without a span.
        outside = "".join(text[a:b] for a, b in gaps(report["spans"], len(text)))
        assert not re.search(r"\d{8}|555-01", outside)


def gaps(spans: list[dict], length: int) -> list[tuple[int, int]]:
    ends = [0, *(s["end"] for s in spans)]
    return list(zip(ends, [*(s["start"] for s in spans), length], strict=True))


def test_reports_come_as_csv_and_hl7_with_the_key_s_text(practice):
    with (practice.root / "reports.csv").open(encoding="utf-8", newline="") as f:
        rows = {row["accession"]: row["text"] for row in csv.DictReader(f)}
    messages = {path.stem: path.read_bytes().decode() for path in (practice.root / "hl7").iterdir()}
    assert not rows.keys() & messages.keys()
    assert rows.keys() | messages.keys() == practice.key["reports"].keys()
    for accession, text in rows.items():
        assert text == practice.key["reports"][accession]["text"]
    for accession, message in messages.items():
        segments = message.rstrip("\r").split("\r")
        assert [s[:3] for s in segments] == ["MSH", "PID", "OBR", "OBX"]
        assert segments[2].split("|")[3] == accession
        body = segments[3].split("|")[5]
        for escaped, plain in (("\\.br\\", "\n"), ("\\T\\", "&"), ("\\S\\", "^"), ("\\F\\", "|"), ("\\E\\", "\\")):
            body = body.replace(escaped, plain)
        assert body == practice.key["reports"][accession]["text"]


def test_reports_agree_with_labels_devices_and_sides(practice):
    words = {"Cardiomegaly": r"enlarged|cardiomegaly", "Effusion": "effusion", "Consolidation": "consolidation",
             "Pneumothorax": "pneumothorax", "Nodule": "nodul", "Edema": "edema"}  # fmt: skip
    for accession, study in practice.key["studies"].items():
        text = practice.key["reports"][accession]["text"]
        impression = text.split("IMPRESSION: ")[1].split("\n")[0].lower()
        for label, pattern in words.items():
            assert bool(re.search(pattern, impression)) == (label in study["labels"]), (label, impression)
        for finding in study["findings"]:
            if finding["side"] in ("left", "right") and finding["label"] == "Effusion":
                assert f"{finding['side']} pleural effusion" in impression
        for structure, name in (("ett", "endotracheal tube"), ("swan-ganz", "Swan-Ganz")):
            findings = text.split("FINDINGS: ")[1].split("\n")[0]
            said = re.search(rf"{name}(?! (has been|is no|was removed))", findings)
            assert bool(said) == study["lines"][structure]["present"]


def test_labels_table_matches_the_key(practice):
    with (practice.root / "labels.csv").open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert list(rows[0]) == [
        "accession",
        "labels",
        "ett",
        "sex",
        "age",
        "view",
        "ngt",
        "cvc",
        "swan_ganz",
        "chest_tube",
    ]
    for row in rows:
        study = practice.key["studies"][row["accession"]]
        assert row["labels"].split("|") == study["labels"] and row["view"] == study["view"]
        for structure in ("ett", "ngt", "cvc", "swan-ganz", "chest-tube"):
            value = row[structure.replace("-", "_")]
            assert value == "U" or (value == "Y") == study["lines"][structure]["present"]


def test_disorder_is_complete_even_in_a_small_export(practice):
    key, root = practice.key, practice.root
    sizes = {Path(p).suffix or ("empty" if not (root / p).stat().st_size else "truncated") for p in key["broken"]}
    assert sizes == {".TXT", ".PDF", "empty", "truncated"}
    originals = {(root / e["path"]).read_bytes() for e in key["instances"].values()}
    assert all((root / p).read_bytes() in originals for p in key["duplicates"]) and key["duplicates"]
    first, second = key["conflicts"][:2]
    one, two = dcmread(root / first), dcmread(root / second)
    assert one.SOPInstanceUID == two.SOPInstanceUID
    assert (root / first).read_bytes() != (root / second).read_bytes()
    listed = {e["path"] for e in key["instances"].values()} | {*key["broken"], *key["duplicates"], *key["conflicts"]}
    assert {p.relative_to(root).as_posix() for p in (root / "DICOM").rglob("*") if p.is_file()} == listed
    assert practice.result["burned_in"] >= 1


def test_folders_carry_patient_names_and_patients_have_several_studies(practice):
    plan = make_plan(20, 5)
    assert max(Counter(s.patient for s in plan.studies).values()) > 1
    person = plan.patients[0].person
    assert (practice.root / "DICOM" / f"{person.last}_{person.first}".upper()).is_dir()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    outs = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(Spec(out=tmp_path / name, studies=2, seed=seed, side=256), RunFolder(tmp_path / f"run-{name}"))
        outs.append(digests(tmp_path / name))
    assert outs[0] == outs[1]
    assert (tmp_path / "a.key.json").read_bytes() == (tmp_path / "b.key.json").read_bytes()
    assert not set(outs[0].values()) & {v for k, v in outs[2].items() if k.endswith(("IM0001", ".csv", ".hl7"))}


def test_a_study_made_alone_has_the_bytes_it_has_in_an_export_made_by_two_processes(practice, tmp_path):
    plan = make_plan(20, 5)
    study = next(s for s in plan.studies if s.prior >= 0)
    (tmp_path / ".truth").mkdir()
    task = Task(study, plan.studies[study.prior], plan.patients[study.patient], tmp_path, 5, 320)
    perform(task)
    made = {path: digest for path, digest in digests(tmp_path).items() if not path.startswith(".truth")}
    whole = digests(practice.root)
    assert any(path.endswith("IM0001") for path in made)
    assert all(whole[path] == digest for path, digest in made.items())


def test_a_stopped_run_shows_nothing_and_goes_on_to_the_same_bytes(tmp_path):
    spec = Spec(out=tmp_path / "whole", studies=2, seed=3, side=256)
    run(spec, RunFolder(tmp_path / "run-whole"))
    halted = RunFolder(tmp_path / "run-halted")
    halted.stopping = True
    other = spec.model_copy(update={"out": tmp_path / "halted"})
    with pytest.raises(Stopped):
        run(other, halted)
    assert not other.out.exists() and not Path(f"{other.out}.key.json").exists()
    # One study was finished before the kill; its files are kept, not made again.
    plan, staging = make_plan(2, 3), tmp_path / ".halted.part"
    perform(Task(plan.studies[0], None, plan.patients[0], staging, 3, 256))
    stamp = truth_path(staging, 0).stat().st_mtime_ns
    halted.stopping = False
    run(other, halted)
    assert digests(other.out) == digests(spec.out) and not staging.exists()
    assert stamp  # the truth file itself is gone with the staging folder


def test_an_existing_folder_is_refused_but_a_finished_run_is_not_an_error(tmp_path):
    spec = Spec(out=tmp_path / "export", studies=1, side=256)
    first = run(spec, RunFolder(tmp_path / "run"))
    assert run(spec, RunFolder(tmp_path / "run")) == first
    with pytest.raises(BadInput, match="exists already"):
        run(spec, RunFolder(tmp_path / "another-run"))


def test_one_study_is_enough_for_all_kinds_of_disorder(tmp_path):
    run(Spec(out=tmp_path / "one", studies=1, side=256), RunFolder(tmp_path / "run"))
    key = json.loads((tmp_path / "one.key.json").read_text(encoding="utf-8"))
    assert len(key["broken"]) == 4 and key["duplicates"] and len(key["conflicts"]) == 2
    assert sum(bool(e["burned_in"]) for e in key["instances"].values()) == 1
