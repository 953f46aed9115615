"""A canary: a valid radiograph in whose every corner an identity is planted, and the list of what was planted.

The corners are those where de-identified files were seen to leak. Persons and places are invented words, one for each
corner, so that a search tells which corner leaked.
"""

from __future__ import annotations

import io
import random
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, JPEGBaseline8Bit

from tests.dicoms import un_sequence

DX = "1.2.840.10008.5.1.4.1.1.1.1"
ROOT = "1.2.826.0.1.3680043.10.888."
SIDE = 256
PATIENT_ID, ID_DIGITS = "MRN-0077-41902", "7741902"
FAMILY = "Müllerschön"
_SYLLABLES = [c + v for c in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "t", "v", "z", "kr") for v in "aeiou"]


@dataclass(frozen=True)
class Plant:
    """One planted value: the corner it stands in, and its text as it stands there."""

    kind: str
    text: str


class Canary:
    """The object while it is planted. `words` of one seed differ from those of another."""

    def __init__(self, seed: int = 1) -> None:
        self.plants: list[Plant] = []
        self._rng = random.Random(seed)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = DX, JPEGBaseline8Bit
        meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
        self.ds = FileDataset(None, {}, file_meta=meta, preamble=self.word("preamble").encode().ljust(128, b"\0"))
        self.ds.SpecificCharacterSet = [f"ISO 2022 IR {n}" for n in (100, 144, 126, 87)]
        for plant in (
            _image, _container, _patient, _staff, _site, _texts, _dates, _uids, _nested, _hidden_sequences, _private,
            _graphics, _signatures, _echoes, _stream,
        ):  # fmt: skip
            plant(self)

    def plant(self, kind: str, text: str) -> str:
        """Note a value and give it back."""
        self.plants.append(Plant(kind, text))
        return text

    def word(self, kind: str) -> str:
        """A new invented word, noted."""
        return self.plant(kind, self._word())

    def person(self, kind: str) -> str:
        """A new PN value, its family name noted."""
        return f"{self.word(kind)}^{self._word()}"

    def _word(self) -> str:
        return "".join(self._rng.choices(_SYLLABLES, k=5)).capitalize()

    def bytes(self) -> bytes:
        """The Part 10 file."""
        buffer = io.BytesIO()
        self.ds.save_as(buffer, enforce_file_format=True)
        return _with_group_length(buffer.getvalue(), self.word("group length"))


def _image(c: Canary) -> None:
    ds = c.ds
    ds.SOPClassUID, ds.Modality, ds.BodyPartExamined, ds.ViewPosition = DX, "DX", "CHEST", "PA"
    ds.ImageType, ds.PatientSex, ds.Manufacturer = ["ORIGINAL", "PRIMARY"], "F", "Acme Imaging"
    ds.PresentationIntentType, ds.SeriesNumber, ds.InstanceNumber = "FOR PRESENTATION", 1, 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", SIDE, SIDE
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelSpacing, ds.WindowCenter, ds.WindowWidth = ["0.35", "0.35"], 120, 200


def _container(c: Canary) -> None:
    meta = c.ds.file_meta
    meta.SourceApplicationEntityTitle = c.word("file meta")
    meta.SendingApplicationEntityTitle = c.word("file meta")
    meta.ReceivingApplicationEntityTitle = c.word("file meta")
    meta.ImplementationVersionName = c.word("file meta")
    meta.PrivateInformationCreatorUID = c.plant("file meta", ROOT + "9.71")
    meta.PrivateInformation = c.word("file meta").encode()


