"""Pixel data as frames of stored values (PS3.3 C.7.6.3), one at a time, and what native ones carry beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
)

from pipelines.deidentify.reasons import Quarantine
from pipelines.scan.pixelstream import blocks

Frame = NDArray[Any]

LOOKED_AT = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422"})
MAX_FRAME_PIXELS = 1 << 28


def require_sane(ds: Dataset) -> None:
    """Quarantine("pixels") unless the Image Pixel attributes describe pixel data that can be decoded and checked."""
    syntax = ds.file_meta.get("TransferSyntaxUID") if hasattr(ds, "file_meta") else None
    if syntax is None:
        raise Quarantine("pixels", "no transfer syntax")
    if "PixelData" not in ds:
        raise Quarantine("pixels", "no integer pixel data")
    try:
        rows, columns, allocated = int(ds.Rows), int(ds.Columns), int(ds.BitsAllocated)
        stored, high = int(ds.BitsStored), int(ds.get("HighBit", ds.BitsStored - 1))
        samples, frames = int(ds.SamplesPerPixel), int(ds.get("NumberOfFrames") or 1)
    except (AttributeError, TypeError, ValueError):
        raise Quarantine("pixels", "attributes of the image are missing") from None
    if not (0 < rows * columns <= MAX_FRAME_PIXELS and frames > 0 and samples in (1, 3)):
        raise Quarantine("pixels", "size of the image")
    if allocated not in (1, 8, 16, 32) or not 0 < stored <= allocated or high != stored - 1:
        raise Quarantine("pixels", "bits of the image")
    if not UID(syntax).is_encapsulated:
        per_sample = 2 if ds.PhotometricInterpretation == "YBR_FULL_422" else samples
        if len(ds.PixelData) < math.ceil(rows * columns * per_sample * frames * allocated / 8):
            raise Quarantine("pixels", "pixel data shorter than the image")


def decode(ds: Dataset) -> Iterator[tuple[Frame, str]]:
    """Each frame (rows, columns[, 3]) in turn and its photometric interpretation: stored values, colours as coded.

    Raises Quarantine("pixels") for whatever a decoder may raise: its errors are of many kinds.
    """
    try:
        for array, attributes in get_decoder(ds.file_meta.TransferSyntaxUID).iter_array(ds, raw=True):
            photometric = str(attributes["photometric_interpretation"])
            if photometric not in LOOKED_AT:
                raise Quarantine("pixels", "photometric interpretation")
            # Decoders give every pixel its own chrominance.
            yield array, "YBR_FULL" if photometric == "YBR_FULL_422" else photometric
    except Quarantine:
        raise
    except Exception as error:  # noqa: BLE001 - decoders of four libraries; texts may quote the file, so the type only
        raise Quarantine("pixels", type(error).__name__) from None


def darkest(ds: Dataset, photometric: str) -> Any:
    """The stored value that displays darkest of all: a palette entry, or three components of a colour."""
    if photometric != "PALETTE COLOR":
        half = 1 << int(ds.BitsStored) - 1
        return np.array((0, half, half) if photometric == "YBR_FULL" else (0, 0, 0))
    entries = np.arange(int(ds.RedPaletteColorLookupTableDescriptor[0]) or 1 << 16, dtype=np.uint16)
    return int(apply_color_lut(entries[None], ds)[0].astype(np.int64).sum(axis=1).argmin())


def has_stray_data(ds: Dataset) -> bool:
    """Whether native pixel data carry anything beside the pixels: bits above the stored ones, or bytes behind."""
    if UID(ds.file_meta.TransferSyntaxUID).is_encapsulated or ds.PhotometricInterpretation == "YBR_FULL_422":
        return False
    allocated, stored = int(ds.BitsAllocated), int(ds.BitsStored)
    bits = int(ds.Rows) * int(ds.Columns) * int(ds.SamplesPerPixel) * int(ds.get("NumberOfFrames") or 1) * allocated
    size = math.ceil(bits / 8)
    if len(ds.PixelData) > size + size % 2:
        return True
    if stored == allocated or allocated not in (8, 16, 32):
        return False
    order = ">" if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    for block in blocks(ds.PixelData):
        raw = np.frombuffer(block, f"{order}u{allocated // 8}", count=len(block) * 8 // allocated)
        if int(raw.max(initial=0)) >> stored == 0:
            continue
        above = raw >> stored
        clean = above == 0
        if int(ds.PixelRepresentation):
            sign = (raw >> (stored - 1)) & 1
            clean = above == sign * ((1 << (allocated - stored)) - 1)
        if not clean.all():
            return True
    return False
