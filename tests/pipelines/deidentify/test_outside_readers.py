"""Outputs read by other DICOM software: dcmtk and gdcm open and decode them, dicom3tools finds no new error."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from pipelines.contract import Outcome, run_stage
from pipelines.scan.dicom import configure_pydicom
from tests.judge import readers
from tests.judge.stage import deidentify, make_keys, pairs

pytestmark = pytest.mark.skipif(bool(readers.MISSING), reason=f"not on this machine: {', '.join(readers.MISSING)}")
# Valid for dicom3tools as they stand: CT, MR and secondary capture in RLE, JPEG 2000, JPEG-LS and big endian.
VALID = ("CT_small.dcm", "MR_small_RLE.dcm", "J2K_pixelrep_mismatch.dcm", "examples_overlay.dcm", "SC_rgb_gdcm_KY.dcm")
# PS3.15 E.1-1 removes (0010,2297-2299) whatever the IOD says of the owner of an animal.
ASKED_BY_THE_PROFILE = ("ResponsiblePerson", "ResponsibleOrganization")


@pytest.fixture(scope="module")
def handful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two practice studies and the valid files that pydicom brings, given a patient where they name none."""
    configure_pydicom()
    folder = tmp_path_factory.mktemp("readers") / "export"
    spec = {"out": str(folder), "studies": 2, "seed": 4, "side": 320}
    assert run_stage("practice", spec, folder.parent / "practice") is Outcome.DONE
    for name in VALID:
        source = get_testdata_file(name, download=False)
        ds = dcmread(source)
        if ds.get("PatientID"):
            shutil.copy(source, folder / name)
        else:
            ds.PatientID = "4410067"
            ds.save_as(folder / name)
    return folder


def judge(export: Path, out: Path, scratch: Path) -> tuple[int, int]:
    """(outputs, sources that were valid) after all readers have agreed to every output."""
    keys = make_keys(out.parent / "keys")
    deidentify(export, out, keys, policy="longitudinal-research")
    written = valid = 0
    for pair in pairs(export, out, keys):
        if pair.output is None or pair.row["kind"] != "image":
            continue
        written += 1
        assert readers.refusals(pair.output) == [], pair.source.name
        assert readers.decodes(pair.output, scratch), pair.source.name
        before = readers.errors(pair.source)
        new = {e for e in readers.errors(pair.output) - before if not any(w in e for w in ASKED_BY_THE_PROFILE)}
        assert not new, f"{pair.source.name}: {sorted(new)}"
        valid += not before
    return written, valid


def test_a_handful_of_outputs_opens_everywhere_and_stays_valid(handful: Path, tmp_path: Path) -> None:
    written, valid = judge(handful, tmp_path / "out", tmp_path)
    assert written >= len(VALID) + 2
    assert valid >= len(VALID)


def test_the_judge_sees_an_object_that_lost_what_its_iod_needs(tmp_path: Path) -> None:
    ds = dcmread(get_testdata_file("CT_small.dcm", download=False))
    before = tmp_path / "before.dcm"
    ds.save_as(before)
    del ds.ImageOrientationPatient
    ds.save_as(tmp_path / "after.dcm")
    assert any("ImageOrientationPatient" in e for e in readers.errors(tmp_path / "after.dcm") - readers.errors(before))
    (tmp_path / "cut.dcm").write_bytes(before.read_bytes()[:2000])
    assert readers.refusals(tmp_path / "cut.dcm")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, 17])
def test_every_output_of_a_real_export_opens_everywhere(shared: Path, seed: int, tmp_path: Path) -> None:
    command = [
        sys.executable,
        shared / "make_pacs_export.py",
        tmp_path / "export",
        "--studies",
        "60",
        "--seed",
        str(seed),
    ]
    subprocess.run(command, check=True, capture_output=True)
    written, _ = judge(tmp_path / "export", tmp_path / "out", tmp_path)
    assert written >= 55
