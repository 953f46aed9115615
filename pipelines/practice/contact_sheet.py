"""A contact sheet: instances of an export as a viewer would window them, side by side in one PNG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from pipelines.contract import BadInput, write_atomic

Array = NDArray[Any]


def contact_sheet(files: list[Path], out: Path, columns: int = 6, tile: int = 320) -> tuple[int, int]:
    """Write the windowed images of `files` (DICOM) to `out` (PNG); returns its (rows, columns) in pixels."""
    if not files:
        raise BadInput("There is no image to show; name at least one DICOM file.")
    tiles = [_fit(windowed(path), tile) for path in files]
    wide = min(columns, len(tiles))
    tiles += [np.zeros((tile, tile), np.uint8)] * (-len(tiles) % wide)
    sheet = np.vstack([np.hstack(tiles[i : i + wide]) for i in range(0, len(tiles), wide)])
    ok, png = cv2.imencode(".png", sheet)
    if not ok:
        raise ValueError("PNG encoding failed")
    write_atomic(out, png.tobytes())
    return sheet.shape[0], sheet.shape[1]


def practice_sheet(export: Path, out: Path, count: int = 24, columns: int = 6, tile: int = 320) -> tuple[int, int]:
    """A contact sheet of the first `count` images of a practice export, FOR PROCESSING twins left out."""
    key = json.loads(export.with_name(export.name + ".key.json").read_text(encoding="utf-8"))
    shown = [entry["path"] for entry in key["instances"].values() if not entry["for_processing"]]
    return contact_sheet([export / path for path in shown[:count]], out, columns, tile)


def windowed(path: Path) -> Array:
    """An instance as displayed: modality and VOI transforms, white is dense tissue; uint8 (rows, columns)."""
    ds = dcmread(path, force=True)
    if "TransferSyntaxUID" not in getattr(ds, "file_meta", {}):
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    plain = ds.get("RescaleSlope", 1) == 1 and ds.get("RescaleIntercept", 0) == 0
    values = ds.pixel_array if plain else apply_modality_lut(ds.pixel_array, ds)
    values = apply_voi_lut(values, ds).astype(np.float64)
    low, high = _range(ds, values)
    grey = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    return np.rint(grey * 255).astype(np.uint8)


def _range(ds: Any, values: Array) -> tuple[float, float]:
    """Output range of the VOI transform; of the stored values where there is none."""
    if "WindowCenter" in ds or "VOILUTSequence" in ds:
        return float(values.min()), float(values.max())
    return 0.0, float(2**ds.BitsStored - 1)


def _fit(image: Array, tile: int) -> Array:
    scale = tile / max(image.shape)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:tile, :tile]
    square = np.zeros((tile, tile), np.uint8)
    top, left = (tile - small.shape[0]) // 2, (tile - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square
