"""Objects that are no images: written where what they say can be cleaned, else quarantined with the reason."""

import io
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.instance import InstanceCleaner, Written
from pipelines.deidentify.pixels import Box, PixelResult
from pipelines.deidentify.policy import Policy, load_policy
from pipelines.deidentify.reasons import REASONS
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import configure_pydicom
from tests.dicoms import CANARIES, DX, ROOT, STUDY_DATE, as_bytes, canary, instance

SECRET = DerivationSecret("test", 1, b"0" * 32)
STORAGE = "1.2.840.10008.5.1.4.1.1."
NAMES = ("Kvothensdottir", "Zimraana", "Grimaldine", "MRN7700123", "ACCN900417", "19310521")


class NoText:
    """Finds a text box in pictures that hold more than `most` white pixels."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.most = most

    def clean(self, ds: Dataset) -> PixelResult:
        white = int((np.frombuffer(ds.PixelData, np.uint8) == 255).sum()) if isinstance(ds.PixelData, bytes) else 0
        boxes = (Box(0, 0, 0, 4, 4),) if white > self.most else ()
        return PixelResult(boxes, changed=bool(boxes), proved=True)


def policy(name: str = "longitudinal-research", **options: Any) -> Policy:
    values = load_policy(name).model_dump()
    values["options"] |= options
    return Policy.model_validate(values)


CLEANING = {"structured_content": "clean", "graphics": "clean"}


def clean(ds: FileDataset, chosen: Policy, pixels: NoText | None = None) -> Written:
    configure_pydicom()
    engine = InstanceCleaner(chosen, SECRET, pixels or NoText(), "", frozenset())
    return engine.clean(*engine.read(as_bytes(ds)))


def read(written: Written) -> pydicom.FileDataset:
    ds = pydicom.dcmread(io.BytesIO(written.data))
    for name in NAMES:
        assert name.encode() not in written.data, name
    return ds


def of_class(number: str, modality: str) -> FileDataset:
    """The header of a canary under another SOP class, without a picture."""
    ds = canary()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = STORAGE + number
    ds.Modality = modality
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        del ds[keyword]
    return ds


def coded(value: str, meaning: str, scheme: str = "DCM") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def content(kind: str, concept: Dataset, **values: Any) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", kind, Sequence([concept])
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def number(concept: Dataset, value: str, unit: str) -> Dataset:
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = value, Sequence([coded(unit, "year", "UCUM")])
    return content("NUM", concept, MeasuredValueSequence=Sequence([measured]))


def report(age: str = "057") -> FileDataset:
    """A structured report that says who, when and what in its content items."""
    ds = of_class("88.33", "SR")
    ds.CompletionFlag, ds.VerificationFlag, ds.ValueType, ds.ContinuityOfContent = (
        "COMPLETE", "VERIFIED", "CONTAINER", "SEPARATE",
    )  # fmt: skip
    ds.ConceptNameCodeSequence = Sequence([coded("18748-4", "Diagnostic Imaging Report", "LN")])
    observer = Dataset()
    observer.VerifyingObserverName, observer.VerifyingOrganization = "Grimaldine^Aurora", "Grimaldine Praxis"
    observer.VerificationDateTime = STUDY_DATE + "1200"
    ds.VerifyingObserverSequence = Sequence([observer])
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = DX, f"{ROOT}{STUDY_DATE}.1.1"
    inner = content("TEXT", coded("121071", "Finding"), TextValue="no pneumothorax says Grimaldine")
    ds.ContentSequence = Sequence([
        content("PNAME", coded("121008", "Person Observer Name"), PersonName="Grimaldine^Aurora"),
        content("PNAME", coded("121029", "Subject Name"), PersonName=CANARIES["PatientName"]),
        content("TEXT", coded("121030", "Subject ID"), TextValue=CANARIES["PatientID"]),
        content("DATE", coded("121031", "Subject Birth Date"), Date="19310521"),
        number(coded("121033", "Subject Age"), age, "a"),
        content("DATETIME", coded("111526", "DateTime Started"), DateTime=STUDY_DATE + "101112"),
        content("IMAGE", coded("121112", "Source of Measurement"), ReferencedSOPSequence=Sequence([image])),
        content("CODE", coded("121071", "Finding"), ConceptCodeSequence=Sequence([coded("X", "Dr Grimaldine", "99G")])),
        content("CONTAINER", coded("121070", "Findings"), ContentSequence=Sequence([inner])),
        content("UIDREF", coded("121012", "Device Observer UID"), UID=f"{ROOT}9.9"),
    ])  # fmt: skip
    return ds


def test_a_report_is_quarantined_unless_its_content_is_cleaned() -> None:
    for number_ in ("88.33", "88.59"):
        with pytest.raises(Quarantine) as verdict:
            clean(of_class(number_, "SR"), policy())
        assert verdict.value.reason == "structured_content"


def test_a_cleaned_report_keeps_codes_numbers_and_references() -> None:
    new = read(clean(report(), policy(**CLEANING)))
    items = {item.ConceptNameCodeSequence[0].CodeValue: item for item in new.ContentSequence}
    assert set(items) == {"121008", "121033", "111526", "121112", "121071", "121070", "121012"}
    assert str(items["121008"].PersonName) == "ANONYMOUS"
    assert items["121033"].MeasuredValueSequence[0].NumericValue == 57
    assert items["111526"].DateTime[:8] == new.StudyDate != STUDY_DATE
    reference = items["121112"].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == SECRET.uid(f"{ROOT}{STUDY_DATE}.1.1")
    assert items["121070"].ContentSequence[0].TextValue == "no pneumothorax"
    assert items["121012"].UID.startswith("2.25.")
    assert items["121071"].ConceptCodeSequence[0].CodeMeaning not in ("", "Dr Grimaldine")
    assert str(new.VerifyingObserverSequence[0].VerifyingObserverName) == "ANONYMOUS"
    assert "113104" in {c.CodeValue for c in new.DeidentificationMethodCodeSequence}
    assert "BurnedInAnnotation" not in new and "PixelData" not in new


@pytest.mark.parametrize(("name", "age"), [("longitudinal-research", "093"), ("basic", "057")])
def test_the_age_of_the_subject_follows_the_rule_of_the_header(name: str, age: str) -> None:
    new = read(clean(report(age), policy(name, **CLEANING)))
    assert "121033" not in {item.ConceptNameCodeSequence[0].CodeValue for item in new.ContentSequence}


def presentation_state() -> FileDataset:
    ds = of_class("11.1", "PR")
    text, shape, annotation = Dataset(), Dataset(), Dataset()
    text.UnformattedTextValue, text.AnchorPoint = "lung Grimaldine", [1.0, 2.0]
    shape.GraphicType, shape.GraphicData, shape.NumberOfGraphicPoints = "POLYLINE", [1.0, 1.0, 2.0, 2.0], 2
    annotation.GraphicLayer, annotation.TextObjectSequence = "LAYER", Sequence([text])
    annotation.GraphicObjectSequence = Sequence([shape])
    ds.GraphicAnnotationSequence = Sequence([annotation])
    compound = Dataset()
    compound.CompoundGraphicType, compound.UnformattedTextValue = "RULER", "Grimaldine"
    annotation.CompoundGraphicSequence = Sequence([compound])
    ds.ContentLabel, ds.ContentDescription, ds.ContentCreatorName = "LABEL", "for Grimaldine", "Grimaldine^Aurora"
    return ds


def test_a_presentation_state_loses_its_graphics_or_their_words() -> None:
    new = read(clean(presentation_state(), policy()))
    assert "GraphicAnnotationSequence" not in new and new.ContentLabel == "LABEL"
    (annotation,) = read(clean(presentation_state(), policy(**CLEANING))).GraphicAnnotationSequence
    assert annotation.TextObjectSequence[0].UnformattedTextValue == "lung"
    assert list(annotation.GraphicObjectSequence[0].GraphicData) == [1.0, 1.0, 2.0, 2.0]


def test_segmentations_keep_their_pixels_and_lose_names() -> None:
    ds = instance()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = STORAGE + "66.4"
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel, segment.SegmentDescription = 1, "left lung of Grimaldine", "Grimaldine"
    ds.SegmentSequence = Sequence([segment])
    new = read(clean(ds, policy()))
    assert new.SegmentSequence[0].SegmentLabel == "left lung of"
    assert new.PixelData == ds.PixelData


def test_radiotherapy_objects_follow_the_table() -> None:
    ds = of_class("481.3", "RTSTRUCT")
    ds.StructureSetLabel, ds.StructureSetDate = "Grimaldine", STUDY_DATE
    roi, contour = Dataset(), Dataset()
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = 1, "lung Grimaldine", f"{ROOT}3.3"
    contour.ContourData, contour.NumberOfContourPoints = ["1.5", "2", "3"], 1
    ds.StructureSetROISequence = Sequence([roi])
    ds.ROIContourSequence = Sequence([Dataset()])
    ds.ROIContourSequence[0].ContourSequence = Sequence([contour])
    new = read(clean(ds, policy()))
    assert new.StructureSetROISequence[0].ReferencedFrameOfReferenceUID == SECRET.uid(f"{ROOT}3.3")
    assert list(new.ROIContourSequence[0].ContourSequence[0].ContourData) == [1.5, 2, 3]
    assert new.StructureSetDate == new.StudyDate != STUDY_DATE


@pytest.mark.parametrize(
    ("sop_class", "reason"),
    [
        (STORAGE + "104.1", "document"),
        (STORAGE + "104.2", "document"),
        (STORAGE + "66", "unsupported"),
        (STORAGE + "9.1.1", "unsupported"),
        (STORAGE + "88.2", "unsupported"),
        ("1.2.840.113619.4.30", "private_class"),
        (STORAGE + "1.1", "unreadable"),  # an image class without an image
    ],
)
def test_what_cannot_be_cleaned_is_quarantined_by_class(sop_class: str, reason: str) -> None:
    ds = of_class("88.33", "OT")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    with pytest.raises(Quarantine) as verdict:
        clean(ds, policy(**CLEANING))
    assert verdict.value.reason == reason and reason in REASONS


def test_pixel_data_where_none_belong_are_not_carried_over() -> None:
    ds = of_class("481.5", "RTPLAN")
    ds.PixelData = b"Grimaldine" + bytes(2)
    ds["PixelData"].VR = "OB"
    assert "PixelData" not in read(clean(ds, policy()))


# ---- overlays --------------------------------------------------------------------------------------------------


def overlaid(white: int) -> FileDataset:
    ds = instance()
    plane = np.zeros(48 * 48, np.uint8)
    plane[:white] = 1
    for number_, vr, value in (
        (0x0010, "US", 48), (0x0011, "US", 48), (0x0040, "CS", "G"), (0x0050, "SS", [1, 1]), (0x0100, "US", 1),
        (0x0102, "US", 0), (0x0022, "LO", "Grimaldine"), (0x1500, "LO", "Grimaldine"), (0x4000, "LT", "Grimaldine"),
        (0x3000, "OW", np.packbits(plane, bitorder="little").tobytes()),
    ):  # fmt: skip
        ds.add_new(0x60000000 | number_, vr, value)
    return ds


def test_overlays_stay_only_under_their_option_and_only_without_text() -> None:
    def planes(ds: Dataset) -> list[int]:
        return [int(e.tag) & 0xFFFF for e in ds if e.tag.group == 0x6000]

    assert planes(read(clean(overlaid(40), policy()))) == []
    kept = read(clean(overlaid(40), policy(**CLEANING), NoText(100)))
    assert planes(kept) == [0x0010, 0x0011, 0x0040, 0x0050, 0x0100, 0x0102, 0x3000]
    assert kept[0x60003000].value == overlaid(40)[0x60003000].value
    assert planes(read(clean(overlaid(400), policy(**CLEANING), NoText(100)))) == []


def test_an_overlay_that_is_no_plane_is_dropped() -> None:
    for tag, value in ((0x60000010, 4000), (0x60000040, "X"), (0x60000100, 8), (0x60003000, b"\xff" * 500)):
        ds = overlaid(40)
        ds[tag].value = value
        new = read(clean(ds, policy(**CLEANING)))
        assert not [e for e in new if e.tag.group == 0x6000], hex(tag)


def test_uids_of_references_are_those_of_their_objects() -> None:
    uid = generate_uid()
    ds = of_class("88.59", "KO")
    inner, series, study = Dataset(), Dataset(), Dataset()
    inner.ReferencedSOPClassUID, inner.ReferencedSOPInstanceUID = DX, uid
    series.SeriesInstanceUID, series.ReferencedSOPSequence = f"{ROOT}1.200", Sequence([inner])
    study.StudyInstanceUID, study.ReferencedSeriesSequence = ds.StudyInstanceUID, Sequence([series])
    ds.CurrentRequestedProcedureEvidenceSequence = Sequence([study])
    new = read(clean(ds, policy(**CLEANING)))
    (told,) = new.CurrentRequestedProcedureEvidenceSequence
    assert told.StudyInstanceUID == new.StudyInstanceUID
    assert told.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == SECRET.uid(uid)
