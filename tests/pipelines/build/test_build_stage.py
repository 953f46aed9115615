"""`build`: what enters a cohort, what is refused, and that neither workers, order nor a kill change its bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pipelines.cohort import Cohort
from pipelines.contract import Outcome, read_json, run_stage
from pipelines.keys import DerivationSecret
from tests.pipelines.build.folders import SECRET, Deid, add_seg, public_key, release

FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"


def spec(*folders: Path, **settings: Any) -> dict[str, Any]:
    key = public_key(folders[0].parent)
    return {"deid": [str(f) for f in folders], "release_key": str(key), "side": 40, "workers": 1} | settings


def build(out: Path, *folders: Path, **settings: Any) -> Cohort:
    assert run_stage("build", spec(*folders, **settings), out) is Outcome.DONE
    return Cohort.open(out)


def refusal(out: Path, *folders: Path, **settings: Any) -> str:
    assert run_stage("build", spec(*folders, **settings), out) is Outcome.BAD_INPUT
    assert not (out / "result.json").exists()
    return read_json(out / "outcome.json")["message"]


def plain(folder: Path, patients: range, secret: DerivationSecret = SECRET, name: str = "") -> Deid:
    """Two studies of one image each for every patient, with report, label and mask."""
    deid = Deid(folder, secret)
    for p in patients:
        for s in (f"{name}{p}a", f"{name}{p}b"):
            deid.image(f"p{p}", s, f"{s} image")
            deid.report(f"p{p}", s, f"FINDINGS: Study {s}.\nIMPRESSION: Clear.")
            deid.label(f"p{p}", s, "Edema", p % 2)
            deid.mask(f"p{p}", s, np.tri(80, 100, dtype=np.uint8) * 255, [0, 0, 99, 79])
    return deid


def flow(out: Path) -> dict[str, int]:
    return {row["step"].split(" ")[0]: row["images"] for row in json.loads((out / "flow.json").read_text())}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a cohort but those that tell time, paths or the number of workers."""
    untold = {"events.jsonl", "spec.json", "outcome.json"}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in untold
    }


def test_everything_of_a_study_is_joined(tmp_path: Path) -> None:
    cohort = build(tmp_path / "c", plain(tmp_path / "deid", range(6)).write())
    assert len(cohort) == 12
    row = cohort.index.to_pylist()[3]
    assert (row["rows"], row["columns"], row["source_rows"], row["source_columns"]) == (40, 50, 80, 100)
    assert (row["view"], row["sex"], row["age"], row["date"]) == ("PA", "F", 45, "2011-02-03")
    assert (row["spacing_row"], row["spacing_column"]) == (0.2, 0.3)
    assert row["split"] == SECRET.split(row["patient"])
    assert cohort.text(3).endswith("\nClear.")
    orders = cohort.index["order"].to_pylist()
    assert orders == sorted(orders)
    counts = cohort.result["counts"]
    assert (counts["reports"], counts["labelled"], counts["masks"], counts["patients"]) == (12, 12, 12, 6)
    assert set(cohort.result["flow"][0]) == {"step", "images", "studies", "patients", "reports"}


def test_the_stored_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    """A picture of flat quarters survives area averaging exactly, at its place and not transposed."""
    deid = Deid(tmp_path / "deid")
    pixels = np.zeros((80, 120), np.uint8)
    pixels[:40, :60], pixels[:40, 60:], pixels[40:, :60] = 10, 90, 200
    deid.image("p", "s", "i", pixels)
    image = build(tmp_path / "c", deid.write()).image(0)
    assert image.shape == (40, 60)
    assert (image[5, 5], image[5, 55], image[35, 5], image[35, 55]) == (10, 90, 200, 0)


def test_masks_and_polylines_go_to_the_geometry_of_the_store(tmp_path: Path) -> None:
    deid = Deid(tmp_path / "deid")
    pixels = np.zeros((80, 120), np.uint8)
    pixels[20:40, 30:60] = 255
    deid.image("p", "s", "i", pixels)
    # Corners of the patch as pixel centres: the mask and the polyline must still agree with the picture.
    deid.mask("p", "s", pixels, [30, 20, 59, 39])
    cohort = build(tmp_path / "c", deid.write())
    mask = cohort.masks.to_pylist()[0]
    drawn = cv2.imread(str(cohort.folder / mask["path"]), cv2.IMREAD_UNCHANGED)
    assert drawn.shape == cohort.image(0).shape
    assert np.array_equal(drawn > 0, cohort.image(0) > 127)
    # Pixel centres 30..59 and 20..39 of the source lie a quarter pixel outside of 15..29 and 10..19 of the store.
    assert mask["points"] == [14.75, 9.75, 29.25, 19.25]


