"""What kind of DICOM object a file holds (PS3.4 B.5), and whether anything here can clean objects of its class.

An `image` has pictures. An `object` has none, or only masks and grids: documents, presentation states, segmentations,
radiotherapy. What is neither is quarantined by class, because nothing shows that its text or bulk data can be cleaned.
"""

from __future__ import annotations

from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset
from pydicom.uid import UID

from pipelines.deidentify.reasons import Quarantine

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_DOCUMENTS, _ENCAPSULATED = f"{_STORAGE}88.", f"{_STORAGE}104."
_OLD_DOCUMENTS = tuple(f"{_STORAGE}88.{n}" for n in (1, 2, 3, 4))
_PRESENTATION_STATES = tuple(f"{_STORAGE}11.{n}" for n in (1, 2, 3, 4, 5, 8))
_WITH_PIXELS = (f"{_STORAGE}66.4", f"{_STORAGE}481.2")
"""Segmentation and RT Dose."""
_OTHERS = tuple(_STORAGE + n for n in ("66.1", "66.2", "67", *(f"481.{n}" for n in (3, 4, 5, 6, 7, 8, 9))))
"""Registration, fiducials, real-world values; RT structure sets, plans and records."""


def kind_of(ds: Dataset) -> str:
    """`image` or `object`; raises Quarantine for a class that cannot be cleaned, and for an image without pixels."""
    sop_class = str(ds.SOPClassUID)
    if sop_class not in UID_dictionary:
        raise Quarantine("private_class")
    if sop_class.startswith(_ENCAPSULATED):
        raise Quarantine("document", UID(sop_class).name)
    pictured = _is_picture(sop_class)
    if not pictured and not _is_cleanable(sop_class):
        raise Quarantine("unsupported", UID(sop_class).name)
    if has_pixels(ds) and not ("PixelData" in ds and ds.get("Rows") and ds.get("Columns")):
        raise Quarantine("unreadable", "an image without pixel data")
    return "image" if pictured else "object"


def is_document(ds: Dataset) -> bool:
    """Whether an object is a structured document: its content is all there is of it (SR, Key Object Selection)."""
    return str(ds.SOPClassUID).startswith(_DOCUMENTS)


def has_pixels(ds: Dataset) -> bool:
    """Whether pixel data belong to the class of an object. Any other class loses them."""
    sop_class = str(ds.SOPClassUID)
    return sop_class in _WITH_PIXELS or _is_picture(sop_class)


def _is_picture(sop_class: str) -> bool:
    name = UID(sop_class).name
    return "Image Storage" in name or "US Volume Storage" in name


def _is_cleanable(sop_class: str) -> bool:
    if sop_class.startswith(_DOCUMENTS):
        return sop_class not in _OLD_DOCUMENTS
    return sop_class in (*_PRESENTATION_STATES, *_WITH_PIXELS, *_OTHERS)
