"""A hand-made de-identified folder and its signed release, written without any code of the de-identification."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from pipelines import tables
from pipelines.contract import sha256_file, write_atomic
from pipelines.keys import DerivationSecret
from pipelines.release import folder_digest, signed_bytes

SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(32))
SECRET = DerivationSecret("here", 1, bytes(32))
DX = "1.2.840.10008.5.1.4.1.1.1.1"


def public_key(folder: Path) -> Path:
    path = folder / "release.pem"
    path.write_bytes(SIGNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def release(folder: Path, verdict: str = "released", signer: Ed25519PrivateKey = SIGNER) -> Path:
    body: dict[str, Any] = {"digest": folder_digest(folder), "verdict": verdict, "reviewer": "someone"}
    body["signature"] = base64.b64encode(signer.sign(signed_bytes(body))).decode()
    (folder / "release.json").write_text(json.dumps(body))
    return folder


@dataclass
class Deid:
    """Collects images, reports, labels and masks; `write` makes the folder."""

    folder: Path
    secret: DerivationSecret = SECRET
    manifest: list[dict[str, Any]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)
    masks: list[dict[str, Any]] = field(default_factory=list)

    def image(
        self, patient: str, study: str, name: str, pixels: np.ndarray | None = None, **header: Any
    ) -> FileDataset:
        """Add one instance; header keywords override a plain DX PA of an adult, None removes."""
        who, accession = self.secret.patient("HERE", patient), self.secret.accession(study)
        if pixels is None:
            pixels = np.random.default_rng(self.secret.surrogate("pixels", name)).integers(0, 256, (80, 100), np.uint8)
        ds = dataset(pixels, SOPInstanceUID=self.secret.uid(name), StudyInstanceUID=self.secret.uid(study))
        ds.PatientID, ds.AccessionNumber = who, accession
        for keyword, value in header.items():
            setattr(ds, keyword, value) if value is not None else delattr(ds, keyword)
        path = self.folder / "dicom" / who / ds.StudyInstanceUID / f"{ds.SOPInstanceUID}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        row = dict.fromkeys(tables.MANIFEST.names) | {
            "source_id": self.secret.source_id(f"DICOM/{name}"),
            "kind": "image",
            "state": "written",
            "output": path.relative_to(self.folder).as_posix(),
            "sha256": sha256_file(path),
            "patient": who,
            "accession": accession,
            "study": str(ds.StudyInstanceUID),
            "instance": str(ds.SOPInstanceUID),
            "sop_class": str(ds.SOPClassUID),
            "policy": "policydigest",
        }
        self.manifest.append(row)
        return ds

    def keys(self, patient: str, study: str) -> dict[str, str]:
        return {"accession": self.secret.accession(study), "patient": self.secret.patient("HERE", patient)}

    def report(self, patient: str, study: str, text: str) -> None:
        self.reports.append(self.keys(patient, study) | {"study": self.secret.uid(study), "date": None, "text": text})

    def label(self, patient: str, study: str, label: str, value: int, source: str = "labels.csv") -> None:
        self.labels.append(self.keys(patient, study) | {"label": label, "value": value, "source": source})

    def mask(self, patient: str, study: str, pixels: np.ndarray, points: list[float] | None = None) -> None:
        keys = self.keys(patient, study)
        output = f"masks/lung/{keys['accession']}.png"
        path = self.folder / output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        row = {"structure": "lung", "output": output, "sha256": sha256_file(path), "points": points, "position": None}
        self.masks.append(keys | row)

    def write(self, released: bool = True, **result: Any) -> Path:
        patients = sorted({row["patient"] for row in self.manifest})
        rows = [{"patient": p, "split": self.secret.split(p), "order": self.secret.order(p)} for p in patients]
        for name, content, schema in (
            ("manifest", self.manifest, tables.MANIFEST),
            ("patients", rows, tables.PATIENTS),
            ("reports", self.reports, tables.REPORTS),
            ("labels", self.labels, tables.LABELS),
            ("masks", self.masks, tables.MASKS),
        ):
            tables.write_table(self.folder / f"{name}.parquet", content, schema)
        facts = {"digest": folder_digest(self.folder), "policy": "policydigest", "practice": False}
        facts |= {"site": self.secret.fingerprint, "site_name": self.secret.site} | result
        write_atomic(self.folder / "result.json", json.dumps(facts))
        return release(self.folder) if released else self.folder


def add_seg(deid: Deid, image: FileDataset, masks: list[tuple[str, str, np.ndarray]]) -> None:
    """Add a DICOM SEG of an image: (structure, label, bool [rows, columns]) of each segment."""
    from pipelines.segmentation import dicomseg

    row = {"sop_class": DX, "instance": image.SOPInstanceUID, "series": image.SeriesInstanceUID}
    row |= {"study": image.StudyInstanceUID, "patient": image.PatientID, "accession": image.AccessionNumber}
    row |= {"sex": "F", "date": None, "modality": "DX", "source_rows": image.Rows, "source_columns": image.Columns}
    path = deid.folder / f"{masks[0][0]}.dcm"
    dicomseg.write(path, row, masks, "model", "0" * 64)
    kept = next(r for r in deid.manifest if r["instance"] == str(image.SOPInstanceUID))
    seg = {"kind": "object", "output": path.name, "sha256": sha256_file(path), "instance": f"2.25.{len(deid.manifest)}"}
    deid.manifest.append(kept | seg | {"sop_class": "1.2.840.10008.5.1.4.1.1.66.4"})


def dataset(pixels: np.ndarray, **uids: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = DX, uids["SOPInstanceUID"]
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = DX
    for keyword, value in uids.items():
        setattr(ds, keyword, value)
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "DX", "CHEST", "PA"
    ds.PatientSex, ds.PatientAge, ds.StudyDate, ds.InstanceNumber = "F", "045Y", "20110203", 1
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PixelRepresentation = *pixels.shape, 1, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = pixels.dtype.itemsize * 8
    ds.BitsStored, ds.HighBit = ds.BitsAllocated, ds.BitsAllocated - 1
    ds.PixelSpacing = [0.2, 0.3]
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"
    return ds
