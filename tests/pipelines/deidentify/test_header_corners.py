"""Corners of a header where values hide or a cleaner breaks: behind a NUL, in code meanings, in endless values."""

import hashlib
import io
import os
from pathlib import Path

import pyarrow.parquet as pq
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from pipelines.deidentify import images
from pipelines.deidentify.identities import Quarantine
from pipelines.scan.inventory import stamp
from tests.benchmarks.canaries import Canary
from tests.dicoms import DX, as_bytes, instance
from tests.judge.search import planted_in
from tests.judge.stage import deidentify, make_keys
from tests.pipelines.deidentify.test_header import SECRET, clean, read


def raw(ds: Dataset, tag: int, vr: str, value: bytes) -> None:
    ds[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


def coded(scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", scheme, meaning
    return item


@pytest.mark.parametrize("policy", ["basic", "longitudinal-research"])
def test_nothing_of_the_canary_is_left(policy: str) -> None:
    canary = Canary()
    data, texts = canary.bytes(), [p.text for p in canary.plants]
    assert planted_in(data, texts) == set(texts) and len(texts) >= 150
    written = clean(data, policy)
    assert planted_in(written.head + written.tail, texts) == set()


def test_what_stands_behind_a_nul_is_cut_off() -> None:
    ds = instance()
    raw(ds, 0x00081090, "LO", b"Ray 5\0Hiddensen\\B\0C")
    raw(ds, 0x00081010, "SH", b"CT\0Hiddensen ")
    assert read(clean(as_bytes(ds))).ManufacturerModelName == ["Ray 5", "B"]
    assert b"Hiddensen" not in clean(as_bytes(ds)).data


@pytest.mark.parametrize(
    ("meaning", "kept"),
    [
        ("XR Chest PA and Lateral", "XR Chest PA and Lateral"), ("Plain chest of Zaruvimeko", "Plain chest of"),
        ("Zaruvimeko", "REMOVED"), ("Swan-Ganz Zaruvimeko", "REMOVED"), ("Gadobutrol", "Gadobutrol"),
    ],
)  # fmt: skip
def test_code_meanings_of_public_schemes_are_words_of_codes(meaning: str, kept: str) -> None:
    ds = instance()
    ds.ProcedureCodeSequence = Sequence([coded("SCT", meaning)])
    item = read(clean(as_bytes(ds))).ProcedureCodeSequence[0]
    assert (item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning) == ("1", "SCT", kept)


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [
        ("LossyImageCompressionMethod", "ISO_10918_1", "ISO_10918_1"), ("PixelIntensityRelationship", "LIN", "LIN"),
        ("PixelIntensityRelationship", "DISP", "DISP"), ("LossyImageCompressionMethod", "ISO_99999_1", ""),
        ("PixelIntensityRelationship", "LINDQUIST", ""), ("ScanOptions", "LIN", ""),
    ],
)  # fmt: skip
def test_closed_lists_of_the_standard_are_kept_where_they_belong(keyword: str, value: str, kept: str) -> None:
    ds = instance()
    setattr(ds, keyword, value)
    assert (read(clean(as_bytes(ds)))[keyword].value or "") == kept


@pytest.mark.parametrize("name", ["Lin^Xiuying", "Lin", "LIN^LIN"])
def test_a_patient_who_is_called_as_a_term_costs_neither_the_term_nor_the_image(name: str) -> None:
    ds = instance(name=name)
    ds.PixelIntensityRelationship, ds.ImageComments, ds.ScanOptions = "LIN", f"seen by {name}", "LIN"
    new = read(clean(as_bytes(ds)))
    assert new.PixelIntensityRelationship == "LIN" and not new.ScanOptions and "Lin" not in str(new.PatientName)
    assert "lin" not in str(new.get("ImageComments", "")).casefold().split()


def test_what_is_empty_stays_empty_where_the_profile_lets_it() -> None:
    ds = instance()
    ds.ReferencedStudySequence, ds.ReferencedPerformedProcedureStepSequence = Sequence(), Sequence()
    ds.AcquisitionContextSequence, ds.InstanceCreatorUID = Sequence(), ""
    ds.ContentCreatorName, ds.DeviceSerialNumber, ds.PatientComments = "", "", ""
    new = read(clean(as_bytes(ds), "basic"))
    for keyword in (
        "ReferencedStudySequence", "ReferencedPerformedProcedureStepSequence", "AcquisitionContextSequence",
        "ContentCreatorName", "DeviceSerialNumber",
    ):  # fmt: skip
        assert keyword in new and new[keyword].is_empty, keyword
    assert "PatientComments" not in new
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = DX, "1.2.3.4"
    ds.ReferencedStudySequence = Sequence([reference])
    assert "ReferencedStudySequence" not in read(clean(as_bytes(ds), "basic"))  # its items are type 1


@pytest.mark.parametrize("value", [b"1e400 ", b"nan ", b"1" * 6000, b"12 kg ", b"--1 "])
def test_a_number_that_is_none_is_emptied(value: bytes) -> None:
    ds = instance()
    raw(ds, 0x00200012, "LO", value)
    raw(ds, 0x00180050, "LO", value)
    data = as_bytes(ds)  # pydicom reads such numbers before it writes them, so their VRs are put in behind it
    data = data.replace(b"\x20\0\x12\0LO", b"\x20\0\x12\0IS").replace(b"\x18\0\x50\0LO", b"\x18\0\x50\0DS")
    new = read(clean(data))
    assert str(new) and new["AcquisitionNumber"].is_empty and new["SliceThickness"].is_empty


@pytest.mark.parametrize("piece", [b"a", b"1", b"1 ", b"1-", b"a@", b"^", b"\\", "ж".encode()])
def test_an_endless_value_takes_no_endless_time(piece: bytes) -> None:
    ds = instance()
    value = (piece * 100_000)[:100_000]
    for tag in (0x00100010, 0x00100020, 0x00101040, 0x00081030, 0x00081090, 0x00104000, 0x00180050):
        raw(ds, tag, "UT", value)
    try:
        data = clean(as_bytes(ds)).data
    except Quarantine:
        return
    assert pydicom.dcmread(io.BytesIO(data)).PatientIdentityRemoved == "YES"


def test_a_size_that_is_no_number_ends_no_batch_and_no_view_is_told_that_is_none(tmp_path: Path) -> None:
    broken, sound = instance(1), instance(2)
    raw(broken, 0x00280010, "LO", b"ab")
    sound.ViewPosition = "KVOTHENSDOTTIR"
    export = tmp_path / "export"
    export.mkdir()
    for name, ds in (("a", broken), ("b", sound)):
        (export / name).write_bytes(as_bytes(ds))
    counts = deidentify(export, tmp_path / "out", make_keys(tmp_path / "keys"))["counts"]
    assert (counts["images_written"], counts["quarantined"]) == (1, {"unreadable": 1})
    tables = [pq.read_table(path).to_pylist() for path in (tmp_path / "out").rglob("*.parquet")]
    assert tables and "KVOTHENS" not in str(tables)


def test_a_source_is_the_one_that_was_scanned(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    with path.open("rb") as file:
        entry = {"sha256": hashlib.sha256(b"one").hexdigest(), "stamp": stamp(file, SECRET)}
    with images._opened(path, entry, SECRET) as file:
        assert file.read() == b"one"
    os.utime(path, ns=(1, 1))  # another stamp, the same bytes
    with images._opened(path, entry, SECRET) as file:
        file.seek(0)
        assert file.read() == b"one"
    path.write_bytes(b"two")
    with pytest.raises(Quarantine) as verdict, images._opened(path, entry, SECRET):
        pass
    assert (verdict.value.reason, verdict.value.detail) == ("unreadable", "changed since it was scanned")
