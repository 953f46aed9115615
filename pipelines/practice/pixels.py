"""Grey values as modalities store them: bit depth, photometric interpretation, modality and VOI transforms, coding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

Array = NDArray[Any]

# (transfer syntax, bits stored, VOI) in the order in which a practice hospital's images take them.
# VOI: full = none needed, window, windows = two of them, rescale = window after a modality rescale, lut = VOI LUT.
TABLE = (
    (ImplicitVRLittleEndian, 12, "window"), (JPEG2000Lossless, 12, "window"), (ExplicitVRLittleEndian, 10, "full"),
    (JPEGBaseline8Bit, 8, "full"), (RLELossless, 12, "rescale"), (JPEGLSLossless, 10, "window"),
    (ExplicitVRLittleEndian, 16, "window"), (ImplicitVRLittleEndian, 8, "full"), (JPEG2000Lossless, 16, "windows"),
    (RLELossless, 8, "full"), (ExplicitVRLittleEndian, 12, "lut"), (JPEGLSLossless, 12, "rescale"),
    (ImplicitVRLittleEndian, 10, "windows"), (JPEG2000Lossless, 8, "full"), (JPEGBaseline8Bit, 8, "window"),
    (ExplicitVRLittleEndian, 12, "window"), (JPEGLSLossless, 16, "window"),
)  # fmt: skip
PLUGINS = {RLELossless: "pylibjpeg", JPEG2000Lossless: "pylibjpeg", JPEGLSLossless: "pyjpegls"}
LUT_GAMMA = 1.4


@dataclass(frozen=True)
class Encoding:
    """How the pixels of one instance are stored."""

    syntax: str
    bits: int
    voi: str
    inverse: bool  # MONOCHROME1

    @classmethod
    def of(cls, number: int) -> Encoding:
        """Encodings in rotation, so that even a small export has every kind; about one in three is MONOCHROME1."""
        syntax, bits, voi = TABLE[number % len(TABLE)]
        return cls(str(syntax), bits, voi, (number * 7) % 10 < 3)


def store_pixels(ds: FileDataset, image: Array, how: Encoding) -> None:
    """Set the pixel module of `ds` from `image`, float (rows, columns) in [0, 1] where 1 is white on MONOCHROME2."""
    ds.SamplesPerPixel, ds.PixelRepresentation = 1, 0
    ds.Rows, ds.Columns = image.shape
    ds.PhotometricInterpretation = "MONOCHROME1" if how.inverse else "MONOCHROME2"
    ds.BitsStored, ds.HighBit = how.bits, how.bits - 1
    ds.BitsAllocated = 8 if how.bits == 8 else 16
    level = _voi(ds, how)
    stored = 1 - image if how.inverse else image
    if how.voi == "lut":
        stored = np.power(stored, np.float32(1 / LUT_GAMMA))
    values = np.rint(level[0] + stored * (level[1] - level[0])).astype(np.uint8 if how.bits == 8 else np.uint16)
    if ds.Modality == "DX" and "RescaleSlope" not in ds:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    if ds.Modality == "DX":
        ds.PresentationLUTShape = "INVERSE" if how.inverse else "IDENTITY"
        ds.BurnedInAnnotation = "NO"  # as the device believes; true or not
    ds.LossyImageCompression = "00"
    _compress(ds, values, how)


def _voi(ds: FileDataset, how: Encoding) -> tuple[float, float]:
    """Set modality and VOI attributes; returns the stored values of black and white."""
    top = float(2**how.bits - 1)
    if how.voi == "full":
        return 0.0, top
    low, high = np.floor(0.06 * top), np.ceil(0.93 * top)
    if how.voi == "lut":
        entries = 2**how.bits
        ramp = np.clip((np.arange(entries) - low) / (high - low), 0, 1) ** LUT_GAMMA
        item = Dataset()
        item.LUTDescriptor = [entries % 65536, 0, 16]
        item.add_new(0x00283006, "OW", np.rint(ramp * 65535).astype("<u2").tobytes())
        item.LUTExplanation = "NORMAL"
        ds.VOILUTSequence = Sequence([item])
        return low, high
    slope, intercept = (0.5, -100.0) if how.voi == "rescale" else (1.0, 0.0)
    if how.voi == "rescale":
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "0.5", "-100", "US"
    centre, width = (low + high) / 2 * slope + intercept, (high - low) * slope
    if how.voi == "windows":
        ds.WindowCenter, ds.WindowWidth = (
            [f"{centre:.1f}", f"{centre * 1.1:.1f}"],
            [f"{width:.1f}", f"{width * 0.7:.1f}"],
        )
        ds.WindowCenterWidthExplanation = ["NORMAL", "HARDER"]
    else:
        ds.WindowCenter, ds.WindowWidth = f"{centre:.1f}", f"{width:.1f}"
    return low, high


def _compress(ds: FileDataset, values: Array, how: Encoding) -> None:
    meta = ds.file_meta
    if how.syntax == JPEGBaseline8Bit:
        ok, coded = cv2.imencode(".jpg", values, [cv2.IMWRITE_JPEG_QUALITY, 95])
        if not ok:
            raise ValueError("JPEG encoding failed")
        ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", "ISO_10918_1"
        ds.LossyImageCompressionRatio = f"{values.nbytes / len(coded):.2f}"
        ds.PixelData = encapsulate([coded.tobytes()])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        meta.TransferSyntaxUID = JPEGBaseline8Bit
        return
    native = how.syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    meta.TransferSyntaxUID = how.syntax if native else ExplicitVRLittleEndian
    ds.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    ds["PixelData"].VR = "OW" if how.bits > 8 or how.syntax == ImplicitVRLittleEndian else "OB"
    if not native:
        ds.compress(how.syntax, encoding_plugin=PLUGINS[how.syntax], generate_instance_uid=False)