def _patient(c: Canary) -> None:
    ds = c.ds
    c.plant("patient, kanji", "山田")
    c.plant("patient, kana", "やまだ")
    ds.PatientName = f"{c.plant('patient, Latin 1', FAMILY)}^Xaverine^Q=山田^花子=やまだ^はなこ"
    ds.PatientID, ds.AccessionNumber = c.plant("patient", PATIENT_ID), c.plant("order", "ACQ55190377")
    ds.PatientBirthDate, ds.PatientAge = c.plant("birth date", "19310521"), c.plant("age over 89", "097Y")
    ds.OtherPatientIDs, ds.MedicalRecordLocator = c.plant("patient", "OLDX66310442"), c.word("patient")
    ds.OtherPatientNames, ds.PatientBirthName = c.plant("patient, Cyrillic", "Кузнецовская"), c.person("patient")
    ds.PatientMotherBirthName, ds.ResponsiblePerson = c.plant("patient, Greek", "Παπαδοπούλου"), c.person("patient")
    ds.PatientAddress = c.word("patient address") + " 14"
    ds.PatientTelephoneNumbers = c.plant("telephone", "+1 415-555-0143")
    ds.EthnicGroup, ds.Occupation, ds.MilitaryRank = c.word("patient"), c.word("patient"), c.word("patient")
    ds.CountryOfResidence, ds.RegionOfResidence = c.word("patient"), c.word("patient")
    ds.PatientReligiousPreference, ds.BranchOfService = c.word("patient"), c.word("patient")
    ds.AdditionalPatientHistory, ds.PatientComments = f"fell, {c.word('long text')} saw it", c.word("long text")
    ds.add_new(0x00101050, "LO", c.word("retired attribute"))  # Insurance Plan Identification


def _staff(c: Canary) -> None:
    ds = c.ds
    for keyword in (
        "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "RequestingPhysician",
        "NameOfPhysiciansReadingStudy", "PhysiciansOfRecord", "ScheduledPerformingPhysicianName",
    ):  # fmt: skip
        setattr(ds, keyword, c.person("staff"))
    code, who = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "D9", "99HOSP", c.word("staff")
    who.PersonIdentificationCodeSequence = Sequence([code])
    who.PersonAddress, who.InstitutionName = c.word("staff"), c.word("institution")
    who.PersonTelephoneNumbers = c.plant("telephone", "628 555 0177")
    ds.ReferringPhysicianIdentificationSequence = Sequence([who])
    ds.add_new(0x40080114, "PN", c.person("retired attribute"))  # Physician Approving Interpretation


def _site(c: Canary) -> None:
    ds = c.ds
    for keyword in (
        "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber",
        "CurrentPatientLocation", "AdmissionID", "ServiceEpisodeID", "ServiceEpisodeDescription", "StudyID",
        "PerformedStationName", "PerformedLocation", "PerformedProcedureStepID", "GantryID", "DetectorID", "CassetteID",
        "PlateID", "FillerOrderNumberImagingServiceRequest", "PlacerOrderNumberImagingServiceRequest",
    ):  # fmt: skip
        setattr(ds, keyword, c.word("site or device"))
    ds.RetrieveAETitle, ds.PerformedStationAETitle = c.word("AE title"), c.word("AE title")
    ds.DeviceUID = c.plant("UID", ROOT + "9.11")


def _texts(c: Canary) -> None:
    """One invented word in every text VR, in attributes of the table and outside it."""
    ds = c.ds
    for keyword in (
        "StudyDescription", "SeriesDescription", "ProtocolName", "ImageComments", "RequestedProcedureDescription",
        "PerformedProcedureStepDescription", "CommentsOnThePerformedProcedureStep", "AdmittingDiagnosesDescription",
        "DerivationDescription", "AcquisitionDeviceProcessingDescription", "ContrastBolusAgent",
        "ReasonForStudy", "RequestedContrastAgent", "VisitComments", "Allergies", "MedicalAlerts",
        "PerformedProcedureTypeDescription",
    ):  # fmt: skip
        setattr(ds, keyword, f"chest {c.word('free text')} erect")
    ds.StudyComments, ds.AcquisitionComments = c.word("retired attribute"), c.word("retired attribute")
    ds.add_new(0x00084000, "LT", c.word("retired attribute"))  # Identifying Comments
    ds.add_new(0x00284000, "LT", c.word("retired attribute"))  # Image Presentation Comments
    ds.add_new(0x40004000, "LT", c.word("retired attribute"))  # Text Comments
    ds.RetrieveURL = f"https://pacs.example/{c.word('UR')}"
    ds.RetrieveURI = f"https://pacs.example/{c.word('UT')}"
    ds.StrainDescription, ds.TextValue = c.word("UC"), c.word("UT")
    ds.add_new(0x00180009, "LO", c.word("unregistered attribute"))
    ds.add_new(0x00290009, "LO", c.word("private element without a creator"))
    _raw(ds, 0x00181018, "LO", f"Thorax\0{c.word('behind a NUL')}")
    _raw(ds, 0x00185101, "CS", c.word("name as a code string").upper())
    ds.ImageType = [*ds.ImageType, c.word("name as a code string").upper()]


