"""Reading a DICOM object whole or not at all: with or without preamble, never half, its pixel data left in the file."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO, NamedTuple

import pydicom
from pydicom import charset, config
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag, Tag
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
from pipelines.scan.kinds import kind_of
from pipelines.scan.pixelstream import UNDEFINED, PixelStream, encapsulated_length

PIXEL_DATA = 0x7FE00010
_ASCII_VRS = frozenset({"UI", "LO", "SH", "CS", "AE", "DA", "TM", "DT", "AS"})
_UID = re.compile(r"[0-9.]{3,64}")
HEAD = 1 << 18  # more than the header of nearly every image
MOST_BEHIND = 1 << 26
MOST_INFLATED = 1 << 30
_DEFLATED = DeflatedExplicitVRLittleEndian.encode()
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


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


def read_object(source: bytes | BinaryIO) -> FileDataset:
    """The object in a file, with a transfer syntax in its file meta; raises Quarantine.

    The pixel data are not read: their element holds a `PixelStream` on the file, which must stay open. A deflated
    object is inflated, in memory. pydicom returns what it got from a cut-off file, without an error (an encapsulated
    one even empty), so the end of the last element is held against the length of the file.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    size = file.seek(0, io.SEEK_END)
    if not size:
        raise Quarantine("empty")
    file.seek(0)
    head = file.read(HEAD)
    part10 = head[128:132] == b"DICM"
    try:
        if part10 and _DEFLATED in head[:4096]:
            file = io.BytesIO(_inflated(file))
            size = file.seek(0, io.SEEK_END)
        ds, pixels, head = _header(file, size)
        settle_charset(ds)
        sane = _has_uid(ds, "SOPClassUID") and _has_uid(ds, "SOPInstanceUID")
        directory = "DirectoryRecordSequence" in ds
    except Quarantine:
        raise
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything, RecursionError included
        raise Quarantine("unreadable" if part10 else "not_dicom", type(error).__name__) from None
    if directory:
        raise Quarantine("directory")
    if not sane:
        raise Quarantine("unreadable" if part10 else "not_dicom", "no valid SOP class and instance UID")
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = _syntax(ds)
    if pixels:
        _attach(ds, pixels, file, size)
    else:
        _require_whole(ds, head)
    return ds


class _Found(NamedTuple):
    """Where the pixel element's value begins, and how its header describes it."""

    offset: int
    vr: str | None
    length: int


def _header(file: BinaryIO, size: int) -> tuple[FileDataset, _Found | None, bytes]:
    """Everything before the pixel data, parsed in memory: first from the start of the file, from more where needed."""
    limit = HEAD
    while True:
        file.seek(0)
        head = file.read(limit)
        whole = len(head) == size
        found: list[_Found] = []
        buffer = io.BytesIO(head)

        def at_pixels(
            tag: int, vr: str | None, length: int, buffer: io.BytesIO = buffer, found: list[_Found] = found
        ) -> bool:
            if int(tag) != PIXEL_DATA:  # comparing pydicom's tags costs more than all else here
                return False
            found.append(_Found(buffer.tell(), vr, length))
            return True

        try:
            ds = read_partial(buffer, stop_when=at_pixels, force=True)
        except Exception:
            if whole:
                raise
        else:
            if found:
                return ds, found[-1], head
            if whole:
                return ds, None, head
        limit *= 16


