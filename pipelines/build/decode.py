"""From stored pixel values to the grey image a reader sees, and to the size of the store."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, apply_windowing

from pipelines.cohort.writer import stored_shape

PERCENTILES = (0.5, 99.5)


class Undecodable(Exception):
    """The pixels cannot be turned into an image; `args[0]` is a reason code."""


def render(ds: Dataset) -> tuple[np.ndarray, str]:
    """Displayed image of a single grey frame: float32 [H, W] in 0..255, dark where air is; and how it was windowed.

    Modality LUT, then VOI LUT or the first window (PS3.3 C.11.1, C.11.2), then MONOCHROME1 inverted. Without either,
    8 bit values are taken as they are (`full`) and deeper ones are stretched between their 0.5th and 99.5th
    percentile, pixel padding left out (`percentile`). Raises Undecodable.
    """
    stored, values = _modality_values(ds)
    shown, low, high, how = _window(ds, stored, values)
    grey = np.clip((shown.astype(np.float32) - low) * (255.0 / max(high - low, 1e-6)), 0, 255)
    return (255 - grey if ds.PhotometricInterpretation == "MONOCHROME1" else grey), how


def unwindowed(ds: Dataset) -> np.ndarray:
    """uint16 [H, W], dark where air is: all of the image's range, as no window shows it. Raises Undecodable."""
    _, values = _modality_values(ds)
    low, high = float(values.min()), float(values.max())
    grey = np.rint((values.astype(np.float64) - low) * (65535.0 / max(high - low, 1e-6))).astype(np.uint16)
    return 65535 - grey if ds.PhotometricInterpretation == "MONOCHROME1" else grey


def _modality_values(ds: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The stored values of a single grey frame, and these after the modality LUT. Raises Undecodable."""
    try:
        stored = ds.pixel_array
        if stored.ndim != 2 or stored.size == 0:
            raise Undecodable("shape")
        if ds.PixelRepresentation == 0 and stored.max() >> ds.BitsStored:
            stored = stored & ((1 << ds.BitsStored) - 1)  # an overlay may lie in the unused high bits
        return stored, apply_modality_lut(stored, ds)
    except Undecodable:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything; the text may quote the header
        raise Undecodable(type(error).__name__) from None


def shrink(grey: np.ndarray, side: int) -> tuple[np.ndarray, list[float]]:
    """uint8 image whose shorter side is `side`, and the affine from source to store pixel centres.

    Area averaging when smaller (no aliasing), linear when larger.
    """
    height, width = grey.shape
    rows, columns = stored_shape(height, width, side)
    how = cv2.INTER_AREA if rows <= height and columns <= width else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(grey, np.float32), (columns, rows), interpolation=how)
    return np.rint(small).astype(np.uint8), affine((height, width), (rows, columns))


def affine(source: tuple[int, int], store: tuple[int, int]) -> list[float]:
    """Six numbers a b c d e f: x' = a x + b y + c, y' = d x + e y + f between pixel centres of (rows, columns)."""
    x, y = store[1] / source[1], store[0] / source[0]
    return [x, 0.0, 0.5 * x - 0.5, 0.0, y, 0.5 * y - 0.5]


def _window(ds: Dataset, stored: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float, float, str]:
    """Values after the VOI transformation, the range they span on the display, and which it was."""
    try:
        if ds.get("VOILUTSequence"):
            descriptor = ds.VOILUTSequence[0].LUTDescriptor
            entries = np.arange(int(descriptor[0]) or 65536, dtype=np.int64) + int(descriptor[1])
            # The real span of the table: many devices write 12 bit tables under a 16 bit descriptor.
            table = apply_voi_lut(entries, ds)
            return apply_voi_lut(values, ds), float(table.min()), float(table.max()), "voi_lut"
        if ds.get("WindowCenter") not in (None, "") and ds.get("WindowWidth") not in (None, ""):
            center, width = (_first(ds.get(name)) for name in ("WindowCenter", "WindowWidth"))
            # The ends of the window function, whatever it is (LINEAR, LINEAR_EXACT or SIGMOID).
            ends = apply_windowing(np.array([center - 100 * width, center + 100 * width]), ds)
            return apply_windowing(values.astype(np.float64), ds), float(ends[0]), float(ends[1]), "window"
    except (ValueError, NotImplementedError, AttributeError, IndexError, TypeError):
        pass  # a window or table that breaks PS3.3 is as good as none
    if ds.BitsStored <= 8:
        low, high = apply_modality_lut(np.array([0, (1 << ds.BitsStored) - 1]), ds)
        return values, float(min(low, high)), float(max(low, high)), "full"
    padding = ds.get("PixelPaddingValue")
    counted = values if padding is None else values[stored != int(padding)]
    low, high = np.percentile(counted if counted.size else values, PERCENTILES)
    return values, float(low), float(high), "percentile"


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__getitem__") and not isinstance(value, str) else value)