def _dates(c: Canary) -> None:
    ds = c.ds
    ds.StudyDate, ds.StudyTime = c.plant("date", "20190304"), "104233"
    ds.AcquisitionDateTime = c.plant("date", "20190305104233.120")
    ds.LastMenstrualDate, ds.DateOfLastCalibration = c.plant("date", "20190211"), c.plant("date", "20180917")
    ds.add_new(0x00321000, "DA", c.plant("date", "20190228"))  # Scheduled Study Start Date, retired
    ds.ManufacturerModelName = f"Ray {c.plant('date in a text', '04.03.2019')}"
    ds.ConvolutionKernel = f"K {c.plant('date in a text', '2019-03-04')}"
    ds.DetectorType = c.plant("date in a text", "03/04/2019")
    ds.FilterType = f"as of {c.plant('date in a text', '4 March 2019')}"
    ds.PositionReferenceIndicator = c.plant("date in a text", "21.05.31")


def _uids(c: Canary) -> None:
    ds = c.ds
    for number, keyword in enumerate(
        ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "IrradiationEventUID",
         "SynchronizationFrameOfReferenceUID"), 1
    ):  # fmt: skip
        setattr(ds, keyword, c.plant("UID", f"{ROOT}20190304.{number}"))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = DX, c.plant("UID", ROOT + "20190304.77")
    ds.ReferencedImageSequence = Sequence([reference])
    ds.DeviceDescription = f"from {ROOT}20190304.1"


def _nested(c: Canary) -> None:
    """Items of sequences in and outside Table E.1-1, down to twelve levels, in character sets of their own."""
    code, region, request, deep = Dataset(), Dataset(), Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "36643-5", "LN", f"XR {c.word('nested')}"
    code.PatientName, code.PatientID = c.person("nested"), c.plant("nested", "NESTX880417")
    c.ds.ProcedureCodeSequence = Sequence([code])
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "51185008", "SCT", "Chest"
    region.ReferringPhysicianName, region.StudyDate = c.person("nested"), c.plant("nested", "20190107")
    modifier = Dataset()
    modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = "1", "SCT", c.word("nested")
    modifier.SpecificCharacterSet = "GB18030"
    modifier.PatientName = c.plant("nested, GB18030", "欧阳娜娜")
    region.AnatomicRegionModifierSequence = Sequence([modifier])
    c.ds.AnatomicRegionSequence = Sequence([region])
    request.RequestedProcedureID, request.ScheduledProcedureStepDescription = c.word("nested"), c.word("nested")
    request.RequestAttributesSequence = Sequence([_level(c, 1)])
    c.ds.RequestAttributesSequence = Sequence([request])
    deep.SpecificCharacterSet, deep.PatientName = "ISO_IR 13", c.plant("nested, half-width kana", "ﾔﾏﾀﾞｻｸﾗ")
    deep.PatientAge = c.plant("age over 89", "101Y")
    c.ds.ReferencedPatientSequence = Sequence([deep])
    c.ds.ContentSequence = Sequence([_content(c)])


def _level(c: Canary, depth: int) -> Dataset:
    item = Dataset()
    item.CodeMeaning = "chest"
    if depth < 12:
        item.ConceptCodeSequence = Sequence([_level(c, depth + 1)])
    else:
        item.PatientName, item.CodeMeaning = c.person("twelve levels down"), c.word("twelve levels down")
    return item


