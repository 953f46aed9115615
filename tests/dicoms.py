"""Small DICOM objects and exports made by hand, with identities planted where exports are known to leak from."""

import csv
import io
from pathlib import Path

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

DX = "1.2.840.10008.5.1.4.1.1.1.1"
ROOT = "1.2.826.0.1.3680043.10.777."
# Every value that must not come out again, by the place it is planted in.
CANARIES = {
    "PatientName": "Kvothensdottir^Zimraana",
    "PatientID": "MRN7700123",
    "OtherPatientIDs": "OLDMRN55419",
    "AccessionNumber": "ACCN900417",
    "InstitutionName": "Quibblethorpe Infirmary",
    "InstitutionAddress": "77 Nettlewick Crescent",
    "PatientAddress": "14 Marrowbone Parade",
    "PatientTelephoneNumbers": "415-555-0143",
    "ReferringPhysicianName": "Obadinsky^Ferenc",
    "OperatorsName": "Tillvander^Rutger",
    "StationName": "XRAYNODE-83",
    "DeviceSerialNumber": "SER-448812",
    "StudyID": "STID88213",
    "preamble": "Grzybowksa",
    "SourceApplicationEntityTitle": "SRCAE_VIII",
    "private": "Wolfhagenroth^Petra",
    "nested": "Undinewald^Marius",
    "un_sequence": "Xanthopoulou^Ilias",
    "comment": "nurse Brendalina called 628-555-0177",
    "overlay": "Overlayinski",
    "unknown": "Unknownsberg",
    "padding": "Paddingstedt",
    "icon": "Iconhauser",
}
STUDY_DATE, BIRTH_DATE = "20190304", "19310521"


