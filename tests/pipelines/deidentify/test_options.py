"""The options of PS3.15 E.3 on whole objects: what they keep stays, is no residue, and is told in the markers."""

import io
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.instance import InstanceCleaner, Written
from pipelines.deidentify.pixels import PixelResult
from pipelines.deidentify.policy import Policy, load_policy
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import configure_pydicom
from tests.dicoms import CANARIES, ROOT, STUDY_DATE, as_bytes, canary, instance, un_sequence

SECRET = DerivationSecret("test", 1, b"0" * 32)


class NoText:
    def clean(self, ds: Dataset) -> PixelResult:
        return PixelResult((), changed=False, proved=True)


def policy(**options: Any) -> Policy:
    """longitudinal-research with other options; `private` and tagged reports where full or no dates ask for them."""
    values = load_policy("longitudinal-research").model_dump()
    values["private"] = options.pop("private", values["private"])
    values["options"] |= options
    if values["options"]["dates"] != "shift":
        values["reports"]["style"] = "tags"
    return Policy.model_validate(values)


def clean(ds: FileDataset, chosen: Policy) -> Written:
    configure_pydicom()
    engine = InstanceCleaner(chosen, SECRET, NoText(), "", frozenset())
    return engine.clean(*engine.read(as_bytes(ds)))


def read(written: Written) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(written.data))


def codes(ds: Dataset) -> set[str]:
    return {item.CodeValue for item in ds.DeidentificationMethodCodeSequence}


def undated(number: int = 1) -> FileDataset:
    """A canary whose UIDs hold no date, as Retain UIDs needs them."""
    ds = canary(number)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}77.{number}"
    ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID = ds.SOPInstanceUID
    return ds


def test_full_dates_stay_as_they_are_and_the_birth_date_does_not() -> None:
    new = read(written := clean(canary(), policy(dates="keep")))
    assert (new.StudyDate, new.SeriesDate, new.AcquisitionDateTime[:8]) == (STUDY_DATE,) * 3
    assert new.StudyTime == "104233" and new.PatientBirthDate == ""
    assert new.LongitudinalTemporalInformationModified == "UNMODIFIED"
    assert "113106" in codes(new) and "113107" not in codes(new)
    assert b"1931" not in written.data


def test_full_dates_excuse_no_other_date() -> None:
    ds = canary()
    ds.add_new(0x00180024, "SH", "19310521")  # the birth date, in a text that is kept
    new = read(clean(ds, policy(dates="keep")))
    assert new.get("SequenceName", "") == ""


def test_uids_stay_and_are_no_residue() -> None:
    source = undated()
    new = read(clean(source, policy(uids="keep")))
    assert new.SOPInstanceUID == source.SOPInstanceUID == new.file_meta.MediaStorageSOPInstanceUID
    assert new.StudyInstanceUID == source.StudyInstanceUID
    assert new.ReferencedImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert "113110" in codes(new)


def test_a_uid_with_a_date_in_it_is_replaced_unless_dates_are_kept() -> None:
    source = canary()
    new = read(clean(source, policy(uids="keep")))
    assert new.SOPInstanceUID == SECRET.uid(source.SOPInstanceUID) and "113110" not in codes(new)
    assert new.StudyInstanceUID == source.StudyInstanceUID
    new = read(clean(source, policy(uids="keep", dates="keep")))
    assert new.SOPInstanceUID == source.SOPInstanceUID and "113110" in codes(new)


@pytest.mark.parametrize(
    ("option", "code", "keyword", "section"),
    [("device", "113109", "DeviceSerialNumber", "E.3.8"), ("institution", "113112", "InstitutionName", "E.3.11")],
)
def test_identity_of_device_or_institution_stays(option: str, code: str, keyword: str, section: str) -> None:
    ds = canary()
    ds.DeviceUID = f"{ROOT}5.5"
    ds.InstitutionalDepartmentTypeCodeSequence = Sequence([Dataset()])
    ds.InstitutionalDepartmentTypeCodeSequence[0].CodeMeaning = "Quibblethorpe Emergency"
    new = read(clean(ds, policy(**{option: True})))
    assert new[keyword].value == CANARIES[keyword], section
    assert code in codes(new)
    assert (new.get("DeviceUID") == ds.DeviceUID) is (option == "device")
    department = new.get("InstitutionalDepartmentTypeCodeSequence")
    assert (department[0].CodeMeaning == "Quibblethorpe Emergency" if department else False) is (
        option == "institution"
    )