def test_a_resized_mask_stays_a_mask(tmp_path: Path) -> None:
    deid = Deid(tmp_path / "deid")
    deid.image("p", "s", "i", np.zeros((83, 121), np.uint8))
    deid.mask("p", "s", np.tri(83, 121, dtype=np.uint8) * 255)
    cohort = build(tmp_path / "c", deid.write())
    drawn = cv2.imread(str(cohort.folder / cohort.masks["path"][0].as_py()), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(drawn)) == {0, 255}


def test_polylines_without_a_mask_are_joined_too(tmp_path: Path) -> None:
    deid = Deid(tmp_path / "deid")
    deid.image("p", "s", "a")
    nan = float("nan")
    row = {"structure": "cvc", "points": [10, 10, 90, 70, nan, nan, 20, 20, 30, 30], "position": "abnormal"}
    deid.masks.append(deid.keys("p", "s") | row)
    mask = build(tmp_path, deid.write(), side=40).masks.to_pylist()[0]
    assert (mask["structure"], mask["path"], mask["position"]) == ("cvc", None, "abnormal")
    assert mask["points"][:4] == [4.75, 4.75, 44.75, 34.75] and np.isnan(mask["points"][4:6]).all()


def test_segments_go_to_the_image_they_refer_to(tmp_path: Path) -> None:
    deid = Deid(tmp_path / "deid")
    deid.image("p", "s", "a", SeriesInstanceUID="2.25.77")
    second = deid.image("p", "s", "b", SeriesInstanceUID="2.25.77")
    left, right = np.zeros((2, 80, 100), bool)
    left[20:60, 10:40] = right[20:60, 60:90] = True
    add_seg(deid, second, [("left_lung", "Lung", left), ("right_lung", "Lung", right), ("ett", "ETT", left & right)])
    add_seg(deid, second, [("spleen", "Nothing known", left)])
    cohort = build(tmp_path, deid.write(), side=40)
    masks = {mask["structure"]: mask for mask in cohort.masks.to_pylist()}
    assert masks.keys() == {"lung", "ett"} and cohort.result["counts"]["masks_left_out"]["unknown"] == 1
    assert cohort.index["instance"][masks["lung"]["image"]].as_py() == str(second.SOPInstanceUID)
    drawn = cv2.imread(str(cohort.folder / masks["lung"]["path"]), cv2.IMREAD_UNCHANGED) > 0
    assert drawn.shape == (40, 50) and drawn.sum() == 2 * 20 * 15 and drawn[10:30, 5:20].all()
    empty = cv2.imread(str(cohort.folder / masks["ett"]["path"]), cv2.IMREAD_UNCHANGED)
    assert empty.shape == (40, 50) and not empty.any()


def test_a_mask_of_another_size_or_without_a_frontal_image_is_counted_out(tmp_path: Path) -> None:
    deid = Deid(tmp_path / "deid")
    deid.image("p", "small", "a")
    deid.mask("p", "small", np.ones((79, 100), np.uint8))
    deid.image("p", "side", "b", ViewPosition="LL")
    deid.mask("p", "side", np.ones((80, 100), np.uint8))
    cohort = build(tmp_path / "c", deid.write())
    assert len(cohort.masks) == 0
    assert cohort.result["counts"]["masks_left_out"] == {"no_frontal": 1, "size": 1, "unknown": 0}


def test_each_rule_excludes_what_it_says_and_is_counted(tmp_path: Path) -> None:
    deid = Deid(tmp_path / "deid")
    deid.image("p", "s1", "good")
    deid.image("p", "s2", "hand", BodyPartExamined="HAND")
    deid.image("p", "s3", "ct", Modality="CT")
    deid.image("p", "s4", "colour", PhotometricInterpretation="RGB")
    deid.image("p", "s5", "film", NumberOfFrames=3)
    deid.image("p", "s6", "oblique", ViewPosition="LAO")
    deid.image("p", "s7", "raw twin", SOPClassUID=FOR_PROCESSING)
    deid.image("p", "s7", "shown twin")
    deid.image("p", "s8", "raw alone", SOPClassUID=FOR_PROCESSING)
    deid.image("p", "s9", "original", IrradiationEventUID="1.2.3", ImageType=["ORIGINAL", "PRIMARY"], InstanceNumber=7)
    deid.image("p", "s9", "copy", IrradiationEventUID="1.2.3", ImageType=["DERIVED", "PRIMARY"], InstanceNumber=1)
    deid.image("p", "s10", "child", PatientAge="017Y")
    deid.image("p", "s11", "baby", PatientAge="200M")
    deid.image("p", "s12", "ageless", PatientAge=None)
    deid.image("p", "s13", "broken", PixelData=b"\0" * 10)
    folder = deid.write()
    cohort = build(tmp_path / "c", folder)
    steps = [row["images"] for row in cohort.result["flow"]]
    # de-identified, once, chest CR/DX, grey, view, processing, copies, age, decoded
    assert steps == [15, 15, 13, 11, 10, 9, 8, 6, 5]
    kept = {SECRET.uid(name) for name in ("good", "shown twin", "raw alone", "original", "ageless")}
    assert set(cohort.index["instance"].to_pylist()) == kept
    assert cohort.result["counts"]["age_unknown"] == 1
    assert sum(cohort.result["counts"]["undecodable"].values()) == 1