def _attach(ds: FileDataset, pixels: _Found, file: BinaryIO, size: int) -> None:
    """Put a stream on the pixel data into `ds`, and the elements behind them."""
    implicit, little = pixels.vr is None, ds.original_encoding[1] is not False
    encapsulated = pixels.length == UNDEFINED
    if encapsulated != UID(ds.file_meta.TransferSyntaxUID).is_encapsulated:
        raise Quarantine("unreadable", "pixel data that do not follow the transfer syntax")
    file.seek(pixels.offset)
    length = encapsulated_length(file, little) if encapsulated else pixels.length
    end = file.tell() if encapsulated else pixels.offset + length
    if end > size:
        raise Quarantine("unreadable", "cut off or followed by foreign bytes")
    file.seek(end)
    rest = file.read(MOST_BEHIND + 1)
    if len(rest) > MOST_BEHIND:
        raise Quarantine("unreadable", "too much behind the pixel data")
    if rest.strip(b"\0"):
        behind = read_dataset(io.BytesIO(rest), implicit, little, parent_encoding=ds._character_set)
        _require_whole(behind, rest)
        if PIXEL_DATA in behind:
            raise Quarantine("unreadable", "pixel data twice")
        ds.update(behind)
    vr = pixels.vr if pixels.vr in ("OB", "OW") else "OB" if encapsulated else "OW"
    stream = PixelStream(file, pixels.offset, length)
    ds[PIXEL_DATA] = DataElement(
        PIXEL_DATA, vr, stream, pixels.offset, is_undefined_length=encapsulated, already_converted=True
    )


def _inflated(file: BinaryIO) -> bytes:
    """A deflated Part 10 file (PS3.5 A.5) as the explicit little-endian file it stands for."""
    file.seek(132)
    read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    start = file.tell()
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(file.read(), MOST_INFLATED)
    if not inflater.eof:
        raise Quarantine("unreadable", "deflated data cut off or too large")
    file.seek(0)
    meta = file.read(start)
    return meta.replace(_DEFLATED, ExplicitVRLittleEndian.encode().ljust(len(_DEFLATED), b"\0")) + data


def require_supported(ds: Dataset) -> str:
    """The kind of an object (scan.kinds); raises Quarantine where there is none, or it belongs to no study."""
    kind = kind_of(ds)
    if not (_has_uid(ds, "StudyInstanceUID") and _has_uid(ds, "SeriesInstanceUID")):
        raise Quarantine("unreadable", "no valid study and series UID")
    return kind


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
    tag = _tag(keyword)
    if tag not in ds:
        return ""
    raw = ds.get_item(tag)
    if raw.is_raw and raw.VR in _ASCII_VRS and raw.value and raw.value.isascii() and b"\x1b" not in raw.value:
        return raw.value.split(b"\\")[0].decode().strip(" \0")  # as it stands: converting costs ten times as much
    value = ds[tag].value
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        value = value[0] if value else ""
    return str("" if value is None else value).strip(" \0")


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def items(ds: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence, none where it is missing or no sequence."""
    tag = _tag(keyword)
    value = ds[tag].value if tag in ds else None
    return value if isinstance(value, pydicom.Sequence) else ()


def _has_uid(ds: Dataset, keyword: str) -> bool:
    """Whether there is one valid UID, and no second value."""
    tag = _tag(keyword)
    if tag not in ds:
        return False
    raw = ds.get_item(tag)
    value = raw.value.decode("latin-1").rstrip(" \0") if raw.is_raw and raw.value else ds[tag].value
    return isinstance(value, str) and bool(_UID.fullmatch(value))


def _syntax(ds: FileDataset) -> UID:
    implicit, little = ds.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _require_whole(ds: Dataset, raw: bytes) -> None:
    """Raise Quarantine unless the last element of `ds`, read from `raw`, ends where `raw` ends, zeros aside."""
    last = next(reversed(ds.items()), (0, None))[1]
    if isinstance(last, RawDataElement) and last.value is not None and last.length != UNDEFINED:
        whole = len(last.value) == last.length
        rest = raw[last.value_tell + last.length :]
    else:  # of undefined length: a sequence delimiter is its end
        rest = raw.rpartition(_SEQUENCE_END)[2] if last is not None else b""
        whole = len(rest) < len(raw)
    if not whole or rest.strip(b"\0"):
        raise Quarantine("unreadable", "cut off or followed by foreign bytes")


# No file is to blame when the machine has no descriptors, memory or space left, or a share was mounted anew.
LACKS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.ESTALE})


@contextlib.contextmanager
def per_file() -> Iterator[None]:
    """Everything that one file may raise becomes a verdict on that file; what the program itself lacks passes."""
    try:
        yield
    except (Quarantine, MemoryError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in LACKS:
            raise
        raise Quarantine("unreadable", type(error).__name__) from None