def test_a_date_of_a_device_moves_with_the_others() -> None:
    ds = instance()
    ds.DateOfLastCalibration = STUDY_DATE
    assert read(clean(ds, policy(device=True))).DateOfLastCalibration not in ("", STUDY_DATE)
    assert "DateOfLastCalibration" not in read(clean(ds, policy(device=True, dates="remove")))


# ---- texts outside the table -----------------------------------------------------------------------------------


def test_texts_of_the_dictionary_stay_by_list_only() -> None:
    ds = instance()
    ds.ConvolutionKernel, ds.SoftwareVersions = "B70f", ["3.1", "b"]
    ds.TextValue, ds.TreatmentStatusComment, ds.RetrieveURL = "Grimaldine is better", "Grimaldine", "http://pacs/1"
    ds.OtherStudyNumbers, ds.BodyPartExamined, ds.ContentLabel = 4711, "Chest", "Grimaldine's"
    ds.FieldOfViewDescription, ds.SegmentLabel = "whole chest for Grimaldine", "Grimaldine"
    written = clean(ds, policy())
    new = read(written)
    assert (new.ConvolutionKernel, new.SoftwareVersions) == ("B70f", ["3.1", "b"])
    assert (new.BodyPartExamined, new.FieldOfViewDescription, new.SegmentLabel) == (
        "Chest",
        "whole chest for",
        "REMOVED",
    )
    for keyword in ("TextValue", "TreatmentStatusComment", "RetrieveURL", "OtherStudyNumbers"):
        assert keyword not in new, keyword
    assert b"Grimaldine" not in written.data
    assert written.cleaned.unknown >= 4 and written.cleaned.malformed == 1


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def test_codes_of_public_schemes_stay_and_those_of_a_site_lose_their_words() -> None:
    ds = instance()
    ds.AnatomicRegionSequence = Sequence(
        [coded("51185008", "SCT", "Bachmann's chest"), coded("X7", "99STELSEWHERE", "chest Dr Grimaldine")]
    )
    public, private = read(clean(ds, policy())).AnatomicRegionSequence
    assert (public.CodingSchemeDesignator, public.CodeMeaning) == ("SCT", "chest")
    assert private.CodingSchemeDesignator.startswith("99") and "ELSEWHERE" not in private.CodingSchemeDesignator
    assert (private.CodeValue, private.CodeMeaning) == ("X7", "chest")


# ---- private elements ------------------------------------------------------------------------------------------

KEEP = {"keep": [
    {"creator": "ACME GEOMETRY", "group": 0x19, "element": 1},
    {"creator": "ACME GEOMETRY", "group": 0x19, "element": 2, "vr": "SQ"},
    {"creator": "ACME GEOMETRY", "group": 0x19, "element": 3},
    {"creator": "ACME GEOMETRY", "group": 0x19, "element": 4, "vr": "DS"},
]}  # fmt: skip


def test_kept_private_elements_follow_the_rules_of_their_vr() -> None:
    ds, item = instance(), Dataset()
    item.PatientName, item.CodeMeaning, item.StudyDate = CANARIES["private"], "chest Wolfhagenroth", STUDY_DATE
    item.ReferencedSOPInstanceUID = ds.SOPInstanceUID
    block = ds.private_block(0x19, "ACME GEOMETRY", create=True)
    block.add_new(1, "DA", STUDY_DATE)
    block.add_new(3, "UI", ds.SOPInstanceUID)
    ds[0x00191002] = un_sequence(0x00082218, item)._replace(tag=Tag(0x00191002))
    ds[0x00191004] = RawDataElement(Tag(0x00191004), "UN", 4, b"0.25", 0, False, True)
    written = clean(ds, policy(private=KEEP))
    new = read(written)
    block = new.private_block(0x19, "ACME GEOMETRY")
    assert block[1].value == new.StudyDate != STUDY_DATE
    assert block[3].value == new.SOPInstanceUID
    inner = block[2].value[0]
    assert (inner.StudyDate, inner.ReferencedSOPInstanceUID) == (new.StudyDate, new.SOPInstanceUID)
    assert block[4].value == 0.25
    assert b"Wolfhagenroth" not in written.data


def test_the_standards_safe_list_keeps_by_creator() -> None:
    ds = instance()
    ds.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", 800)
    ds.private_block(0x19, "SIEMENS MR HEADER").add_new(0x0F, "LO", "hidden")
    ds.private_block(0x7053, "SIEMENS MR HEADER", create=True).add_new(0x00, "DS", "4")
    new = read(clean(ds, policy(private={"standard": True})))
    assert [e.value for e in new if e.tag.is_private] == ["SIEMENS MR HEADER", 800]
    assert "113111" in codes(new)


