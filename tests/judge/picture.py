"""The two pixel actions of MIDI-B: burned-in text hidden, read by tesseract, and everything else retained."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from pydicom.dataset import Dataset

from tests.judge.actions import Check

HAVE_READER = shutil.which("tesseract") is not None
# A blanked patch may reach this much further than the text: its height, or 32 pixels.
MARGIN = 32
MARKERS = frozenset(re.findall(r"\w+", "LAT ERECT SUPINE PORTABLE PORT UPRIGHT DECUBITUS EXP INSP SEMI MOBILE"))


def pixel_checks(entry: dict[str, Any], source: Dataset, output: Dataset | None) -> Iterator[Check]:
    """Checks of one instance: each planted line unreadable, all pixels away from planted lines as they were."""
    boxes = entry["burned_in"]
    before = source.pixel_array
    after = output.pixel_array if output is not None else np.zeros((0,))
    if output is None or before.shape != after.shape:
        yield from (Check("pixels_hidden", "PixelData", output is None) for _ in boxes)
        yield Check("pixels_retained", "PixelData", False)
        return
    view = grey(after, output)
    for box in boxes:
        yield Check("pixels_hidden", "PixelData", not readable(view, box))
    if not boxes:
        same = _digest(before) == _digest(after) or not _unexplained(before, after, source, ())
        yield Check("pixels_retained", "PixelData", same)
        return
    yield Check("pixels_retained", "PixelData", not _unexplained(before, after, source, boxes))


def _unexplained(before: np.ndarray, after: np.ndarray, source: Dataset, boxes: Sequence[dict[str, Any]]) -> int:
    """Changed patches away from planted lines under which tesseract reads no print of the picture's own.

    Public radiographs carry some (window settings, logos of a web site); side and position markers do not count as
    print that may go.
    """
    changed = before != after
    while changed.ndim > 2:
        changed = changed.any(axis=-1) if changed.shape[-1] in (3, 4) else changed.any(axis=0)
    for box in boxes:
        margin = max(MARGIN, box["height"])
        top, left = max(0, box["top"] - margin), max(0, box["left"] - margin)
        changed[top : box["top"] + box["height"] + margin, left : box["left"] + box["width"] + margin] = False
    view, count = grey(before, source), 0
    patches = cv2.dilate(changed.astype(np.uint8), np.ones((9, 9), np.uint8))
    for x, y, width, height, _ in cv2.connectedComponentsWithStats(patches)[2][1:]:
        part = {"left": int(x), "top": int(y), "width": int(width), "height": int(height)}
        seen = {w for w in plain_tokens(read_box(view, part)) if any(c.isalpha() for c in w) or len(w) >= 4}
        count += not seen - MARKERS
    return count


def readable(view: np.ndarray, box: dict[str, Any]) -> set[str]:
    """Planted tokens of three characters and more that tesseract reads in a box, in either polarity."""
    seen = re.sub(r"[^A-Z0-9]", "", _plain(read_box(view, box)))
    return {token for token in plain_tokens(box["text"]) if token in seen}


def read_box(view: np.ndarray, box: dict[str, Any]) -> str:
    """What tesseract reads in a part of a picture and its surroundings, enlarged, dark on light and light on dark."""
    margin = max(4, box["height"] // 2)
    top, left = max(0, box["top"] - margin), max(0, box["left"] - margin)
    crop = view[top : box["top"] + box["height"] + margin, left : box["left"] + box["width"] + margin]
    if crop.size == 0 or crop.min() == crop.max():
        return ""
    crop = cv2.resize(crop, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    return " ".join(_read(picture) for picture in (crop, 255 - crop))


def plain_tokens(text: str) -> set[str]:
    return {t for t in re.split(r"[^A-Z0-9]+", _plain(text)) if len(t) >= 3}


def grey(pixels: np.ndarray, ds: Dataset) -> np.ndarray:
    """A uint8 picture for reading; of several frames or colours the first, the middle one."""
    while pixels.ndim > 2:
        pixels = pixels[..., 1] if pixels.shape[-1] in (3, 4) else pixels[0]
    pixels = pixels.astype(np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    view = ((pixels - low) * (255 / max(1.0, high - low))).astype(np.uint8)
    return 255 - view if ds.PhotometricInterpretation == "MONOCHROME1" else view


def _read(picture: np.ndarray) -> str:
    _, png = cv2.imencode(".png", picture)
    command = ["tesseract", "stdin", "stdout", "--psm", "6"]
    return subprocess.run(command, input=png.tobytes(), capture_output=True, check=True).stdout.decode(
        "utf-8", "replace"
    )


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text).replace("Ø", "O").replace("ø", "o")
    return "".join(c for c in letters if not unicodedata.combining(c)).upper()


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()
