"""Before and after as pictures, with a box around everything that changed: found by comparing the pixels themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels
from pydicom.pixels.processing import apply_color_lut

from pipelines.scan.dicom import read_object

SIDE = 1600
"""Longer side of a picture, at most."""
SHOWN, COMPARED = 3, 512
"""Frames of an object that are shown, and that are compared (spread evenly where there are more)."""
COLOUR_NOISE = 8
"""Colour frames may differ by rounding between colour models; grey ones may not differ at all outside the boxes."""
PERCENTILES = (0.1, 99.9)
_YELLOW = (0, 200, 255)
_HEADER = ["Rows", "Columns", "NumberOfFrames", "BitsStored", "PixelRepresentation", "PhotometricInterpretation"]
_PALETTE = [f"{c}PaletteColorLookupTable{part}" for c in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")]


@dataclass(frozen=True)
class Shown:
    """One frame as PNG bytes, before and after."""

    frame: int
    before: bytes
    after: bytes


@dataclass(frozen=True)
class Pictures:
    """What there is to see of one instance."""

    frames: int
    compared: int
    boxes: list[list[int]]
    """[frame, left, top, width, height] of what differs between the two."""
    shown: list[Shown]


class Unseen(Exception):
    """There is no picture: an object without pixels, or one that cannot be decoded here."""


def pictures(before: Path, after: Path) -> Pictures:
    """Compare the frames of two files one by one and show those that changed most; raises Unseen."""
    try:
        return _pictures(before, after)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything; the text may quote the header
        raise Unseen(type(error).__name__) from None


def _pictures(before: Path, after: Path) -> Pictures:
    old, new = (dcmread(p, force=True, specific_tags=_HEADER + _PALETTE) for p in (before, after))
    count = int(new.get("NumberOfFrames") or 1)
    compared = sorted({int(i) for i in np.linspace(0, count - 1, min(count, COMPARED))})
    boxes: list[list[int]] = []
    changed: dict[int, int] = {}
    for index, a, b in _frames(before, after, compared):
        found = differences(_stored(a, old), _stored(b, new))
        boxes += [[index, *box] for box in found]
        changed[index] = sum(w * h for _, _, w, h in found)
    order = sorted(changed, key=lambda i: (-changed[i], abs(i - count // 2)))[:SHOWN]
    shown = [_show(i, a, b, old, new, [x[1:] for x in boxes if x[0] == i]) for i, a, b in _frames(before, after, order)]
    return Pictures(count, len(compared), boxes, sorted(shown, key=lambda s: s.frame))


def _frames(before: Path, after: Path, indices: list[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    chosen = sorted(indices)
    pairs = zip(_decode(before, chosen), _decode(after, chosen), strict=True)
    for index, (a, b) in zip(chosen, pairs, strict=True):
        yield index, a, b


def _decode(path: Path, indices: list[int]) -> Iterator[np.ndarray]:
    """Frames one at a time; a file without file meta, and a deflated one, must be read whole."""
    with path.open("rb") as f:
        part10 = f.read(132)[128:] == b"DICM"
    syntax = dcmread(path, force=True, specific_tags=["Rows"]).file_meta.get("TransferSyntaxUID") if part10 else None
    if syntax and not syntax.is_deflated:
        return iter_pixels(path, indices=indices)
    return iter_pixels(read_object(path.read_bytes()), indices=indices)


def _stored(frame: np.ndarray, header: Dataset) -> np.ndarray:
    """Without what lies in unused high bits (an overlay, PS3.5 8.1.1), which is no part of the picture."""
    bits = int(header.get("BitsStored") or 8 * frame.itemsize)
    if header.get("PixelRepresentation") or bits >= 8 * frame.itemsize:
        return frame
    return frame & ((1 << bits) - 1)


def differences(before: np.ndarray, after: np.ndarray) -> list[list[int]]:
    """[left, top, width, height] of the regions in which two frames differ, (rows, columns[, 3]) of one shape."""
    if before.shape != after.shape:
        raise Unseen("shape")
    apart = np.abs(before.astype(np.int64) - after.astype(np.int64))
    mask = (apart.max(axis=2) > COLOUR_NOISE if apart.ndim == 3 else apart > 0).astype(np.uint8)
    if not mask.any():
        return []
    # A blanked region can agree with its filling here and there; what lies close together is one box.
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(closed)
    found = [[int(v) for v in row[:4]] for row in stats[1:]]
    return sorted(found, key=lambda b: (b[1], b[0]))


def _show(
    index: int, before: np.ndarray, after: np.ndarray, old: Dataset, new: Dataset, boxes: list[list[int]]
) -> Shown:
    span = _span(_stored(before, old)) if before.ndim == 2 else None
    return Shown(index, _png(_display(before, old, span), boxes), _png(_display(after, new, span), boxes))


def _span(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(max(high, low + 1))


def _display(frame: np.ndarray, header: Dataset, span: tuple[float, float] | None) -> np.ndarray:
    """BGR uint8 as a person sees it; both pictures of a pair go through the same window."""
    photometric = str(header.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        frame = apply_color_lut(frame, header)
        frame = (frame >> 8 if frame.dtype == np.uint16 else frame).astype(np.uint8)
    if frame.ndim == 3:
        return cv2.cvtColor(np.ascontiguousarray(frame[..., :3].astype(np.uint8)), cv2.COLOR_RGB2BGR)
    low, high = span or (0.0, 255.0)
    grey = np.clip((_stored(frame, header).astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    return cv2.cvtColor(255 - grey if photometric == "MONOCHROME1" else grey, cv2.COLOR_GRAY2BGR)


def _png(picture: np.ndarray, boxes: list[list[int]]) -> bytes:
    """Shrunk to SIDE, each box drawn just outside its region."""
    scale = min(1.0, SIDE / max(picture.shape[:2]))
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    rows, columns = picture.shape[:2]
    for left, top, width, height in boxes:
        near = max(int(left * scale) - 3, 0), max(int(top * scale) - 3, 0)
        far = min(int((left + width) * scale) + 3, columns - 1), min(int((top + height) * scale) + 3, rows - 1)
        cv2.rectangle(picture, near, far, _YELLOW, 2)
    grey = not boxes and bool((picture[..., 0] == picture[..., 1]).all() and (picture[..., 1] == picture[..., 2]).all())
    return bytes(cv2.imencode(".png", picture[..., 0] if grey else picture)[1].tobytes())
