"""`score` against a clean output, and against the same output with one fault put back: each must be found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipelines.contract import Outcome, run_stage
from tests.pipelines.score.world import BURNED_IN, PEOPLE, World


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("score"))


@pytest.fixture
def world(clean: World, tmp_path: Path) -> World:
    """A copy of the clean world to put a fault into."""
    copy = World.__new__(World)
    copy.__dict__ |= clean.__dict__ | {
        "root": tmp_path,
        "deid": tmp_path / "deid",
        "manifest": [dict(row) for row in clean.manifest],
        "reports": [dict(row) for row in clean.reports],
    }
    shutil.copytree(clean.deid, copy.deid)
    return copy


def judge(world: World, out: Path) -> dict[str, Any]:
    assert run_stage("score", world.spec(), out) is Outcome.DONE
    return json.loads((out / "result.json").read_text())


def test_a_clean_output_has_no_leak_and_loses_nothing(clean: World, tmp_path: Path) -> None:
    result = judge(clean, tmp_path / "run")
    assert result["leaks"] == 0
    assert result["losses"] == {}
    assert result["instances"] == 4
    assert result["reports"] == {"passed": 4, "total": 4}
    assert (result["boxes"], result["readable_boxes_before"], result["readable_boxes"]) == (2, 2, 0)
    for name in ("broken", "duplicates", "conflicts", "files", "intact"):
        assert result[name]["passed"] == result[name]["total"] > 0
    for action, count in result["checks"].items():
        assert count["passed"] == count["total"] > 0, action
    # "heart" is a name and a word of the report: it stays, and is shown to a person.
    assert set(result["review"]) == {"NAME"}


def test_the_report_of_score_holds_no_planted_value(world: World, tmp_path: Path) -> None:
    _set_header(world, "PatientName", "Castellanos^Beatriz", n=3)
    _report_text(world, 0, "MRN 50211877 312-555-0147")
    judge(world, tmp_path / "run")
    written = b"".join(path.read_bytes().lower() for path in (tmp_path / "run").rglob("*") if path.is_file())
    findings = pq.read_table(tmp_path / "run" / "findings.parquet").to_pylist()
    written += json.dumps(findings, ensure_ascii=False).lower().encode()
    assert findings
    for person in PEOPLE:
        for value in (person.last, person.mrn, person.phone):
            assert value.lower().encode() not in written


def stop(event: dict[str, Any]) -> None:
    """Interrupts a run at its first progress."""
    if event["kind"] == "progress":
        raise KeyboardInterrupt


def _set_header(world: World, keyword: str, value: Any, n: int = 2) -> None:
    ds = world.edit(n)
    setattr(ds, keyword, value)
    world.save(n, ds)


def _name_in_header(world: World) -> None:
    _set_header(world, "PatientName", "Heart^Will")


def _single_name_part_in_a_description(world: World) -> None:
    _set_header(world, "StudyDescription", "CHEST HEART ICU")


def _decomposed_accents(world: World) -> None:
    _set_header(world, "SpecificCharacterSet", "ISO_IR 192", n=0)
    _set_header(world, "SeriesDescription", "for S\u030cimu\u030anek", n=0)


def _nested_private(world: World) -> None:
    ds, item = world.edit(1), Dataset()
    item.private_block(0x0011, "ACME", create=True).add_new(0x01, "LO", "50211877")
    ds.RequestAttributesSequence = Sequence([item])
    world.save(1, ds)


def _utf16_in_binary(world: World) -> None:
    ds = world.edit(3)
    ds.private_block(0x0011, "ACME", create=True).add_new(0x01, "OB", "77310956".encode("utf-16-le"))
    world.save(3, ds)


def _preamble(world: World) -> None:
    data = bytearray(world.output(3).read_bytes())
    data[:11] = b"Castellanos"
    world.output(3).write_bytes(bytes(data))


def _file_meta(world: World) -> None:
    ds = world.edit(2)
    ds.file_meta.SourceApplicationEntityTitle = "61093342"
    world.save(2, ds)


def _bytes_after_the_pixels(world: World) -> None:
    with world.output(0).open("ab") as f:
        f.write(b"\xfc\xff\xfc\xffOB\0\0\x0c\0\0\0" + b"312-555-0147")


def _old_uid(world: World) -> None:
    ds, item = world.edit(0), Dataset()
    item.ReferencedSOPInstanceUID = next(iter(world.instances))
    ds.ReferencedImageSequence = Sequence([item])
    world.save(0, ds)


def _old_date(world: World) -> None:
    _set_header(world, "AcquisitionDate", "20200122")


def _date_in_another_spelling(world: World) -> None:
    _set_header(world, "ImageComments", "seen on 22 January 2020")


def _report_text(world: World, n: int, extra: str) -> None:
    world.reports[n]["text"] += f" {extra}"
    world.write_tables()


def _other_patients_number_in_a_report(world: World) -> None:
    _report_text(world, 0, "see also 61093342")


def _name_in_report(world: World) -> None:
    _report_text(world, 3, "signed castellanos")


def _ordinary_word_once_too_often(world: World) -> None:
    _report_text(world, 2, "Mr. Heart")


def _hospital_part_in_report(world: World) -> None:
    _report_text(world, 1, "transferred from Lakemoor")


def _date_in_report(world: World) -> None:
    _report_text(world, 3, "on 2020-06-09")


def _file_name(world: World) -> None:
    (world.deid / "dicom" / "ACC7001102.txt").write_text("nothing")


def _folder_name(world: World) -> None:
    folder = world.deid / "Castellanos_Beatriz"
    folder.mkdir()
    (folder / "a.txt").write_text("nothing")


def _escaped_log(world: World) -> None:
    with (world.deid / "events.jsonl").open("a") as f:
        f.write(json.dumps({"message": "could not read Jürgen Šimůnek"}) + "\n")


def _latin2_csv(world: World) -> None:
    (world.deid / "quarantine.csv").write_bytes("source_id,reason,detail\n1,x,Šimůnek^Jürgen\n".encode("iso8859-2"))


def _png_text(world: World) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "phone 206-555-0122", zip=True)
    (world.deid / "masks").mkdir()
    Image.new("L", (8, 8)).save(world.deid / "masks" / "a.png", pnginfo=info)


FAULTS: dict[Callable[[World], None], str] = {
    _name_in_header: "NAME",
    _single_name_part_in_a_description: "NAME",
    _decomposed_accents: "NAME",
    _nested_private: "ID",
    _utf16_in_binary: "ID",
    _preamble: "NAME",
    _file_meta: "ID",
    _bytes_after_the_pixels: "PHONE",
    _old_uid: "UID",
    _old_date: "DATE",
    _date_in_another_spelling: "DATE",
    _other_patients_number_in_a_report: "ID",
    _name_in_report: "NAME",
    _ordinary_word_once_too_often: "NAME",
    _hospital_part_in_report: "HOSPITAL",
    _date_in_report: "DATE",
    _file_name: "ID",
    _folder_name: "NAME",
    _escaped_log: "NAME",
    _latin2_csv: "NAME",
    _png_text: "PHONE",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_an_identity_put_back_is_found(world: World, tmp_path: Path, fault: Callable[[World], None]) -> None:
    fault(world)
    result = judge(world, tmp_path / "run")
    # The old UID holds the old date.
    assert set(result["leaks_by_kind"]) == ({"UID", "DATE"} if fault is _old_uid else {FAULTS[fault]})


def test_text_left_in_the_pixels_is_read(world: World, tmp_path: Path) -> None:
    source = dcmread(world.export / list(world.instances.values())[BURNED_IN]["path"])
    ds = world.edit(BURNED_IN)
    # Faint and inverted: what a person could still make out.
    ds.PixelData = (120 - source.pixel_array // 10).tobytes()
    world.save(BURNED_IN, ds)
    result = judge(world, tmp_path / "run")
    assert result["readable_boxes"] == 2
    assert result["checks"]["pixels_hidden"] == {"passed": 0, "total": 2}


def test_pixels_changed_away_from_text_are_a_loss(world: World, tmp_path: Path) -> None:
    ds = world.edit(0)
    pixels = ds.pixel_array.copy()
    pixels[200:220, 100:120] += 3
    ds.PixelData = pixels.tobytes()
    world.save(0, ds)
    result = judge(world, tmp_path / "run")
    assert result["losses"] == {"pixels_altered": 1}
    assert result["checks"]["pixels_retained"] == {"passed": 3, "total": 4}


def _fails(world: World, tmp_path: Path, action: str) -> int:
    counts = judge(world, tmp_path / "run")["checks"][action]
    return counts["total"] - counts["passed"]


def test_a_lost_and_an_altered_attribute_are_losses(world: World, tmp_path: Path) -> None:
    _set_header(world, "PixelSpacing", [0.1, 0.1], n=0)
    ds = world.edit(1)
    del ds.ViewPosition
    world.save(1, ds)
    result = judge(world, tmp_path / "run")
    assert result["losses"] == {"attribute_altered": 1, "attribute_lost": 1}
    retained = result["checks"]
    assert retained["tag_retained"]["total"] - retained["tag_retained"]["passed"] == 1
    assert retained["text_retained"]["total"] - retained["text_retained"]["passed"] == 2


@pytest.mark.parametrize("days", [3, 7])
def test_a_date_that_moved_otherwise_fails(world: World, tmp_path: Path, days: int) -> None:
    """Instances 0 and 1 are of one person: a shift of another length, or of no whole weeks, breaks the interval."""
    ds = world.edit(0)
    ds.StudyDate = str(int(ds.StudyDate[:6] + "01") + days)
    world.save(0, ds)
    assert _fails(world, tmp_path, "date_shifted") >= 1


def test_two_studies_under_one_uid_fail(world: World, tmp_path: Path) -> None:
    """Two studies that become one are as wrong as one that becomes two."""
    ds = world.edit(2)
    ds.StudyInstanceUID = world.edit(3).StudyInstanceUID
    world.save(2, ds)
    assert _fails(world, tmp_path, "uid_consistent") == 2


def test_one_person_under_two_pseudonyms_fails(world: World, tmp_path: Path) -> None:
    _set_header(world, "PatientID", "POTHER", n=0)
    assert _fails(world, tmp_path, "patid_consistent") == 1


def test_what_is_missing_or_not_quarantined_is_a_loss(world: World, tmp_path: Path) -> None:
    world.output(0).unlink()
    del world.reports[1]
    states = {row["source_id"]: row for row in world.manifest}
    states[world.secret.source_id("DICOM/BROKEN")]["state"] = "written"
    states[world.secret.source_id("DICOM/COPY")]["state"] = "written"
    states[world.secret.source_id("DICOM/TWIN1")]["reason"] = "unreadable"
    world.write_tables()
    (world.export / "DICOM" / "LATER").write_bytes(b"a file nobody listed")
    result = judge(world, tmp_path / "run")
    (world.export / "DICOM" / "LATER").unlink()
    assert result["losses"] == {
        "broken_not_quarantined": 1,
        "conflicts_not_quarantined": 1,
        "duplicate_not_counted_once": 1,
        "file_not_in_manifest": 1,
        "instance_missing": 1,
        "report_missing": 1,
    }


def test_any_number_of_workers_judges_the_same(world: World, tmp_path: Path) -> None:
    _name_in_header(world)
    key = json.loads(world.key.read_text())
    for record in key["instances"].values():
        record["burned_in"] = []  # no text to read: starting the OCR in each process is all this would add
    world.key = tmp_path / "key.json"
    world.key.write_text(json.dumps(key))
    one = judge(world, tmp_path / "one")
    assert run_stage("score", world.spec() | {"workers": 2}, tmp_path / "two") is Outcome.DONE
    assert json.loads((tmp_path / "two" / "result.json").read_text()) == one
    same = [(tmp_path / run / "findings.parquet").read_bytes() for run in ("one", "two")]
    assert same[0] == same[1]


def test_a_run_stopped_in_the_middle_goes_on(world: World, tmp_path: Path) -> None:
    _name_in_header(world)
    whole = judge(world, tmp_path / "whole")
    assert run_stage("score", world.spec(), tmp_path / "run", listener=stop) is Outcome.STOPPED
    assert list((tmp_path / "run" / "parts").glob("instances-*.json"))
    assert judge(world, tmp_path / "run") == whole


def test_parts_of_another_output_are_not_taken(world: World, tmp_path: Path) -> None:
    assert run_stage("score", world.spec(), tmp_path / "run", listener=stop) is Outcome.STOPPED
    _name_in_header(world)
    (world.deid / "result.json").write_text('{"digest": "another"}')
    assert judge(world, tmp_path / "run")["leaks"] > 0


def test_an_unfinished_folder_is_refused(world: World, tmp_path: Path) -> None:
    (world.deid / "result.json").unlink()
    assert run_stage("score", world.spec(), tmp_path / "run") is Outcome.BAD_INPUT
