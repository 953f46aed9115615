"""What stands in the pixels beside the patient: side markers of lead, and identifying text burned in."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[Any]
Box = dict[str, Any]  # text, left, top, width, height in pixels

FONTS = ("DejaVuSans.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "")


@functools.lru_cache(maxsize=64)
def font(name: str, size: int) -> Any:
    """A font by file name from matplotlib's own, so that every machine draws the same; blank is Pillow's built-in."""
    package = importlib.util.find_spec("matplotlib")
    if name and package and package.origin:
        return ImageFont.truetype(Path(package.origin).parent / "mpl-data/fonts/ttf" / name, size)
    return ImageFont.load_default(size)


def burn_text(grey: Array, lines: list[str], rng: np.random.Generator) -> list[Box]:
    """Draw `lines` into a corner of `grey` (in place) in one of several sizes; returns the boxes of the ink."""
    rows, columns = grey.shape
    size = max(int(rng.choice([0.015, 0.020, 0.028]) * min(rows, columns)), 12)
    face = font(str(rng.choice(FONTS)), size)
    right, low = rng.random() < 0.5, rng.random() < 0.5
    plate, ink = rng.random() < 0.4, float(rng.uniform(0.92, 1.0))
    step = round(size * 1.35)
    boxes = []
    for index, line in enumerate(lines):
        layer, top = _glyphs(line, face)
        high, wide = layer.shape
        x = columns - wide - 14 if right else 14
        y = (rows - (len(lines) - index) * step - 10 if low else 12 + index * step) + top
        x, y = max(min(x, columns - wide), 0), max(min(y, rows - high), 0)
        under = grey[y : y + high, x : x + wide]
        if plate or under.mean() > 0.5:  # white on white would be read by nobody
            grey[max(y - 3, 0) : y + high + 3, max(x - 4, 0) : x + wide + 4] *= 0.08
        _blend(grey, layer, x, y, ink)
        boxes.append({"text": line, "left": x, "top": y, "width": wide, "height": high})
    return boxes


def place_markers(grey: Array, view: str, portable: bool, rng: np.random.Generator) -> list[Box]:
    """Lead side marker (L on the right of the image, R on its left) and the radiographer's words; no identity."""
    rows, columns = grey.shape
    letter = "L" if rng.random() < 0.6 else "R"
    if view == "LATERAL":
        letter = "L"
    size = max(int(rng.uniform(0.034, 0.055) * min(rows, columns)), 14)
    turn = float(rng.normal(0, 7))
    at_left = letter == "R" if view != "LATERAL" else rng.random() < 0.5
    spots = [(letter, size, turn, at_left, rng.uniform(0.03, 0.16))]
    if portable and rng.random() < 0.75:
        words = str(rng.choice(["PORTABLE", "AP", "AP SUPINE", "AP ERECT", 'PORT AP 40"']))
        spots.append((words, max(int(0.017 * min(rows, columns)), 12), 0.0, rng.random() < 0.5, rng.uniform(0.2, 0.34)))
    boxes = []
    for text, high, angle, left_side, down in spots:
        layer, _ = _glyphs(text, font("DejaVuSans-Bold.ttf", high), angle)
        tall, wide = layer.shape
        margin = int(rng.uniform(0.03, 0.08) * columns)
        x = margin if left_side else columns - wide - margin
        y = int(down * rows)
        _blend(grey, layer, x, y, float(rng.uniform(0.9, 1.0)))
        boxes.append({"text": text, "left": x, "top": y, "width": wide, "height": tall})
    return boxes


def _glyphs(text: str, face: Any, angle: float = 0.0) -> tuple[Array, int]:
    """Coverage in [0, 1] cropped to the ink, and how far the ink lies below the line's top."""
    left, top, right, bottom = (int(v) for v in face.getbbox(text))
    image = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), text, fill=255, font=face)
    if angle:
        image = image.rotate(angle, resample=Image.Resampling.BILINEAR, expand=True)
    cover = np.asarray(image, np.float32) / 255
    rows, columns = (np.flatnonzero((cover > 0.3).any(axis)) for axis in (1, 0))
    cropped = cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cropped, top + int(rows[0]) - 1


def _blend(grey: Array, layer: Array, x: int, y: int, ink: float) -> None:
    region = grey[y : y + layer.shape[0], x : x + layer.shape[1]]
    cover = layer[: region.shape[0], : region.shape[1]]
    region += (ink - region) * cover
