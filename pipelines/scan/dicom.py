"""Reading a DICOM object whole or not at all: with or without preamble, never half."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pydicom
from pydicom import charset, config
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipelines.deidentify.aliases import NO_ALIASES, Aliases
from pipelines.deidentify.identities import Quarantine
from pipelines.keys import DerivationSecret
from pipelines.scan.charset import settle_charset

PIXEL_DATA = 0x7FE00010
_UID = re.compile(r"[0-9.]{3,64}")
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class Subject:
    """Whose an instance is, in pseudonyms."""

    patient: str
    accession: str
    practice: bool


def configure_pydicom() -> None:
    """Silence pydicom: its warnings quote header values, and those must reach no log."""
    warnings.filterwarnings("ignore", module=r"pydicom\..*")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
    # pydicom leaves the escape sequences of ISO 2022 IR 58 to a codec of Python that lets them stand in the name.
    charset.handled_encodings = tuple(e for e in charset.handled_encodings if e != "iso_ir_58")


def read_object(raw: bytes) -> FileDataset:
    """The object in `raw`, with a transfer syntax in its file meta; raises Quarantine.

    pydicom returns what it got from a cut-off file, without an error (an encapsulated one even empty), so the end of
    the last element is held against the length of the file.
    """
    if not raw:
        raise Quarantine("empty")
    part10 = raw[128:132] == b"DICM"
    try:
        ds = pydicom.dcmread(io.BytesIO(raw), force=True)
        settle_charset(ds)
        sane = _is_uid(ds.get("SOPClassUID")) and _is_uid(ds.get("SOPInstanceUID"))
        directory = "DirectoryRecordSequence" in ds
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything, RecursionError included
        raise Quarantine("unreadable" if part10 else "not_dicom", type(error).__name__) from None
    if directory:
        raise Quarantine("not_image", "a directory of files")
    if not sane:
        raise Quarantine("unreadable" if part10 else "not_dicom", "no valid SOP class and instance UID")
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = _syntax(ds)
    if ds.file_meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        _require_whole(ds, raw)
    return ds


def require_image(ds: Dataset) -> None:
    """Raise Quarantine unless `ds` is an image with pixels, of a SOP class of the standard."""
    name = UID(ds.SOPClassUID).name
    if "Image Storage" not in name:
        raise Quarantine("not_image", "no image storage class of the standard")
    if PIXEL_DATA not in ds or not ds.get("Rows") or not ds.get("Columns"):
        raise Quarantine("unreadable", "an image without pixel data")
    if not (_is_uid(ds.get("StudyInstanceUID")) and _is_uid(ds.get("SeriesInstanceUID"))):
        raise Quarantine("unreadable", "no valid study and series UID")


def subject(ds: Dataset, secret: DerivationSecret, default_issuer: str, aliases: Aliases = NO_ALIASES) -> Subject:
    """Pseudonyms of patient and study; raises Quarantine("no_patient") without a patient ID.

    A study without an accession number is joined by its own UID, so that two of them never meet in one blank value.
    """
    patient_id, issuer = text(ds, "PatientID"), text(ds, "IssuerOfPatientID") or default_issuer
    if not patient_id:
        raise Quarantine("no_patient")
    accession = text(ds, "AccessionNumber") or "uid:" + text(ds, "StudyInstanceUID")
    practice = issuer.upper() == "PRACTICE"
    return Subject(secret.patient(*aliases.current(issuer, patient_id)), secret.accession(accession), practice)


def text(ds: Dataset, keyword: str) -> str:
    """A single text value without padding, or an empty string."""
    value = ds.get(keyword)
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        value = value[0] if value else ""
    return str(value or "").strip(" \0")


def _is_uid(value: object) -> bool:
    return isinstance(value, str) and bool(_UID.fullmatch(value))


def _syntax(ds: FileDataset) -> UID:
    implicit, little = ds.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _require_whole(ds: FileDataset, raw: bytes) -> None:
    end = 0
    for tag in ds.keys():  # noqa: SIM118 - iterating the dataset itself would convert every element
        element = ds.get_item(tag)
        start = getattr(element, "value_tell", None)
        length = getattr(element, "length", None)
        if start is None or length is None or element.value is None:
            continue
        value_end = start + (len(element.value) + 8 if length == _UNDEFINED else length)
        end = max(end, value_end)
    last = max(ds.keys(), default=0)
    if end > len(raw) or (getattr(ds.get_item(last), "value_tell", None) and raw[end:].strip(b"\0")):
        raise Quarantine("unreadable", "cut off or followed by foreign bytes")


@contextlib.contextmanager
def per_file() -> Iterator[None]:
    """Everything that one file may raise becomes a verdict on that file; what the program itself lacks passes."""
    try:
        yield
    except (Quarantine, MemoryError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001 - one hostile file must never end the batch
        raise Quarantine("unreadable", type(error).__name__) from None