def _content(c: Canary) -> Dataset:
    concept, item = Dataset(), Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "121071", "DCM", "Finding"
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", "TEXT", Sequence([concept])
    item.TextValue = f"seen with {c.word('content item')}"
    item.PersonName, item.DateTime = c.person("content item"), c.plant("content item", "20181224101010")
    return item


def _hidden_sequences(c: Canary) -> None:
    """Sequences and names that a writer stored as UN (PS3.5 6.2.2), of explicit and of undefined length."""
    item, other = Dataset(), Dataset()
    item.PatientName, item.CodeMeaning = c.person("sequence in UN"), c.word("sequence in UN")
    c.ds[0x00082220] = un_sequence(0x00082220, item)  # Anatomic Region Modifier Sequence
    other.PatientName, other.PatientComments = c.person("sequence in UN"), c.word("sequence in UN")
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_dataset(buffer, other, "utf8")
    value = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + buffer.getvalue() + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    tag = Tag(0x00540220)  # View Code Sequence
    c.ds[tag] = RawDataElement(tag, "UN", len(value), value, 0, False, True)
    _raw(c.ds, 0x0008009C, "UN", c.word("name in UN"))
    _raw(c.ds, 0x00189424, "UN", c.word("text in UN"))


def _private(c: Canary) -> None:
    block = c.ds.private_block(0x0009, "ACME HIS", create=True)
    block.add_new(0x01, "LO", c.word("private"))
    block.add_new(0x02, "UN", c.word("private").encode())
    item, inner = Dataset(), Dataset()
    inner.PatientName, inner.PatientComments = c.person("private sequence"), c.word("private sequence")
    item.add_new(0x00091001, "LO", c.word("private sequence"))
    item.ReferencedStudySequence = Sequence([inner])
    block.add_new(0x03, "SQ", [item])
    block.add_new(0x04, "DA", c.plant("private", "20190306"))
    c.ds.private_block(0x0011, c.word("private creator"), create=True).add_new(0x01, "DS", "1.5")
    nested = c.ds.ProcedureCodeSequence[0].private_block(0x0013, "ACME HIS", create=True)
    nested.add_new(0x01, "PN", c.person("private, nested"))


def _graphics(c: Canary) -> None:
    ds = c.ds
    data = c.word("overlay data").encode()
    for number, vr, value in (
        (0x0010, "US", 8), (0x0011, "US", len(data)), (0x0040, "CS", "G"), (0x0050, "SS", [1, 1]),
        (0x0100, "US", 1), (0x0102, "US", 0), (0x3000, "OB", data + b"\0" * (len(data) % 2)),
        (0x0022, "LO", c.word("overlay description")), (0x1500, "LO", c.word("overlay label")),
        (0x4000, "LT", c.word("overlay comment")),
    ):  # fmt: skip
        ds.add_new(0x60000000 | number, vr, value)
    ds.add_new(0x50000005, "US", 1)
    ds.add_new(0x50002500, "LO", c.word("curve label"))
    ds.add_new(0x50003000, "OB", c.word("curve data").encode().ljust(14, b"\0"))
    ds.add_new(0x50002200, "OB", c.word("audio comment").encode().ljust(14, b"\0"))
    icon, data = Dataset(), c.word("icon pixels").encode().ljust(16, b"\0")
    icon.SamplesPerPixel, icon.PhotometricInterpretation, icon.Rows, icon.Columns = 1, "MONOCHROME2", 1, len(data)
    icon.BitsAllocated, icon.BitsStored, icon.HighBit, icon.PixelRepresentation = 8, 8, 7, 0
    icon.PixelData = data
    icon["PixelData"].VR = "OB"
    ds.IconImageSequence = Sequence([icon])
    text = Dataset()
    text.UnformattedTextValue, text.BoundingBoxAnnotationUnits = c.word("graphic annotation"), "PIXEL"
    layer = Dataset()
    layer.GraphicLayer, layer.TextObjectSequence = c.word("graphic annotation").upper(), Sequence([text])
    ds.GraphicAnnotationSequence = Sequence([layer])


