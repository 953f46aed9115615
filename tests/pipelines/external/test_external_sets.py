"""Cohorts from labelled folders: published layouts, splits, pseudonyms, and the mark of contamination."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.cohort import Cohort
from pipelines.contract import BadInput, Outcome, run_stage
from pipelines.evaluate.leakage import check_leakage, contaminated
from pipelines.evaluate.models import Model
from pipelines.evaluate.report_words import lineage_notes
from pipelines.external.names import NIH, RANZCR, VINDR
from pipelines.external.run import choose_splits, set_secret
from pipelines.external.sets import Entry, read_set
from pipelines.keys import DerivationSecret
from tests.pipelines.build.folders import dataset
from tests.pipelines.evaluate.folders import bare_model, tiny_model

RNG = np.random.default_rng(0)
FINDINGS = ("Effusion|Infiltration", "No Finding", "Pneumothorax")


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def picture(path: Path, shape: tuple[int, int] = (80, 100)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), RNG.integers(0, 255, shape, np.uint8))


def build(folder: Path, out: Path, **values: Any) -> Cohort:
    spec = {"folder": str(folder), "side": 64, "workers": 1} | values
    assert run_stage("external", spec, out) is Outcome.DONE, (out / "outcome.json").read_text()
    return Cohort.open(out)


def fault(folder: Path, out: Path, **values: Any) -> str:
    spec = {"folder": str(folder), "side": 64, "workers": 1} | values
    assert run_stage("external", spec, out) is Outcome.BAD_INPUT
    message: str = json.loads((out / "outcome.json").read_text())["message"]
    return message


def nih(folder: Path, patients: int = 8) -> None:
    rows = []
    for patient in range(patients):
        for follow_up in range(2):
            image = f"{patient:08d}_{follow_up:03d}.png"
            rows.append(
                {
                    "Image Index": image,
                    "Finding Labels": FINDINGS[(patient + follow_up) % 3],
                    "Follow-up #": follow_up,
                    "Patient ID": patient,
                    "Patient Age": "058Y" if patient else 61,
                    "Patient Gender": "FM"[patient % 2],
                    "View Position": ("PA", "AP")[follow_up],
                }
            )
            picture(folder / f"images_00{1 + patient % 2}" / "images" / image)
    table(folder / "Data_Entry_2017.csv", rows)


def test_chestx_ray14_with_its_official_lists(tmp_path: Path) -> None:
    folder = tmp_path / "nih"
    nih(folder, 40)
    images = {split: [f"{p:08d}_{f:03d}.png" for p in range(*span) for f in (0, 1)] for split, span in
              (("train_val", (0, 30)), ("test", (30, 40)))}  # fmt: skip
    for split, members in images.items():
        (folder / f"{split}_list.txt").write_text("\n".join(members) + "\n")
    cohort = build(folder, tmp_path / "cohort")
    index = cohort.index.to_pylist()
    assert (cohort.public_set, len(index), cohort.practice) == (NIH, 80, False)
    assert {r["split"] for r in index} == {"train", "validation", "test"}
    secret = set_secret(NIH)
    test = {secret.patient("", str(p)) for p in range(30, 40)}
    assert {r["patient"] for r in index if r["split"] == "test"} == test
    assert {(r["age"], r["sex"]) for r in index} == {(58, "F"), (58, "M"), (61, "F")}
    names = cohort.label_names()
    assert names == ["Infiltration", "Pleural Effusion", "Pneumothorax"]
    by_accession = dict(zip(cohort.index["accession"].to_pylist(), cohort.label_matrix(names).tolist(), strict=True))
    assert by_accession[secret.accession("00000000_000.png")] == [1, 1, 0]
    assert by_accession[secret.accession("00000000_001.png")] == [0, 0, 0]
    assert cohort.image(0).shape == (64, 80)


def test_without_lists_every_patient_is_test_and_divide_draws_by_patient(tmp_path: Path) -> None:
    nih(tmp_path / "nih", 40)
    assert set(build(tmp_path / "nih", tmp_path / "a").index["split"].to_pylist()) == {"test"}
    drawn = build(tmp_path / "nih", tmp_path / "b", split="divide").index
    assert set(drawn["split"].to_pylist()) == {"train", "validation", "test"}
    pairs = set(zip(drawn["patient"].to_pylist(), drawn["split"].to_pylist(), strict=True))
    assert len(pairs) == 40


def test_ranzcr_clip_with_positions_and_polylines(tmp_path: Path) -> None:
    folder = tmp_path / "ranzcr"
    columns = ["ETT - Abnormal", "ETT - Borderline", "ETT - Normal", "NGT - Abnormal", "NGT - Borderline",
               "NGT - Incompletely Imaged", "NGT - Normal", "CVC - Abnormal", "CVC - Borderline", "CVC - Normal",
               "Swan Ganz Catheter Present"]  # fmt: skip
    rows = [{"StudyInstanceUID": f"1.2.{i}", **dict.fromkeys(columns, 0), "PatientID": f"p{i // 2}"} for i in range(4)]
    rows[0] |= {"ETT - Normal": 1, "CVC - Normal": 1, "CVC - Abnormal": 1}
    rows[1] |= {"Swan Ganz Catheter Present": 1, "NGT - Incompletely Imaged": 1}
    table(folder / "train.csv", rows)
    for row in rows:
        picture(folder / "train" / f"{row['StudyInstanceUID']}.jpg", (128, 256))
    lines = {
        "ETT - Normal": [[10, 20], [10, 60]],
        "CVC - Normal": [[0, 0], [4, 4]],
        "CVC - Abnormal": [[8, 8], [9, 9]],
    }
    marks = [{"StudyInstanceUID": "1.2.0", "label": label, "data": points} for label, points in lines.items()]
    table(folder / "train_annotations.csv", marks)
    cohort = build(folder, tmp_path / "cohort")
    assert cohort.public_set == RANZCR and cohort.label_names() == ["CVC", "ETT", "NGT", "Swan-Ganz"]
    secret = set_secret(RANZCR)
    labels = {(r["accession"], r["label"]): r for r in cohort.labels.to_pylist()}
    first, second = secret.accession("1.2.0"), secret.accession("1.2.1")
    assert [labels[first, name]["value"] for name in cohort.label_names()] == [1, 1, 0, 0]
    assert [labels[second, name]["value"] for name in cohort.label_names()] == [0, 0, 1, 1]
    assert (labels[first, "CVC"]["position"], labels[first, "ETT"]["position"]) == ("abnormal", "normal")
    masks = {m["structure"]: m["points"] for m in cohort.masks.to_pylist()}
    np.testing.assert_allclose(masks["ett"], [4.75, 9.75, 4.75, 29.75])
    assert len(masks["cvc"]) == 10 and np.isnan(masks["cvc"][4:6]).all()


def test_vindr_cxr_takes_the_readers_majority_from_dicom(tmp_path: Path) -> None:
    folder = tmp_path / "vindr"
    marks = {"a": (1, 1, 0), "b": (0, 0, 1)}
    rows = [
        {"image_id": image, "rad_id": f"R{i}", "Pleural effusion": mark, "Cardiomegaly": 0, "No finding": 1 - mark}
        for image, values in marks.items()
        for i, mark in enumerate(values)
    ]
    table(folder / "annotations" / "image_labels_train.csv", rows)
    test = [{"image_id": "c", "Pleural effusion": 1, "Cardiomegaly": 1, "No finding": 0}]
    table(folder / "annotations" / "image_labels_test.csv", test)
    for image, split in (("a", "train"), ("b", "train"), ("c", "test")):
        ds = dataset(RNG.integers(0, 4096, (80, 90)).astype(np.uint16), SOPInstanceUID="1.2.3", StudyInstanceUID="1.2")
        (folder / split).mkdir(exist_ok=True)
        ds.save_as(folder / split / f"{image}.dicom", enforce_file_format=True)
    cohort = build(folder, tmp_path / "cohort")
    secret = set_secret(VINDR)
    value = {(r["accession"], r["label"]): r["value"] for r in cohort.labels.to_pylist()}
    assert [value[secret.accession(i), "Pleural Effusion"] for i in "abc"] == [1, 0, 1]
    splits = dict(zip(cohort.index["accession"].to_pylist(), cohort.index["split"].to_pylist(), strict=True))
    assert splits[secret.accession("c")] == "test" and splits[secret.accession("a")] in ("train", "validation")
    assert set(cohort.index["spacing_row"].to_pylist()) == {0.2}


def test_candid_ptx_with_its_reports(tmp_path: Path) -> None:
    folder = tmp_path / "candid"
    table(
        folder / "Pneumothorax_reports.csv",
        [
            {"SOPInstanceUID": "1.2.1", "EncodedPixels": "-1", "Report": "Findings: Clear.", "filename": "P7_a"},
            {"SOPInstanceUID": "1.2.2", "EncodedPixels": "5 3", "Report": "Pneumothorax.", "filename": "P7_b"},
        ],
    )
    table(folder / "chest_tube.csv", [{"anon_SOPUID": "1.2.2", "mask_rle": "1 2"}])
    for image in ("1.2.1", "1.2.2"):
        ds = dataset(RNG.integers(0, 256, (80, 90), np.uint8), SOPInstanceUID=image, StudyInstanceUID="1.2")
        (folder / "dataset").mkdir(exist_ok=True)
        ds.save_as(folder / "dataset" / image, enforce_file_format=True)
    cohort = build(folder, tmp_path / "cohort")
    assert cohort.label_names() == ["Chest tube", "Pneumothorax"] and len(set(cohort.index["patient"].to_pylist())) == 1
    assert sorted(cohort.labels["value"].to_pylist()) == [0, 0, 1, 1]
    assert sorted(cohort.texts["findings"].to_pylist()) == ["Clear.", "Pneumothorax."]


def test_a_plain_table_and_what_is_wrong_with_one(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    rows = [
        {"image": f"x/{i}.png", "patient": f"p{i}", "split": split, "view": "PA", "effusion": value}
        for i, (split, value) in enumerate((("train", 1), ("validation", 0), ("test", -1), ("test", "")))
    ]
    table(folder / "labels.csv", rows)
    for row in rows[:3]:
        picture(folder / str(row["image"]))
    assert "Give the set a name" in fault(folder, tmp_path / "0")
    cohort = build(folder, tmp_path / "c", name="Our neighbours")
    assert cohort.public_set == "Our neighbours" and len(cohort) == 3
    assert sorted(cohort.labels["value"].to_pylist()) == [-1, 0, 1] and cohort.label_names() == ["Pleural Effusion"]
    steps = [(s["step"], s["images"]) for s in cohort.result["flow"]]
    assert steps == [("Images in the set's tables", 4), ("In the folder", 3), ("Pixels decoded", 3)]
    wrong = {
        "values other than 1, 0": [rows[0] | {"effusion": "maybe"}],
        "more than once": [rows[0], rows[0]],
        "needs the columns": [{"image": "x/0.png", "who": "p"}],
        "split that is none": [rows[0] | {"split": "dev"}],
        "stand in more than one of its splits": [rows[0], rows[1] | {"patient": "p0"}],
        "No image that the table names": [rows[3]],
    }
    for i, (words, content) in enumerate(wrong.items()):
        table(folder / "labels.csv", content)
        assert words in fault(folder, tmp_path / f"w{i}", name="n"), words


def test_a_name_cannot_reach_out_of_the_folder(tmp_path: Path) -> None:
    picture(tmp_path / "outside.png")
    table(tmp_path / "set" / "labels.csv", [{"image": "../outside.png", "patient": "p"}])
    assert read_set(tmp_path / "set", "auto", "n")[1][0].path is None


def test_patients_of_a_set_never_meet_those_of_a_site() -> None:
    site = DerivationSecret("here", 1, bytes(32))
    names = [str(i) for i in range(1000)]
    other = DerivationSecret(f"public set {NIH}", 1, bytes(32))
    pseudonyms = [{s.patient("", n) for n in names} for s in (site, set_secret(NIH), set_secret(VINDR), other)]
    assert len(set.union(*pseudonyms)) == 4000


def test_a_patient_is_never_divided() -> None:
    entries = [Entry(f"{p}-{i}", None, f"p{p}", {}) for p in range(300) for i in range(3)]
    splits = choose_splits(entries, "divide", set_secret("s"))
    shares = [sum(s == split for s in splits.values()) / 900 for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.08)
    torn = [Entry("a", None, "p", {}, "train"), Entry("b", None, "p", {}, "test")]
    with pytest.raises(BadInput, match="more than one of its splits"):
        choose_splits(torn, "published", set_secret("s"))


def test_a_model_that_saw_the_set_is_marked_and_one_that_trained_on_its_test_patients_refused(tmp_path: Path) -> None:
    nih(tmp_path / "nih")
    cohort = build(tmp_path / "nih", tmp_path / "cohort")
    saw = Model.open(bare_model(tmp_path / "saw", "Saw", kind="open-weight", seen=("MIMIC-CXR", NIH)))
    clean = Model.open(bare_model(tmp_path / "clean", "Clean", kind="open-weight", seen=("MIMIC-CXR",)))
    derived = Model.open(bare_model(tmp_path / "derived", "Derived", kind="open-weight", seen=(RANZCR,)))
    assert [contaminated(cohort, m) for m in (saw, clean, derived)] == [[NIH], [], [RANZCR]]
    check_leakage(cohort, [saw, clean, derived])  # marked, not refused: nobody says which of its images were seen
    patients = set(cohort.index["patient"].to_pylist()[:1])
    trained = Model.open(bare_model(tmp_path / "t", "Trained", patients=patients))
    with pytest.raises(BadInput, match="1 test patients of this cohort were pretrained on by model Trained"):
        check_leakage(cohort, [saw, trained])


def test_an_evaluation_on_a_set_says_who_saw_it(tmp_path: Path) -> None:
    nih(tmp_path / "nih", 30)
    build(tmp_path / "nih", tmp_path / "cohort", split="divide")
    model = tiny_model(tmp_path / "m", "Ours", "run", 1, practice=False, seen=(NIH,))
    baseline = tiny_model(tmp_path / "b", "Theirs", "open-weight", 2, practice=False)
    values = {
        "cohort": str(tmp_path / "cohort"),
        "models": [str(model)],
        "baselines": [str(baseline)],
        "tasks": ["findings"],
        "seeds": [0],
        "resamples": 100,
        "minimum_positives": 1,
        "device": "cpu",
    }
    assert run_stage("evaluate", values, tmp_path / "e") is Outcome.DONE
    result = json.loads((tmp_path / "e" / "result.json").read_text())
    assert result["cohort"]["public_set"] == NIH
    (deviation,) = result["deviations"].values()  # of the baseline only
    assert deviation["images"] == 8 and 0.5 < deviation["cosine"] < 1 and deviation["max"] > 0
    assert "The store departs from Theirs's" in (tmp_path / "e" / "report.html").read_text().replace("&#39;", "'")
    assert {m["name"]: m["contaminated"] for m in result["models"]} == {"Ours": [NIH], "Theirs": []}
    assert lineage_notes(result["models"])[0].startswith("Contaminated: Ours was pretrained on NIH ChestX-ray14")
    assert "Contaminated: Ours" in (tmp_path / "e" / "report.html").read_text()


@pytest.mark.shared
def test_real_images_of_chestx_ray14_as_a_plain_table(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "nih_cxr14"
    folder = tmp_path / "nih"
    with (source / "labels.csv").open(newline="") as f:
        rows = [row for row in csv.DictReader(f) if int(row["patient_id"]) < 1500]
    table(folder / "labels.csv", rows)
    for row in rows:
        (folder / row["image"]).symlink_to(source / "images" / row["image"])
    cohort = build(folder, tmp_path / "cohort", name=NIH, split="divide")
    assert 0 < len(cohort) == len(rows)
    present = cohort.label_matrix(["Pneumonia"])[:, 0]
    assert int((present == 1).sum()) == sum("Pneumonia" in r["findings"].split("|") for r in rows)
