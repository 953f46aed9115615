"""A tiny export with planted identities, its answer key, and the clean output that a perfect stage would write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from pipelines import tables
from pipelines.contract import sha256_file
from pipelines.keys import DerivationSecret

DX = "1.2.840.10008.5.1.4.1.1.1.1"
KEPT = (
    "SOPClassUID Modality BodyPartExamined ViewPosition PatientSex PatientAge Rows Columns SamplesPerPixel "
    "PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation PixelSpacing"
)


@dataclass(frozen=True)
class Person:
    first: str
    last: str
    mrn: str
    phone: str


PEOPLE = (
    Person("Jürgen", "Šimůnek", "50211877", "312-555-0147"),
    Person("Will", "Heart", "61093342", "206-555-0122"),
    Person("Beatriz", "Castellanos", "77310956", "617-555-0190"),
)
# (person, study day)
STUDIES = ((0, date(2019, 3, 5)), (0, date(2019, 9, 17)), (1, date(2020, 1, 22)), (2, date(2020, 6, 9)))
BURNED_IN = 1
CLINICAL = "The heart is not enlarged. No line is seen. Lungs are clear."


class World:
    """`export`, `key`, `secret` and `deid`; every mutation of `deid` is a fault that score must find."""

    def __init__(self, root: Path) -> None:
        self.root, self.export, self.deid = root, root / "export", root / "deid"
        self.key, self.secret_file = root / "export.key.json", root / "secret"
        self.secret = DerivationSecret.create(self.secret_file)
        self.manifest: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.instances: dict[str, Any] = {}
        self.key_reports: dict[str, Any] = {}
        for n in range(len(STUDIES)):
            self._study(n)
        self._strange_files()
        self._tables()

    def spec(self) -> dict[str, Any]:
        paths = {"deid": self.deid, "export": self.export, "key": self.key, "secret": self.secret_file}
        return {name: str(path) for name, path in paths.items()} | {"workers": 1}

    def output(self, n: int) -> Path:
        return self.deid / self.manifest[n]["output"]

    def edit(self, n: int) -> FileDataset:
        return dcmread(self.output(n))

    def save(self, n: int, ds: FileDataset) -> None:
        ds.save_as(self.output(n), enforce_file_format=True)

    def write_tables(self) -> None:
        tables.write_table(self.deid / "manifest.parquet", self.manifest, tables.MANIFEST)
        tables.write_table(self.deid / "reports.parquet", self.reports, tables.REPORTS)

    def _study(self, n: int) -> None:
        person, day = PEOPLE[STUDIES[n][0]], STUDIES[n][1]
        root = f"1.2.826.0.1.3680043.10.77{n}.{day:%Y%m%d}"
        accession = f"ACC70011{n}2"
        pixels = np.random.default_rng(n).normal(90, 8, (300, 360)).clip(0, 255).astype(np.uint8)
        pixels = cv2.GaussianBlur(pixels, (0, 0), 2)
        boxes = _burn_in(pixels, person) if n == BURNED_IN else []
        source = _source(person, day, root, accession, pixels)
        path = self.export / f"DICOM/{person.last}/IM{n}"
        path.parent.mkdir(parents=True, exist_ok=True)
        source.save_as(path, enforce_file_format=True)
        planted = [
            ("PatientName", "NAME", person.first),
            ("PatientName", "NAME", person.last),
            ("PatientID", "ID", person.mrn),
            ("StudyDate", "DATE", f"{day:%Y%m%d}"),
            ("AccessionNumber", "ID", accession),
            ("PatientTelephoneNumbers", "PHONE", person.phone),
            ("InstitutionName", "HOSPITAL", "Lakemoor Medical Center"),
            ("SOPInstanceUID", "UID", f"{root}.3"),
            ("StudyInstanceUID", "UID", f"{root}.1"),
        ]
        self.instances[f"{root}.3"] = {
            "path": path.relative_to(self.export).as_posix(),
            "accession": accession,
            "planted": [{"where": w, "kind": k, "value": v} for w, k, v in planted],
            "burned_in": boxes,
            "patient": f"person{STUDIES[n][0]}",
        }
        self._write_output(n, source, boxes)
        self._report(n, person, day, accession)

    def _write_output(self, n: int, source: FileDataset, boxes: list[dict[str, Any]]) -> None:
        patient = self.secret.patient("", source.PatientID)
        shifted = date(int(source.StudyDate[:4]), int(source.StudyDate[4:6]), int(source.StudyDate[6:]))
        shifted += timedelta(days=self.secret.shift_days(patient))
        uid = self.secret.uid(source.SOPInstanceUID)
        ds = _empty(uid)
        for keyword in KEPT.split():
            setattr(ds, keyword, source.get(keyword))
        ds.StudyInstanceUID = self.secret.uid(source.StudyInstanceUID)
        ds.SeriesInstanceUID = self.secret.uid(source.SeriesInstanceUID)
        ds.PatientID = ds.PatientName = patient
        ds.AccessionNumber = self.secret.accession(source.AccessionNumber)
        ds.StudyDate = f"{shifted:%Y%m%d}"
        ds.PatientIdentityRemoved, ds.LongitudinalTemporalInformationModified = "YES", "MODIFIED"
        ds.DeidentificationMethodCodeSequence = Sequence([Dataset()])
        ds.DeidentificationMethodCodeSequence[0].CodeMeaning = "Basic Application Confidentiality Profile"
        pixels = source.pixel_array.copy()
        for b in boxes:
            pixels[b["top"] - 4 : b["top"] + b["height"] + 4, b["left"] - 4 : b["left"] + b["width"] + 4] = 90
        _set_pixels(ds, pixels)
        path = self.deid / "dicom" / patient / ds.StudyInstanceUID / f"{uid}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        record = self.instances[source.SOPInstanceUID]
        row = self._row(record["path"], "image", "written") | {
            "output": path.relative_to(self.deid).as_posix(),
            "sha256": sha256_file(path),
            "patient": patient,
            "accession": ds.AccessionNumber,
            "study": ds.StudyInstanceUID,
            "instance": uid,
        }
        self.manifest.append(row)

    def _report(self, n: int, person: Person, day: date, accession: str) -> None:
        parts = [
            ("PATIENT: ", None),
            (f"{person.first} {person.last}", "NAME"),
            ("  MRN: ", None),
            (person.mrn, "ID"),
            ("\nEXAM DATE: ", None),
            (f"{day:%m/%d/%Y}", "DATE"),
            (f"\nFINDINGS: {CLINICAL}\nCompared at ", None),
            ("Lakemoor Medical Center", "HOSPITAL"),
            (".", None),
        ]
        text, scrubbed, spans = "", "", []
        for part, kind in parts:
            if kind:
                spans.append({"type": kind, "start": len(text), "end": len(text) + len(part), "text": part})
            text, scrubbed = text + part, scrubbed + (f"[{kind}]" if kind else part)
        self.key_reports[accession] = {"text": text, "spans": spans}
        row = self.manifest[n]
        keys = {name: row[name] for name in ("accession", "patient", "study")}
        self.reports.append(keys | {"date": None, "text": scrubbed})

    def _strange_files(self) -> None:
        """A broken file, a copy of instance 0, and two files with one UID and different bytes."""
        folder = self.export / "DICOM"
        first = self.export / self.instances[next(iter(self.instances))]["path"]
        (folder / "BROKEN").write_bytes(first.read_bytes()[:300])
        (folder / "COPY").write_bytes(first.read_bytes())
        ds = dcmread(first)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.10.999.5"
        ds.save_as(folder / "TWIN1")
        ds.ViewPosition = "AP"
        ds.save_as(folder / "TWIN2")
        self.manifest.append(self._row("DICOM/BROKEN", "other", "quarantined", "unreadable"))
        self.manifest.append(self._row("DICOM/COPY", "image", "duplicate"))
        for name in ("TWIN1", "TWIN2"):
            self.manifest.append(self._row(f"DICOM/{name}", "image", "quarantined", "conflict"))
        key = {"instances": self.instances, "reports": self.key_reports}
        key |= {"broken": ["DICOM/BROKEN"], "duplicates": ["DICOM/COPY"], "conflicts": [["DICOM/TWIN1", "DICOM/TWIN2"]]}
        self.key.write_text(json.dumps(key), encoding="utf-8")

    def _tables(self) -> None:
        self.write_tables()
        (self.deid / "events.jsonl").write_text(json.dumps({"kind": "log", "message": "4 images written"}) + "\n")
        (self.deid / "quarantine.csv").write_text("source_id,reason,detail\n")
        (self.deid / "result.json").write_text("{}")

    def _row(self, path: str, kind: str, state: str, reason: str | None = None) -> dict[str, Any]:
        row = dict.fromkeys(tables.MANIFEST.names)
        return row | {"source_id": self.secret.source_id(path), "kind": kind, "state": state, "reason": reason}


def _burn_in(pixels: np.ndarray, person: Person) -> list[dict[str, Any]]:
    boxes = []
    for i, line in enumerate((f"ID {person.mrn}", "BORN 14.02.1961")):
        (width, height), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 2)
        x, y = 20, 40 + 34 * i
        cv2.putText(pixels, line, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2, cv2.LINE_AA)
        boxes.append({"text": line, "left": x, "top": y - height, "width": width, "height": height})
    return boxes


def _source(person: Person, day: date, root: str, accession: str, pixels: np.ndarray) -> FileDataset:
    ds = _empty(f"{root}.3")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{root}.1", f"{root}.2"
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID = f"{person.last}^{person.first}", person.mrn
    ds.PatientTelephoneNumbers, ds.InstitutionName = person.phone, "Lakemoor Medical Center"
    ds.StudyDate, ds.AccessionNumber = f"{day:%Y%m%d}", accession
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "DX", "CHEST", "PA"
    ds.PatientSex, ds.PatientAge, ds.PixelSpacing = "F", "058Y", [0.3, 0.3]
    _set_pixels(ds, pixels)
    return ds


def _empty(uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = DX, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = DX, uid
    return ds


def _set_pixels(ds: FileDataset, pixels: np.ndarray) -> None:
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PixelRepresentation = *pixels.shape, 1, 0
    ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "MONOCHROME2", 8, 8, 7
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OB"