def test_the_safe_list_agrees_with_pydicoms_private_dictionary() -> None:
    from pydicom._private_dict import private_dictionaries

    from pipelines.deidentify.policy import Private
    from pipelines.deidentify.table import safe_private

    listed = safe_private(Private(standard=True))
    compared = 0
    for (creator, group, element), vr in listed.items():
        known = private_dictionaries.get(creator, {}).get(f"{group:04X}xx{element:02X}")
        if known:
            assert known[0] == vr, (creator, group, element)
            compared += 1
    assert compared >= 25 and len(listed) == 75


# ---- recognizable visual features ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modality", "part", "said", "face"),
    [("CT", "HEAD", "", True), ("MR", "BRAIN", "NO", True), ("CT", "CHEST", "", False), ("DX", "SKULL", "", False),
     ("DX", "CHEST", "YES", True), ("XC", "", "NO", True)],
)  # fmt: skip
def test_a_head_is_told_and_the_sources_no_is_never_believed(modality: str, part: str, said: str, face: bool) -> None:
    ds = instance()
    ds.Modality, ds.BodyPartExamined, ds.StudyDescription = modality, part, ""
    if said:
        ds.RecognizableVisualFeatures = said
    new = read(clean(ds, policy()))
    assert new.get("RecognizableVisualFeatures") == ("YES" if face else None)
    assert "113102" not in codes(new)
    if face:
        with pytest.raises(Quarantine) as verdict:
            clean(ds, policy(visual_features="quarantine"))
        assert verdict.value.reason == "face"


def test_burned_in_is_said_from_what_was_proven() -> None:
    class Unproven(NoText):
        def clean(self, ds: Dataset) -> PixelResult:
            return PixelResult((), changed=False, proved=False)

    configure_pydicom()
    ds = instance()
    for said, expected in (("NO", None), ("YES", "YES")):
        ds.BurnedInAnnotation = said
        engine = InstanceCleaner(policy(), SECRET, Unproven(), "", frozenset())
        new = read(engine.clean(*engine.read(as_bytes(ds))))
        assert new.get("BurnedInAnnotation") == expected and "113101" not in codes(new)


def test_what_is_stored_under_a_foreign_vr_is_malformed() -> None:
    ds = instance()
    for tag, vr, value in (
        (0x00181164, "LT", b"Grimaldine"),
        (0x00185100, "LO", b"Grimaldine"),
        (0x00081070, "UN", b"X "),
    ):
        ds[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
    ds[0x00181030] = RawDataElement(Tag(0x00181030), "SH", 6, b"chest ", 0, False, True)  # a text for a text is none
    written = clean(ds, policy())
    new = read(written)
    assert 0x00181164 not in new and 0x00185100 not in new and new.ProtocolName == "chest"
    assert written.cleaned.malformed == 2 and b"Grimaldine" not in written.data


def test_codes_of_cs_are_terms_of_the_standard() -> None:
    ds = instance()
    ds.ImageType = ["ORIGINAL", "PRIMARY", "POST_PROCESSED", "GRIMALDINE"]
    ds.PatientSex, ds.ViewPosition, ds.PresentationIntentType = "CHEST", "GRIMALDINE", "FOR PRESENTATION"
    ds.ScanningSequence, ds.PhotometricInterpretation = ["SE", "IR"], "MONOCHROME2"
    new = read(clean(ds, policy()))
    assert list(new.ImageType) == ["ORIGINAL", "PRIMARY", "POST_PROCESSED", ""]
    assert (new.PatientSex, new.ViewPosition, new.PresentationIntentType) == ("", "", "FOR PRESENTATION")
    assert list(new.ScanningSequence) == ["SE", "IR"] and new.PhotometricInterpretation == "MONOCHROME2"


def test_a_description_loses_mark_up_and_addresses() -> None:
    ds = instance()
    ds.StudyDescription = '<b>CHEST</b> PA (erect) chest@pa "lung" http://chest/pa'
    assert read(clean(ds, policy())).StudyDescription == "PA erect"


def test_sequences_that_may_not_be_empty_are_removed() -> None:
    ds = instance()
    ds.ReferencedStudySequence, ds.ReferencedPerformedProcedureStepSequence = (
        Sequence([Dataset()]),
        Sequence([Dataset()]),
    )
    for name in ("basic", "longitudinal-research"):
        new = read(clean(ds, load_policy(name)))
        assert "ReferencedStudySequence" not in new and "ReferencedPerformedProcedureStepSequence" not in new
