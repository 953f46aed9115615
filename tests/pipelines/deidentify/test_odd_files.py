"""The whole stage over folders of odd files: nothing escapes, counts add up, no source value is found by a stranger.

The search (tests/judge) shares nothing with the engine: it takes every text of a source for identifying that is not on
a short list of what may stay.
"""

import csv
import shutil
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from pydicom import dcmread

from pipelines.deidentify.reasons import REASONS
from pipelines.scan.dicom import configure_pydicom
from tests.dicoms import CANARIES, as_bytes, canary, instance
from tests.judge.own import own_values
from tests.judge.search import residues, shifts
from tests.judge.stage import Pair, deidentify, make_keys, pairs

BUNDLED = Path(pydicom.__file__).parent / "data"


def bundled(limit: int) -> list[Path]:
    """Files that pydicom brings for its own tests, up to a size: DICOM of all kinds, broken files, no DICOM at all."""
    files = (p for name in ("test_files", "charset_files") for p in (BUNDLED / name).rglob("*"))
    return sorted(p for p in files if p.is_file() and p.suffix not in (".py", ".pyc") and p.stat().st_size <= limit)


def exports(files: list[Path], folder: Path) -> list[Path]:
    """The files in as few exports as it takes for no SOPInstanceUID to stand in one of them twice."""
    seen: Counter[str] = Counter()
    for number, path in enumerate(files):
        try:
            uid = str(dcmread(path, force=True, stop_before_pixels=True).get("SOPInstanceUID") or path)
        except Exception:  # noqa: BLE001 - odd on purpose
            uid = str(path)
        home = folder / f"export{seen[uid]}"
        seen[uid] += 1
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, home / f"{number:03d}_{path.name}")
    return sorted(folder.iterdir())


def judge(export: Path, out: Path, keys: Path) -> list[Pair]:
    """Run the stage and hold all that a privacy officer would count against it."""
    counts = deidentify(export, out, keys)["counts"]
    found = pairs(export, out, keys)
    states = Counter(pair.row["state"] for pair in found)
    assert counts["files"] == len(found)
    assert counts["images_written"] + counts["objects_written"] == len(list((out / "dicom").rglob("*.dcm")))
    assert sum(counts["quarantined"].values()) == states["quarantined"] == len(quarantine(out))
    assert {row["reason"] for row in quarantine(out)} <= set(REASONS)
    for pair in found:
        if pair.output:
            source, new = dcmread(pair.source, force=True), dcmread(pair.output)
            moved = shifts(source, new) - {None}
            assert len(moved) <= 1 and all(days and days % 7 == 0 for days in moved), pair.source.name
            left = residues(own_values(source), pair.output, next(iter(moved), None))
            assert not left, f"{pair.source.name}: {sorted({(r.kind, r.where) for r in left})}"
    return found


def quarantine(out: Path) -> list[dict[str, str]]:
    with (out / "quarantine.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_small_odd_files_leave_nothing_behind(tmp_path: Path) -> None:
    configure_pydicom()
    keys, written = make_keys(tmp_path / "keys"), 0
    for export in exports(bundled(9_000), tmp_path / "exports")[:1]:
        written += sum(p.output is not None for p in judge(export, tmp_path / "outs" / export.name, keys))
    assert written >= 12


def test_the_search_finds_what_a_plain_copy_leaves(tmp_path: Path) -> None:
    ds = canary()
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(as_bytes(ds))
    found = residues(own_values(dcmread(copy)), copy)
    assert {r.kind for r in found} == {"uid", "text", "name", "name part", "date"}
    values = {r.value for r in found}
    for where in ("PatientID", "PatientAddress", "PatientTelephoneNumbers", "private", "nested", "overlay", "padding"):
        assert any(CANARIES[where] in value for value in values), where


@pytest.mark.parametrize(
    "spelt",
    ["ZIMRAANA KVOTHENSDOTTIR", "Kvothensdottir, Zimraana", "7700123", "415.555.0143", "4 March 2019", "04.03.2019"],
)
def test_the_search_finds_other_spellings(spelt: str, tmp_path: Path) -> None:
    source = canary()
    source.PatientID = "MRN-770-01-23"
    ds = instance(2, patient="P1", name="P1", accession="A1")
    ds.StudyDate = ds.PatientBirthDate = ""
    ds.ImageComments = f"see {spelt} again"
    output = tmp_path / "output.dcm"
    output.write_bytes(as_bytes(ds))
    assert residues(own_values(source), output)


def test_one_key_agrees_on_every_uid_and_two_sites_share_none(tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    for number in (1, 2):
        ds = canary(number)
        (export / f"IM{number}").write_bytes(as_bytes(ds))
    uids = {}
    for name, site in (("first", "here"), ("again", "here"), ("other", "there")):
        keys = make_keys(tmp_path / site, site)
        deidentify(export, tmp_path / name, keys)
        outputs = sorted((tmp_path / name / "dicom").rglob("*.dcm"))
        uids[name] = [str(e.value) for p in outputs for e in dcmread(p).iterall() if e.VR == "UI"]
    assert uids["first"] == uids["again"]
    made = [{u for u in uids[name] if u.startswith("2.25.")} for name in ("first", "other")]
    assert made[0] and not made[0] & made[1]
