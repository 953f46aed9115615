"""Frames back into an object: in the syntax they came in where it is lossless and has an encoder, else as they are."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

import numpy as np
from pydicom import Dataset
from pydicom.encaps import itemize_frame
from pydicom.pixels import get_encoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from pipelines.deidentify.pixels_codec import Frame
from pipelines.deidentify.reasons import Quarantine
from pipelines.scan.pixelstream import PixelStream

# Encoders by syntax; pydicom's own RLE encoder is written in Python and slow.
ENCODERS = {RLELossless: "pylibjpeg", JPEG2000Lossless: "pylibjpeg", JPEGLSLossless: "pyjpegls"}
ALWAYS_LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless})
IN_MEMORY = 64 << 20  # bytes of pixel data; more of them go through a file without a name
EMPTY_OFFSET_TABLE = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"


def replace_pixels(ds: Dataset, frames: Iterable[Frame], photometric: str) -> None:
    """Write frames (rows, columns[, 3]) of stored values, one at a time, as the pixel data of `ds`.

    A lossy source stays marked as lossy, with the ratio and method it came with (PS3.3 C.7.6.1.1.5); UIDs are the
    caller's affair. Raises Quarantine("pixels") where an encoder refuses or the frames do not fit the attributes.
    """
    if int(ds.BitsAllocated) == 1:
        raise Quarantine("pixels", "text in a bitmap")
    source = UID(ds.file_meta.TransferSyntaxUID)
    syntax = source if source in ENCODERS or not source.is_encapsulated else ExplicitVRLittleEndian
    if ds.file_meta.TransferSyntaxUID in ALWAYS_LOSSY:
        ds.LossyImageCompression = "01"
    frame_bytes = int(ds.Rows) * int(ds.Columns) * int(ds.SamplesPerPixel) * int(ds.BitsAllocated) // 8
    in_memory = frame_bytes * int(ds.get("NumberOfFrames") or 1) <= IN_MEMORY
    # Lives as long as the object reads it.
    file = io.BytesIO() if in_memory else cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
    if syntax.is_encapsulated:
        _encode(file, frames, ds, syntax, photometric)
    else:
        _store(file, frames, ds, ">" if syntax == ExplicitVRBigEndian else "<")
    # ds is changed only now, because the frames are decoded from it.
    ds.PixelData = file.getvalue() if isinstance(file, io.BytesIO) else PixelStream(file, 0, file.tell())
    ds["PixelData"].VR = "OW" if int(ds.BitsAllocated) > 8 or syntax.is_implicit_VR else "OB"
    ds["PixelData"].is_undefined_length = syntax.is_encapsulated
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PhotometricInterpretation = photometric
    if int(ds.SamplesPerPixel) > 1:
        ds.PlanarConfiguration = 0
    for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if name in ds:
            del ds[name]


def _checked(frames: Iterable[Frame], ds: Dataset) -> Iterator[Frame]:
    for frame in frames:
        if frame.dtype.itemsize * 8 != int(ds.BitsAllocated):
            raise Quarantine("pixels", "bits of the image")
        yield np.ascontiguousarray(frame)


def _store(file: BinaryIO, frames: Iterable[Frame], ds: Dataset, order: str) -> None:
    for frame in _checked(frames, ds):
        file.write(frame.astype(frame.dtype.newbyteorder(order), copy=False).data)
    file.write(b"\0" * (file.tell() % 2))


def _encode(file: BinaryIO, frames: Iterable[Frame], ds: Dataset, syntax: UID, photometric: str) -> None:
    encoder, described = get_encoder(syntax), _description(ds, photometric)
    file.write(EMPTY_OFFSET_TABLE)
    for frame in _checked(frames, ds):
        try:
            encoded = encoder.encode(frame, encoding_plugin=ENCODERS[syntax], **described)
        except Exception as error:  # noqa: BLE001 - an encoder may refuse what its decoder read
            raise Quarantine("pixels", type(error).__name__) from None
        for item in itemize_frame(encoded):
            file.write(item)


def _description(ds: Dataset, photometric: str) -> dict[str, Any]:
    samples = int(ds.SamplesPerPixel)
    return {
        "rows": int(ds.Rows),
        "columns": int(ds.Columns),
        "samples_per_pixel": samples,
        "number_of_frames": 1,
        "bits_allocated": int(ds.BitsAllocated),
        "bits_stored": int(ds.BitsStored),
        "pixel_representation": int(ds.PixelRepresentation),
        "photometric_interpretation": photometric,
        **({"planar_configuration": 0} if samples > 1 else {}),
    }
