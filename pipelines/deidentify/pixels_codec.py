"""Pixel data as frames of stored values, and back into the object.

Decoding gives what pydicom's decoder gives: stored values for grey and palette images, RGB for colour (PS3.3 C.7.6.3).
"""

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
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from pipelines.deidentify.reasons import Quarantine
from pipelines.scan.pixelstream import blocks

Frame = NDArray[Any]

SAME_SYNTAX = {RLELossless, JPEG2000Lossless, JPEGLSLossless}
ALWAYS_LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit}
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
    """Each frame (rows, columns[, 3]) and its photometric interpretation after decoding.

    Raises Quarantine("pixels") for whatever a decoder may raise: its errors are of many kinds.
    """
    try:
        for array, attributes in get_decoder(ds.file_meta.TransferSyntaxUID).iter_array(ds):
            yield array, str(attributes["photometric_interpretation"])
    except Quarantine:
        raise
    except Exception as error:  # noqa: BLE001 - decoders of four libraries; texts may quote the file, so the type only
        raise Quarantine("pixels", type(error).__name__) from None


def darkest(ds: Dataset, photometric: str) -> int:
    """The palette entry that displays darkest; 0 for true colour."""
    if photometric != "PALETTE COLOR":
        return 0
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


def replace_pixels(ds: Dataset, frames: list[Frame], photometric: str) -> None:
    """Write frames back: native stays native, lossless syntaxes with an encoder stay, all else becomes native.

    A lossy source stays marked as lossy (PS3.3 C.7.6.1.1.5); UIDs are the caller's affair.
    """
    if int(ds.BitsAllocated) == 1:
        raise Quarantine("pixels", "text in a bitmap")
    syntax = UID(ds.file_meta.TransferSyntaxUID)
    if syntax in ALWAYS_LOSSY:
        ds.LossyImageCompression = "01"
    array = np.stack(frames) if len(frames) > 1 else frames[0]
    ds.PhotometricInterpretation = photometric
    if array.dtype.itemsize * 8 != int(ds.BitsAllocated):
        raise Quarantine("pixels", "bits of the image")
    for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if name in ds:
            del ds[name]
    if int(ds.SamplesPerPixel) > 1:
        ds.PlanarConfiguration = 0
    if syntax in SAME_SYNTAX:
        try:
            ds.compress(syntax, np.ascontiguousarray(array), generate_instance_uid=False)
            return
        except Exception as error:  # noqa: BLE001 - an encoder may refuse what its decoder read
            raise Quarantine("pixels", type(error).__name__) from None
    if syntax.is_encapsulated:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    big = syntax == ExplicitVRBigEndian and array.dtype.itemsize > 1
    data = array.astype(array.dtype.newbyteorder(">" if big else "<")).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if array.dtype.itemsize > 1 or syntax.is_implicit_VR else "OB"
    ds["PixelData"].is_undefined_length = False