def test_only_the_wanted_views_enter(tmp_path: Path) -> None:
    deid = Deid(tmp_path / "deid")
    for view in ("PA", "AP", "LL", None):
        deid.image("p", f"s{view}", f"i{view}", ViewPosition=view)
    cohort = build(tmp_path / "c", deid.write(), views=["AP", "LATERAL"])
    assert sorted(cohort.index["view"].to_pylist()) == ["AP", "LATERAL"]


def test_sources_that_disagree_on_a_label_make_it_uncertain(tmp_path: Path) -> None:
    deid = Deid(tmp_path / "deid")
    deid.image("p", "s", "i")
    for label, value, source in (("Edema", 1, "a"), ("Edema", 0, "b"), ("Mass", 1, "a"), ("Mass", 1, "b")):
        deid.label("p", "s", label, value, source)
    cohort = build(tmp_path / "c", deid.write())
    assert cohort.labels.select(["label", "value"]).to_pylist() == [
        {"label": "Edema", "value": -1},
        {"label": "Mass", "value": 1},
    ]
    assert cohort.result["counts"]["labels_disagreed"] == 1


def test_a_second_export_moves_nobody_and_grows_the_train_prefix(tmp_path: Path) -> None:
    first = plain(tmp_path / "one", range(20)).write()
    second = plain(tmp_path / "two", range(10, 40), name="later").write()
    before, after = build(tmp_path / "a", first), build(tmp_path / "b", first, second)

    def splits(cohort: Cohort) -> dict[str, str]:
        columns = cohort.index.select(["patient", "split"]).to_pydict()
        return dict(zip(columns["patient"], columns["split"], strict=True))

    assert splits(before).items() <= splits(after).items()
    assert len(after) == 100
    train = before.subset(None).patients
    assert [p for p in after.subset(None).patients if p in set(train)] == train


def test_images_in_two_exports_count_once(tmp_path: Path) -> None:
    first = plain(tmp_path / "one", range(4)).write()
    second = plain(tmp_path / "two", range(2, 6)).write()
    cohort = build(tmp_path / "c", first, second)
    assert len(cohort) == 12
    assert [row["images"] for row in cohort.result["flow"]][:2] == [16, 12]
    assert len(cohort.texts) == 12 and len(cohort.labels) == 12 and len(cohort.masks) == 12


def test_neither_workers_nor_the_order_of_folders_change_a_byte(tmp_path: Path) -> None:
    folders = [plain(tmp_path / f"d{i}", range(40 * i, 40 * (i + 1))).write() for i in range(2)]
    build(tmp_path / "one", *folders)
    build(tmp_path / "two", *reversed(folders), workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_killed_build_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    folder = plain(tmp_path / "deid", range(100)).write()
    whole = build(tmp_path / "whole", folder)
    out, path = tmp_path / "killed", tmp_path / "spec.json"
    path.write_text(json.dumps(spec(folder)))
    process = subprocess.Popen([sys.executable, "-m", "pipelines", "build", path, out], start_new_session=True)
    while not list(out.glob("parts/*.json")):
        assert process.poll() is None, "the build ended before it could be killed"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "result.json").exists()
    assert build(out, folder).digest == whole.digest
    assert tree(out) == tree(tmp_path / "whole")


def test_a_full_disk_ends_in_one_sentence_and_the_build_goes_on_later(tmp_path: Path) -> None:
    folder = plain(tmp_path / "deid", range(40)).write()
    out, path = tmp_path / "c", tmp_path / "spec.json"
    path.write_text(json.dumps(spec(folder, workers=2)))
    command = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
    command += "from pipelines.contract import main; sys.exit(main(sys.argv[1:]))"
    # Python itself takes a cut-off bytecode file for a whole one, so it may write none under this limit.
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run([sys.executable, "-c", command, "build", path, out], capture_output=True, text=True, env=env)
    assert "No space is left" in ended.stderr and "Traceback" not in ended.stderr
    assert read_json(out / "outcome.json")["outcome"] == Outcome.RETRY
    assert not (out / "result.json").exists()
    assert not [p for p in out.rglob("*") if p.suffix == ".part"]
    assert len(build(out, folder, workers=2)) == 80


