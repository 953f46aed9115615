"""Overlay planes (PS3.3 C.9.2) under Clean Graphics (PS3.15 E.3.3): a plane stays when no text can be read in it.

Labels, descriptions and comments of a plane never stay, nor do planes hidden in unused bits of the pixel data.
"""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from pipelines.deidentify.identities import Quarantine

_ROWS, _COLUMNS, _FRAMES, _DATA = 0x0010, 0x0011, 0x0015, 0x3000
# Geometry and type; the rest of the module is words, or numbers that describe the words.
_KEPT = (_ROWS, _COLUMNS, _FRAMES, 0x0040, 0x0050, 0x0051, 0x0100, 0x0102, _DATA)
_LETTERS = re.compile(rb"[A-Za-z]{5,}")
_TYPES = ("G", "R")
MOST_PIXELS = 1 << 28


class Looker(Protocol):
    """What pixels.py offers: blanks text in place and tells where, raises Quarantine."""

    def clean(self, ds: Dataset) -> object: ...


def clean_overlays(ds: Dataset, pixels: Looker) -> Dataset:
    """The overlay planes of `ds` in which `pixels` finds no text, as elements to be added to the output."""
    kept = Dataset()
    for group in range(0x6000, 0x6020, 2):
        base = group << 16
        if base | _DATA not in ds:
            continue
        try:
            clean = _is_clean(ds, base, pixels)
        except (Quarantine, AttributeError, TypeError, ValueError, KeyError):
            clean = False
        if clean:
            for number in _KEPT:
                if base | number in ds:
                    kept[base | number] = ds[base | number]
    return kept


def _is_clean(ds: Dataset, base: int, pixels: Looker) -> bool:
    rows, columns = int(ds[base | _ROWS].value), int(ds[base | _COLUMNS].value)
    frames = int(ds[base | _FRAMES].value) if base | _FRAMES in ds else 1
    data, size = ds[base | _DATA].value, rows * columns * frames
    if not 0 < size <= MOST_PIXELS or len(data) < (size + 7) // 8 or ds[base | 0x0040].value not in _TYPES:
        return False
    if int(ds[base | 0x0100].value) != 1 or int(ds[base | 0x0102].value) != 0:
        return False
    if any(len(set(run)) > 2 for run in _LETTERS.findall(data)):  # a text, not dots that happen to be letters
        return False
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if bits[size:].any():  # what lies behind the last pixel is no picture
        return False
    picture = _picture(bits[:size].reshape(frames, rows, columns) * np.uint8(255))
    result = pixels.clean(picture)
    return bool(getattr(result, "proved", False)) and not getattr(result, "boxes", True)


def _picture(planes: np.ndarray) -> FileDataset:
    """The planes (frames, rows, columns) uint8 as an image, so that they are looked at as every image is."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    ds = FileDataset("", {}, file_meta=meta, preamble=None)
    ds.SOPClassUID, ds.Modality = SecondaryCaptureImageStorage, "OT"
    ds.NumberOfFrames, ds.Rows, ds.Columns = planes.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = planes.tobytes()
    return ds
