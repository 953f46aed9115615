"""CR and DX instances with identities planted wherever exports are known to leak them.

Attributes follow the CR Image and DX Image IODs (PS3.3 A.2, A.26).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence

from pipelines.practice.people import ISSUER, MACHINES, Person
from pipelines.practice.pixels import Encoding, store_pixels
from pipelines.practice.plan import Study
from pipelines.practice.reports import age_text

Array = NDArray[Any]

CR = "1.2.840.10008.5.1.4.1.1.1"
DX_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
DX_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
IMPLICIT = "1.2.840.10008.1.2"
PREAMBLE = 132


@dataclass(frozen=True)
class Instance:
    """What one file is to hold."""

    study: Study
    person: Person
    doctor: Person
    technologist: Person
    machine: int
    number: int  # of the instance in its study, from 1
    view: str  # AP | PA | LATERAL
    sop: str
    series: str
    study_uid: str
    encoding: Encoding
    processing: bool = False  # FOR PROCESSING twin
    preamble: str = "full"  # full | missing | bare (neither preamble nor file meta)
    name_in_preamble: bool = False


def build_instance(what: Instance, image: Array, spacing: float, rng: np.random.Generator) -> tuple[bytes, list[Any]]:
    """The file's bytes and the list of planted values {where, kind, value}."""
    person = what.person
    maker, model, modality = MACHINES[what.machine]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DX_PROCESSING if what.processing else DX_PRESENTATION if modality == "DX" else CR
    meta.MediaStorageSOPInstanceUID = what.sop
    meta.ImplementationClassUID = "2.25.302187465012938475610293847561029384756"
    letters = "".join(c for c in person.last.upper() if "A" <= c <= "Z")
    meta.SourceApplicationEntityTitle = f"CXR_{letters[:6]}"
    opening = person.last.encode() if what.name_in_preamble else b""
    ds = FileDataset(None, {}, file_meta=meta, preamble=opening.ljust(128, b"\0"))
    _patient(ds, what)
    _study(ds, what, rng)
    _nested(ds, what)
    ds.Manufacturer, ds.ManufacturerModelName, ds.Modality = maker, model, modality
    _acquisition(ds, what, spacing, rng)
    if modality == "DX":
        _dx(ds, what, spacing)
    store_pixels(ds, image, what.encoding)
    data = _serialise(ds, what.preamble)
    return data, _planted(ds, what)


def _patient(ds: Dataset, what: Instance) -> None:
    person, study = what.person, what.study
    names = [p.pn for p in (person, what.doctor, what.technologist)] + [study.hospital, person.street]
    western = all(_fits(value, "latin-1") for value in names) and study.number % 3 == 0
    ds.SpecificCharacterSet = "ISO_IR 100" if western else "ISO_IR 192"
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = person.pn, person.mrn, ISSUER
    ds.PatientSex, ds.PatientBirthDate = person.sex, f"{person.birth:%Y%m%d}"
    ds.PatientAge = age_text(person.birth, study.when)
    ds.PatientAddress, ds.PatientTelephoneNumbers = person.street, person.phone
    ds.OtherPatientIDsSequence = Sequence([Dataset()])
    ds.OtherPatientIDsSequence[0].PatientID = "X" + person.mrn
    ds.OtherPatientIDsSequence[0].IssuerOfPatientID = ISSUER + " ARCHIVE"
    ds.OtherPatientIDsSequence[0].TypeOfPatientID = "TEXT"


def _fits(value: str, charset: str) -> bool:
    try:
        value.encode(charset)
    except UnicodeEncodeError:
        return False
    return True


def _study(ds: Dataset, what: Instance, rng: np.random.Generator) -> None:
    study, person = what.study, what.person
    day = f"{study.when:%Y%m%d}"
    ds.SOPClassUID, ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPClassUID, what.sop
    ds.StudyInstanceUID, ds.SeriesInstanceUID = what.study_uid, what.series
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day
    time = f"{int(rng.integers(6, 22)):02d}{int(rng.integers(0, 60)):02d}{int(rng.integers(0, 60)):02d}"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time
    ds.AcquisitionDateTime = f"{day}{time}.120"
    ds.AccessionNumber, ds.StudyID = study.accession, study.accession[-4:]
    ds.SeriesNumber, ds.InstanceNumber = what.number, 1
    ds.InstitutionName, ds.InstitutionAddress = study.hospital, "1 Hospital Way"
    ds.InstitutionalDepartmentName = "Radiology"
    ds.ReferringPhysicianName, ds.OperatorsName = what.doctor.pn, what.technologist.pn
    ds.StationName, ds.DeviceSerialNumber = f"CXR-ROOM-{study.accession[-2:]}", f"SN{study.accession[-5:]}"
    plain = ["XR CHEST 1 VIEW", "Chest PA" if study.view == "PA" else "Chest AP portable", "CHEST"]
    ds.StudyDescription = str(rng.choice([*plain, f"CHEST {person.last.upper()} ICU"]))
    ds.SeriesDescription = {"LATERAL": "Chest lateral"}.get(what.view, f"Chest {what.view}")
    ds.ImageComments = f"Repeat for {person.first} {person.last}, call {what.doctor.phone}"