def test_a_build_killed_after_its_parts_were_removed_goes_on(tmp_path: Path) -> None:
    folder = plain(tmp_path / "deid", range(3)).write()
    whole = build(tmp_path / "c", folder)
    (tmp_path / "c" / "result.json").unlink()
    assert build(tmp_path / "c", folder).digest == whole.digest


def test_an_unreleased_or_sent_back_folder_is_refused(tmp_path: Path) -> None:
    folder = plain(tmp_path / "deid", range(2)).write(released=False)
    assert "not released" in refusal(tmp_path / "c1", folder)
    assert "sent back" in refusal(tmp_path / "c2", release(folder, verdict="sent back"))
    assert "not signed" in refusal(tmp_path / "c3", release(folder, signer=Ed25519PrivateKey.generate()))


def test_a_table_altered_after_the_release_is_refused(tmp_path: Path) -> None:
    deid = plain(tmp_path / "deid", range(2))
    folder = deid.write()
    signed = (folder / "release.json").read_bytes()
    deid.report("p0", "other", "a later report")
    deid.write()
    (folder / "release.json").write_bytes(signed)
    assert "changed after its release" in refusal(tmp_path / "c", folder)


@pytest.mark.parametrize("header", [{}, {"Modality": "CT"}], ids=["selected", "excluded by a rule"])
def test_an_image_altered_after_the_release_is_refused(tmp_path: Path, header: dict[str, str]) -> None:
    deid = plain(tmp_path / "deid", range(2))
    deid.image("p1", "s", "i", **header)
    folder = deid.write()
    path = folder / deid.manifest[-1]["output"]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert "changed after its release" in refusal(tmp_path / "c", folder)


def test_an_altered_or_missing_mask_is_refused(tmp_path: Path) -> None:
    folder = plain(tmp_path / "deid", range(2)).write()
    mask = next((folder / "masks").rglob("*.png"))
    mask.write_bytes(cv2.imencode(".png", np.zeros((80, 100), np.uint8))[1].tobytes())
    assert "changed after its release" in refusal(tmp_path / "c1", folder)
    mask.unlink()
    assert "changed after its release" in refusal(tmp_path / "c2", folder)


def test_a_manifest_that_points_outside_is_refused(tmp_path: Path) -> None:
    deid = plain(tmp_path / "deid", range(1))
    outside = tmp_path / "outside.dcm"
    outside.write_bytes((tmp_path / "deid" / deid.manifest[0]["output"]).read_bytes())
    deid.manifest[0]["output"] = "../outside.dcm"
    assert "outside" in refusal(tmp_path / "c", deid.write())


def test_practice_beside_real_and_mixed_epochs_are_refused(tmp_path: Path) -> None:
    real = plain(tmp_path / "real", range(2)).write()
    practice = plain(tmp_path / "practice", range(5, 7)).write(practice=True)
    assert "Practice" in refusal(tmp_path / "c1", real, practice)
    later = DerivationSecret("here", 2, bytes(31) + b"1")
    assert "epoch" in refusal(tmp_path / "c2", real, plain(tmp_path / "later", range(2), later).write())
    other = DerivationSecret("there", 1, bytes(31) + b"2")
    assert len(build(tmp_path / "c3", real, plain(tmp_path / "other", range(2), other).write()).result["sites"]) == 2


def test_one_export_twice_is_refused(tmp_path: Path) -> None:
    folder = plain(tmp_path / "one", range(2)).write()
    assert "twice" in refusal(tmp_path / "c1", folder, folder)
    again = plain(tmp_path / "two", range(2))
    again.report("p0", "0a", "another policy's text")
    assert "same images" in refusal(tmp_path / "c2", folder, again.write())


def test_a_cohort_of_nothing_is_refused_and_the_flow_says_why(tmp_path: Path) -> None:
    folder = plain(tmp_path / "deid", range(2)).write()
    assert "flow.json" in refusal(tmp_path / "c", folder, minimum_age=90)
    assert flow(tmp_path / "c")["Age"] == 0


def test_inputs_that_changed_under_a_begun_build_are_refused(tmp_path: Path) -> None:
    deid = plain(tmp_path / "deid", range(2))
    assert refusal(tmp_path / "c", deid.write(), minimum_age=90)
    deid.image("p9", "s", "i")
    assert "changed since this build was begun" in refusal(tmp_path / "c", deid.write(), minimum_age=90)
