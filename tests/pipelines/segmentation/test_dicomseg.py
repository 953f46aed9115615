"""Masks as DICOM SEG: written, read back, accepted by other software, and still the same after de-identification."""

import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from pipelines.build.segments import read_segments
from pipelines.segmentation import dicomseg
from tests.dicoms import as_bytes, instance
from tests.judge import readers
from tests.pipelines.deidentify.test_header import clean, read

UIDS = {"instance": "2.25.11", "series": "2.25.12", "study": "2.25.13", "sop_class": "1.2.840.10008.5.1.4.1.1.1.1"}
ROW = UIDS | {
    "patient": "PXYZ",
    "accession": "AXYZ",
    "sex": "F",
    "date": "2011-02-03",
    "modality": "DX",
    "source_rows": 90,
    "source_columns": 75,
}


@pytest.fixture
def masks() -> list[tuple[str, str, np.ndarray]]:
    lung, tube = np.zeros((2, 90, 75), bool)
    lung[20:70, 10:30] = tube[5:40, 37:39] = True
    return [("lung", "Lung", lung), ("chest_tube", "Chest tube", tube), ("ett", "ETT", lung & tube)]


@pytest.fixture
def path(tmp_path: Path, masks: list[tuple[str, str, np.ndarray]]) -> Path:
    dicomseg.write(tmp_path / "seg.dcm", ROW, masks, "a model", "c0ffee" * 10)
    return tmp_path / "seg.dcm"


def test_what_was_written_is_read_back(path: Path, masks: list[tuple[str, str, np.ndarray]]) -> None:
    seg = highdicom.seg.segread(path)
    pixels = seg.get_pixels_by_source_instance(["2.25.11"], ignore_spatial_locations=True)
    assert (pixels[0] == np.stack([mask for *_, mask in masks], -1)).all()
    assert [seg.get_segment_description(n).segment_label for n in (1, 2, 3)] == ["Lung", "Chest tube", "ETT"]
    assert seg.get_segment_description(1).segmented_property_type.value == "39607008"
    assert (seg.StudyInstanceUID, seg.PatientID, seg.AccessionNumber) == ("2.25.13", "PXYZ", "AXYZ")
    found = read_segments(pydicom.dcmread(path))
    assert all((found[("2.25.11", structure)] == mask).all() for structure, _, mask in masks)


def test_uids_follow_from_content(path: Path, masks: list[tuple[str, str, np.ndarray]], tmp_path: Path) -> None:
    dicomseg.write(tmp_path / "again.dcm", ROW, masks, "a model", "c0ffee" * 10)
    dicomseg.write(tmp_path / "other.dcm", ROW, masks, "another", "decade" * 10)
    first, again, other = (pydicom.dcmread(tmp_path / f"{n}.dcm") for n in ("seg", "again", "other"))
    assert first.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID
    assert first.SeriesInstanceUID == again.SeriesInstanceUID != other.SeriesInstanceUID


@pytest.mark.skipif(bool(readers.MISSING), reason=f"not installed: {', '.join(readers.MISSING)}")
def test_the_validator_finds_no_error_and_other_readers_open_it(path: Path) -> None:
    assert readers.errors(path) == set() and readers.refusals(path) == []
    told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60)
    assert "Segmentation" in told.stdout + told.stderr


def test_masks_of_nothing_are_a_valid_object_too(masks: list[tuple[str, str, np.ndarray]], tmp_path: Path) -> None:
    nothing = [(structure, label, mask & False) for structure, label, mask in masks]
    dicomseg.write(tmp_path / "none.dcm", ROW, nothing, "a model", "c0ffee" * 10)
    found = read_segments(pydicom.dcmread(tmp_path / "none.dcm"))
    assert found.keys() == {("2.25.11", s) for s in ("lung", "chest_tube", "ett")}
    assert not any(mask.any() for mask in found.values())


def test_a_segmentation_of_an_export_still_fits_its_image_after_de_identification(
    masks: list[tuple[str, str, np.ndarray]], tmp_path: Path
) -> None:
    image = instance(side=48)
    row = ROW | {"instance": image.SOPInstanceUID, "series": image.SeriesInstanceUID, "study": image.StudyInstanceUID}
    row |= {"patient": image.PatientID, "accession": image.AccessionNumber, "source_rows": 48, "source_columns": 48}
    small = [(structure, label, mask[:48, :48]) for structure, label, mask in masks]
    dicomseg.write(tmp_path / "seg.dcm", row, small, "a model", "c0ffee" * 10)
    new_image, new_seg = (read(clean(data)) for data in (as_bytes(image), (tmp_path / "seg.dcm").read_bytes()))
    found = read_segments(new_seg)
    for structure, _, mask in small:
        assert (found[(str(new_image.SOPInstanceUID), structure)] == mask).all()
    assert new_seg.StudyInstanceUID == new_image.StudyInstanceUID != image.StudyInstanceUID