def _nested(ds: Dataset, what: Instance) -> None:
    """Identity two sequences deep, in referenced UIDs and in private elements, one of them UN."""
    person, study = what.person, what.study
    inner = Dataset()
    inner.PatientName, inner.PerformedProcedureStepStartDate = person.pn, f"{study.when:%Y%m%d}"
    item = Dataset()
    item.ScheduledProcedureStepDescription = f"portable for {person.last}"
    item.RequestedProcedureID = study.accession
    item.ReferencedPatientSequence = Sequence([inner])
    ds.RequestAttributesSequence = Sequence([item])
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CR, what.sop
    ds.ReferencedImageSequence = Sequence([reference])
    block = ds.private_block(0x0009, "ACME HIS", create=True)
    block.add_new(0x01, "LO", person.pn)
    unknown = f"{person.mrn} {person.last}".encode()
    block.add_new(0x02, "UN", unknown + b" " * (len(unknown) % 2))
    ds.private_block(0x0019, "ACME GEOMETRY", create=True).add_new(0x01, "DS", "0.4")


def _acquisition(ds: Dataset, what: Instance, spacing: float, rng: np.random.Generator) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY"] if what.processing else ["DERIVED", "PRIMARY"]
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "LL" if what.view == "LATERAL" else what.view
    ds.PatientOrientation = ["A", "F"] if what.view == "LATERAL" else ["L", "F"]
    portable = what.view == "AP"
    ds.KVP = str(int(rng.choice([85, 90, 100]) if portable else rng.choice([110, 117, 125])))
    ds.Exposure = str(int(rng.integers(1, 7)))
    ds.DistanceSourceToDetector = "1000" if portable else "1800"
    ds.ImagerPixelSpacing = [f"{spacing:.5f}", f"{spacing:.5f}"]
    ds.PixelSpacing = [f"{spacing:.5f}", f"{spacing:.5f}"]


def _dx(ds: Dataset, what: Instance, spacing: float) -> None:
    """What the DX IOD asks for beyond CR."""
    ds.PresentationIntentType = "FOR PROCESSING" if what.processing else "FOR PRESENTATION"
    ds.ImageLaterality = "U"
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "51185008", "SCT", "Chest"
    ds.AnatomicRegionSequence = Sequence([region])
    view = Dataset()
    code = {
        "AP": ("399348003", "antero-posterior"),
        "PA": ("272479007", "postero-anterior"),
        "LATERAL": ("399198007", "left lateral"),
    }
    view.CodeValue, view.CodeMeaning = code[what.view]
    view.CodingSchemeDesignator = "SCT"
    view.ViewModifierCodeSequence = Sequence([])
    ds.ViewCodeSequence = Sequence([view])
    ds.AcquisitionContextSequence = Sequence([])
    ds.DetectorType, ds.DetectorConfiguration, ds.PositionerType = "SCINTILLATOR", "AREA", "NONE"
    ds.PixelIntensityRelationship = "LIN" if what.processing else "LOG"
    ds.PixelIntensityRelationshipSign = 1 if what.processing else -1


def _serialise(ds: FileDataset, preamble: str) -> bytes:
    buffer = io.BytesIO()
    if preamble == "bare":
        bare = Dataset()
        bare.update({element.tag: element for element in ds})
        bare.SpecificCharacterSet = ds.SpecificCharacterSet
        dcmwrite(buffer, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
        return buffer.getvalue()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()[PREAMBLE if preamble == "missing" else 0 :]


def _planted(ds: FileDataset, what: Instance) -> list[dict[str, str]]:
    """Every planted value that the file's bytes hold."""
    person, doctor, tech = what.person, what.doctor, what.technologist
    day = f"{what.study.when:%Y%m%d}"
    rows = [
        ("PatientName", "NAME", person.first), ("PatientName", "NAME", person.last), ("PatientID", "ID", person.mrn),
        ("PatientBirthDate", "DATE", ds.PatientBirthDate), ("StudyDate", "DATE", day),
        ("AcquisitionDateTime", "DATE", ds.AcquisitionDateTime), ("AccessionNumber", "ID", what.study.accession),
        ("InstitutionName", "HOSPITAL", what.study.hospital), ("InstitutionAddress", "ADDRESS", ds.InstitutionAddress),
        ("ReferringPhysicianName", "NAME", doctor.first), ("ReferringPhysicianName", "NAME", doctor.last),
        ("OperatorsName", "NAME", tech.first), ("OperatorsName", "NAME", tech.last),
        ("PatientAddress", "ADDRESS", person.street), ("PatientTelephoneNumbers", "PHONE", person.phone),
        ("ImageComments", "PHONE", doctor.phone), ("ImageComments", "NAME", f"{person.first} {person.last}"),
        ("OtherPatientIDsSequence.PatientID", "ID", "X" + person.mrn),
        ("RequestAttributesSequence.ReferencedPatientSequence.PatientName", "NAME", person.pn),
        ("(0009,1001)", "NAME", person.pn), ("(0009,1002)", "ID", person.mrn),
        ("SOPInstanceUID", "UID", what.sop), ("StudyInstanceUID", "UID", what.study_uid),
        ("SeriesInstanceUID", "UID", what.series),
        ("ReferencedImageSequence.ReferencedSOPInstanceUID", "UID", what.sop),
        ("DeviceSerialNumber", "ID", ds.DeviceSerialNumber), ("StationName", "ID", ds.StationName),
    ]  # fmt: skip
    if what.preamble != "bare":
        rows.append(("SourceApplicationEntityTitle", "ID", ds.file_meta.SourceApplicationEntityTitle))
    if what.name_in_preamble and what.preamble == "full":
        rows.append(("preamble", "NAME", person.last))
    return [{"where": where, "kind": kind, "value": str(value)} for where, kind, value in rows]