def instance(
    number: int = 1,
    *,
    patient: str = CANARIES["PatientID"],
    name: str = CANARIES["PatientName"],
    accession: str = CANARIES["AccessionNumber"],
    study: str = "1",
    side: int = 48,
    seed: int = 0,
) -> FileDataset:
    """A plain DX image of `side` x `side` pixels without text, its header as a modality would write it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = DX, f"{ROOT}{STUDY_DATE}.{study}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet, ds.SOPClassUID, ds.SOPInstanceUID = "ISO_IR 192", DX, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}{study}.100", f"{ROOT}{study}.200"
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition, ds.ImageType = "DX", "CHEST", "PA", ["ORIGINAL", "PRIMARY"]
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientAge = name, patient, "F", "087Y"
    ds.PatientBirthDate, ds.StudyDate, ds.StudyTime = BIRTH_DATE, STUDY_DATE, "104233"
    ds.AccessionNumber, ds.SeriesNumber, ds.InstanceNumber = accession, 1, number
    ds.Manufacturer, ds.StudyDescription = "Acme Imaging", "CHEST PA"
    rng = np.random.default_rng(seed + number)
    noise = (rng.normal(120, 3, (side, side)) + np.linspace(-40, 40, side)).clip(0, 255).astype(np.uint8)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", side, side
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelSpacing, ds.WindowCenter, ds.WindowWidth = ["0.35", "0.35"], 120, 200
    ds.PixelData = noise.tobytes()
    return ds


def canary(number: int = 1) -> FileDataset:
    """An instance with every value of CANARIES in its place, the file meta and the preamble included."""
    ds = instance(number)
    for keyword in (
        "OtherPatientIDs", "InstitutionName", "InstitutionAddress", "PatientAddress", "PatientTelephoneNumbers",
        "ReferringPhysicianName", "OperatorsName", "StationName", "DeviceSerialNumber", "StudyID",
    ):  # fmt: skip
        setattr(ds, keyword, CANARIES[keyword])
    ds.StudyDescription = "CHEST KVOTHENSDOTTIR ICU"
    ds.ImageComments = f"{CANARIES['comment']} on 04.03.2019"
    ds.SeriesDate, ds.AcquisitionDateTime = STUDY_DATE, STUDY_DATE + "104233.120"
    ds.preamble = CANARIES["preamble"].encode().ljust(128, b"\0")
    ds.file_meta.SourceApplicationEntityTitle = CANARIES["SourceApplicationEntityTitle"]
    ds.file_meta.ImplementationVersionName = "ACME_9"
    inner = Dataset()
    inner.PatientName, inner.PatientID = CANARIES["nested"], CANARIES["PatientID"]
    inner.PerformedProcedureStepStartDate = STUDY_DATE
    outer = Dataset()
    outer.ScheduledProcedureStepDescription = "portable for Undinewald"
    outer.ReferencedPatientSequence = Sequence([inner])
    outer.AccessionNumber = CANARIES["AccessionNumber"]
    ds.RequestAttributesSequence = Sequence([outer])
    region = Dataset()  # in no row of Table E.1-1
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "T-D3000", "SRT", "Chest of Kvothensdottir"
    region.PatientName = CANARIES["nested"]
    ds.AnatomicRegionSequence = Sequence([region])
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = DX, ds.SOPInstanceUID
    ds.ReferencedImageSequence = Sequence([reference])
    _plant_private(ds)
    ds.add_new(0x60000010, "US", 4)
    ds.add_new(0x60001500, "LO", CANARIES["overlay"])
    ds.add_new(0x60004000, "LT", CANARIES["overlay"])
    ds.add_new(0x50000040, "LO", CANARIES["overlay"])
    ds.add_new(0x00180009, "LO", CANARIES["unknown"])
    ds.add_new(0x00880200, "SQ", [_icon()])
    ds.DataSetTrailingPadding = CANARIES["padding"].encode()
    return ds


def _icon() -> Dataset:
    icon = Dataset()
    icon.Rows, icon.Columns, icon.PixelData = 1, 10, CANARIES["icon"].encode()
    icon["PixelData"].VR = "OB"
    return icon


def _plant_private(ds: FileDataset) -> None:
    block = ds.private_block(0x0009, "ACME HIS", create=True)
    block.add_new(0x01, "LO", CANARIES["private"])
    block.add_new(0x02, "UN", f"{CANARIES['PatientID']} Wolfhagenroth".encode())
    item = Dataset()
    item.PatientName, item.PatientComments = CANARIES["private"], CANARIES["private"]
    block.add_new(0x03, "SQ", [item])


def un_sequence(tag: int, item: Dataset) -> RawDataElement:
    """A sequence as a modality writes it that does not know the attribute: VR UN, implicit VR inside (PS3.5 6.2.2)."""
    holder = Dataset()
    holder.add_new(tag, "SQ", [item])
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_sequence(buffer, holder[tag], ["utf8"])
    value = buffer.getvalue()
    return RawDataElement(holder[tag].tag, "UN", len(value), value, 0, False, True)


def as_bytes(ds: FileDataset, *, implicit: bool = False) -> bytes:
    """The Part 10 file of a dataset."""
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def without_preamble(data: bytes) -> bytes:
    """The bare dataset of an explicit little-endian Part 10 file: no preamble, no file meta."""
    length = int.from_bytes(data[140:144], "little")
    return data[144 + length :]


def write_export(folder: Path, patients: int = 3, studies: int = 2) -> Path:
    """An export in folders named after patients, with reports, labels, a mask, a duplicate, a conflict and rubbish."""
    reports, labels = [], []
    for p in range(patients):
        name = f"{('Abernathy', 'Dlamini', 'Quispe')[p % 3]}^{('Ingrid', 'Chidi', 'Rosa')[p % 3]}"
        for s in range(studies):
            accession = f"ACC55{p:02d}{s:02d}17"
            home = folder / "DICOM" / name.replace("^", "_") / f"study {s}"
            home.mkdir(parents=True)
            ds = instance(1, patient=f"88{p:03d}4417", name=name, accession=accession, study=f"{p}.{s}", seed=7 * p + s)
            (home / "IM1").write_bytes(as_bytes(ds, implicit=bool(s % 2)))
            text = (
                f"PATIENT: {name.replace('^', ', ')}  MRN: {ds.PatientID}\nFINDINGS: Clear lungs.\nIMPRESSION: Normal."
            )
            reports.append({"accession": accession, "patient_id": ds.PatientID, "name": name.replace("^", ", "),
                            "ordered": "2019-03-04", "signed": "2019-03-04", "text": text})  # fmt: skip
            labels.append(
                {"accession": accession, "labels": "No Finding" if s else "Edema|Effusion", "ett": "Y" * (1 - s)}
            )
    first = sorted((folder / "DICOM").rglob("IM1"))[0]
    (first.parent / "again").write_bytes(first.read_bytes())
    clash = instance(9, patient="887770001", name="Haddad^Emre", accession="ACC9999001", study="9.9", seed=1)
    other = instance(9, patient="887770001", name="Haddad^Emre", accession="ACC9999001", study="9.9", seed=2)
    (first.parent / "clash1").write_bytes(as_bytes(clash))
    (first.parent / "clash2").write_bytes(as_bytes(other))
    (first.parent / "cut").write_bytes(first.read_bytes()[:900])
    (first.parent / "NOTES.TXT").write_text("call me about Abernathy")
    (first.parent / "empty").write_bytes(b"")
    _write_csv(folder / "reports.csv", reports)
    _write_csv(folder / "labels.csv", [*labels, {"accession": "NOSUCH1", "labels": "Edema", "ett": ""}])
    _write_mask(folder / "lung_masks" / f"{reports[0]['accession']}.png", 48)
    _write_mask(folder / "lung_masks" / f"{reports[1]['accession']}.png", 47)
    return folder


def _write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_mask(path: Path, side: int) -> None:
    from PIL import Image, PngImagePlugin

    path.parent.mkdir(exist_ok=True)
    mask = np.zeros((side, side), np.uint8)
    mask[8:30, 8:20] = 255
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "drawn for Abernathy")
    Image.fromarray(mask).save(path, pnginfo=info)