def _signatures(c: Canary) -> None:
    ds = c.ds
    ds.DataSetTrailingPadding = c.word("trailing padding").encode().ljust(14, b"\0")
    signature, original, before, sealed = Dataset(), Dataset(), Dataset(), Dataset()
    signature.MACIDNumber, signature.DigitalSignatureUID = 1, c.plant("signature", ROOT + "9.33")
    signature.DigitalSignatureDateTime = c.plant("signature", "20190307101010")
    signature.CertificateType, signature.CertificateOfSigner = "X509_1993_SIG", c.word("signature").encode()
    ds.DigitalSignaturesSequence = Sequence([signature])
    before.PatientName, before.PatientID = c.person("original attributes"), c.plant("original attributes", "ORIGX70021")
    original.ModifyingSystem, original.SourceOfPreviousValues = (
        c.word("original attributes"),
        c.word("original attributes"),
    )
    original.ModifiedAttributesSequence = Sequence([before])
    ds.OriginalAttributesSequence = Sequence([original])
    sealed.EncryptedContentTransferSyntaxUID = "1.2.840.10008.1.2"
    sealed.EncryptedContent = c.word("encrypted attributes").encode().ljust(14, b"\0")
    ds.EncryptedAttributesSequence = Sequence([sealed])


def _echoes(c: Canary) -> None:
    """The patient once more, in other spellings, in technical attributes that any policy keeps."""
    ds = c.ds
    ds.Manufacturer = f"Acme for {c.plant('echo, transliterated', 'Muellerschoen')}"
    ds.SequenceName = c.plant("echo, without accents", "MULLERSCHON")
    ds.FilterMaterial = f"Al {c.plant('echo, given name', 'Xaverine')}"
    ds.ReceiveCoilName = c.plant("echo, Cyrillic in Latin letters", "Kuznetsovskaya")
    ds.TransmitCoilName = c.plant("echo, Greek in Latin letters", "Papadopoulou")
    ds.ScanOptions = c.plant("echo, other order", "XAVERINE MULLERSCHOEN")
    ds.SoftwareVersions = ["3.1", c.plant("echo, second value", "XAVERINE Q.")]
    ds.ExposureControlModeDescription = f"bed {c.plant('echo, digits of the ID', ID_DIGITS)}"
    ds.RescaleType = c.plant("echo, telephone as digits", "4155550143")
    ds.LUTExplanation = f"of {c.plant('echo, telephone as digits', '6285550177')}"
    ds.WindowCenterWidthExplanation = c.plant("echo, other separators", "MRN 0077/41902")


def _stream(c: Canary) -> None:
    """A JPEG with a comment, an EXIF segment and bytes behind its end."""
    rows = np.linspace(60, 190, SIDE)[:, None] + np.random.default_rng(3).normal(0, 3, (SIDE, SIDE))
    buffer = io.BytesIO()
    Image.fromarray(rows.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    data, found = buffer.getvalue(), b""
    for marker, content in (
        (0xFFFE, c.word("comment in the JPEG").encode()),
        (0xFFE1, b"Exif\0\0" + c.word("EXIF in the JPEG").encode()),
    ):
        found += struct.pack(">HH", marker, len(content) + 2) + content
    data = data[:2] + found + data[2:] + c.word("behind the end of the JPEG").encode()
    c.ds[0x7FE00010] = DataElement(0x7FE00010, "OB", encapsulate([data]), is_undefined_length=True)


def _raw(ds: Dataset, tag: int, vr: str, value: str) -> None:
    data = value.encode()
    data += b" " * (len(data) % 2)
    ds[tag] = RawDataElement(Tag(tag), vr, len(data), data, 0, False, True)


def _with_group_length(data: bytes, value: str) -> bytes:
    """The file with an element (0018,0000) that holds a text; pydicom reads such an element but writes none."""
    ds = dcmread(io.BytesIO(data))
    first = next(ds.get_item(tag) for tag in sorted(ds.keys()) if tag >> 16 == 0x18)
    at, text = first.value_tell - 8, value.encode() + b" " * (len(value) % 2)
    return data[:at] + struct.pack("<HH2sH", 0x18, 0, b"LO", len(text)) + text + data[at:]
