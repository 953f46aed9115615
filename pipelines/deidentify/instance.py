"""One instance from its bytes to proven bytes: identities, pixels, header, markers, new file meta, proof."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any, Protocol

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from pipelines import __version__
from pipelines.deidentify.aliases import NO_ALIASES, Aliases
from pipelines.deidentify.header import Cleaned, HeaderCleaner
from pipelines.deidentify.identities import Identities, Quarantine, from_dataset
from pipelines.deidentify.markers import Done, markers
from pipelines.deidentify.objects import recognizable
from pipelines.deidentify.policy import Policy
from pipelines.deidentify.proof import Needles, prove
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import PIXEL_DATA, Subject, per_file, read_object, require_image, subject, text

# Ours, under the UUID-derived root (PS3.5 B.2).
IMPLEMENTATION_UID = UID("2.25.189642763514703927264862703459812067433")
IMPLEMENTATION_VERSION = f"INTRAMURAL_{__version__}"[:16]
_PATIENT_IDS = ("PatientID", "OtherPatientIDs")


class PixelCleaner(Protocol):
    """What pixels.py offers: blanks text in place, raises Quarantine."""

    def clean(self, ds: Dataset) -> Any: ...


@dataclass
class Source:
    """What was learnt of one readable instance, whatever became of it. PHI: goes into the vault only."""

    who: Subject
    identities: Identities
    patient_id: str
    issuer: str
    study_uid: str
    accession: str
    opted_out: bool


@dataclass
class Written:
    """A de-identified object, proven, ready to be stored."""

    data: bytes
    cleaned: Cleaned
    boxes: int
    transfer_syntax: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class InstanceCleaner:
    """Applies a policy to instances of one site. Holds no state of one file to the next."""

    def __init__(
        self,
        policy: Policy,
        secret: DerivationSecret,
        pixels: PixelCleaner,
        issuer: str,
        opt_out: frozenset[str],
        aliases: Aliases = NO_ALIASES,
    ) -> None:
        self.policy, self.secret, self.pixels = policy, secret, pixels
        self.issuer, self.opt_out, self.aliases = issuer, opt_out, aliases
        self.header = HeaderCleaner(policy, secret)

    def read(self, raw: bytes) -> tuple[FileDataset, Source]:
        """Parse `raw` and learn whose it is; raises Quarantine."""
        with per_file():
            ds = read_object(raw)
            require_image(ds)
            who = subject(ds, self.secret, self.issuer, self.aliases)
            issuer, patient_id = self.aliases.current(
                text(ds, "IssuerOfPatientID") or self.issuer, text(ds, "PatientID")
            )
            numbers = frozenset(n for i in _patient_ids(ds) for n in self.aliases.known_as(i))
            return ds, Source(
                who=who,
                identities=from_dataset(ds) | Identities(ids=numbers),
                patient_id=patient_id,
                issuer=issuer,
                study_uid=text(ds, "StudyInstanceUID"),
                accession=text(ds, "AccessionNumber"),
                opted_out=bool(self.opt_out & numbers),
            )

    def clean(self, ds: FileDataset, source: Source) -> Written:
        """De-identify a parsed instance and prove the result; raises Quarantine."""
        with per_file():
            face = recognizable(ds)
            if face and self.policy.options.visual_features == "quarantine":
                raise Quarantine("face")
            pixels = self.pixels.clean(ds)
            cleaned = self.header.clean(ds, source.who, source.identities)
            new = cleaned.ds
            burned_in = text(ds, "BurnedInAnnotation") == "YES"
            new.update(markers(self.policy, Done(pixels.proved, not cleaned.uids, face, burned_in)))
            new[PIXEL_DATA] = ds[PIXEL_DATA]
            syntax = UID(ds.file_meta.TransferSyntaxUID)
            data = encode(new, syntax)
            needles = Needles(source.identities, frozenset(cleaned.kept))
            prove(data, len(ds[PIXEL_DATA].value), needles, ds)
            return Written(data, cleaned, len(pixels.boxes), str(new.file_meta.TransferSyntaxUID))


def encode(ds: Dataset, syntax: UID) -> bytes:
    """A Part 10 file with a zero preamble and file meta of our own; pixel data go in as they are.

    A deflated source is stored inflated: what is proven must be readable in the file's bytes.
    """
    if syntax == DeflatedExplicitVRLittleEndian:
        syntax = ExplicitVRLittleEndian
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
    ds.file_meta = meta
    file = FileDataset("", ds, file_meta=meta, preamble=b"\0" * 128)
    if syntax.is_compressed and "PixelData" in file:
        file["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


def _patient_ids(ds: Dataset) -> set[str]:
    found = {text(ds, keyword) for keyword in _PATIENT_IDS}
    for item in ds.get("OtherPatientIDsSequence") or ():
        found.add(text(item, "PatientID"))
    return found - {""}


__all__ = ["InstanceCleaner", "Quarantine", "Source", "Written", "encode"]
