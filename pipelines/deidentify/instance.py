"""One instance from its file to proven bytes: identities, pixels, header, markers, new file meta, proof."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, BinaryIO, Protocol

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID

from pipelines.deidentify.aliases import NO_ALIASES, Aliases
from pipelines.deidentify.encode import as_raw, encode_file
from pipelines.deidentify.header import Cleaned, HeaderCleaner
from pipelines.deidentify.identities import Identities, Quarantine, from_dataset
from pipelines.deidentify.markers import Done, markers
from pipelines.deidentify.objects import recognizable
from pipelines.deidentify.overlays import clean_overlays
from pipelines.deidentify.policy import Policy
from pipelines.deidentify.proof import Needles, prove
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import PIXEL_DATA, Subject, items, per_file, read_object, require_supported, subject, text
from pipelines.scan.kinds import has_pixels, is_document
from pipelines.scan.pixelstream import blocks

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
    """A de-identified object, proven, ready to be stored. Its pixel data may still lie in the source's file."""

    head: bytes
    pixels: Any
    """Value of the pixel element: bytes, or a stream (scan.pixelstream)."""
    tail: bytes
    cleaned: Cleaned
    boxes: int
    transfer_syntax: str

    def store(self, file: BinaryIO) -> str:
        """Write the object, its pixel data block by block, and return its SHA-256."""
        digest = hashlib.sha256()
        for block in self._blocks():
            digest.update(block)
            file.write(block)
        return digest.hexdigest()

    @property
    def data(self) -> bytes:
        """The whole file in memory."""
        return b"".join(self._blocks())

    def _blocks(self) -> Any:
        yield self.head
        yield from blocks(self.pixels)
        yield self.tail


class InstanceCleaner:
    """Applies a policy to instances of one site. Holds no state of one file to the next that could change a byte."""

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

    def read(self, file: bytes | BinaryIO) -> tuple[FileDataset, Source]:
        """Parse a file, which must stay open until the object is stored, and learn whose it is; raises Quarantine."""
        with per_file():
            ds = read_object(file)
            require_supported(ds)
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
            if is_document(ds) and self.policy.options.structured_content != "clean":
                raise Quarantine("structured_content")
            pixels = self.pixels.clean(ds) if has_pixels(ds) else None
            done = Done(bool(pixels and pixels.proved), False, face, text(ds, "BurnedInAnnotation") == "YES")
            needles = Needles(source.identities)
            overlays = clean_overlays(ds, self.pixels) if self.policy.options.graphics == "clean" else Dataset()
            try:
                return self._written(ds, source, needles, pixels, done, overlays, careful=False)
            except Quarantine:
                return self._written(ds, source, needles, pixels, done, overlays, careful=True)

    def _written(
        self,
        ds: FileDataset,
        source: Source,
        needles: Needles,
        pixels: Any,
        done: Done,
        overlays: Dataset,
        *,
        careful: bool,
    ) -> Written:
        """The object with a new header, proven. Careful only where the quick way left something of the source."""
        cleaned = self.header.clean(ds, source.who, needles, careful=careful)
        syntax, new = UID(ds.file_meta.TransferSyntaxUID), cleaned.ds
        new.update(overlays)
        new.update(_markers(self.policy, replace(done, uids_kept=not cleaned.uids), syntax))
        if pixels:
            new[PIXEL_DATA] = ds[PIXEL_DATA]
        head, tail = encode_file(new, syntax, text(new, "SOPClassUID"), text(new, "SOPInstanceUID"))
        prove(head + tail, needles.without(cleaned.kept), ds)
        value, boxes = (ds[PIXEL_DATA].value, len(pixels.boxes)) if pixels else (b"", 0)
        return Written(head, value, tail, cleaned, boxes, str(syntax))


@lru_cache(maxsize=64)
def _markers(policy: Policy, done: Done, syntax: UID) -> Dataset:
    return as_raw(markers(policy, done), syntax.is_implicit_VR, syntax.is_little_endian)


def _patient_ids(ds: Dataset) -> set[str]:
    found = {text(ds, keyword) for keyword in _PATIENT_IDS}
    for item in items(ds, "OtherPatientIDsSequence"):
        found.add(text(item, "PatientID"))
    return found - {""}


__all__ = ["InstanceCleaner", "Quarantine", "Source", "Written"]
