"""Small pictures without matplotlib, for the server too: an image, and a map whose every patch is one pixel."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def grey_png(image: np.ndarray) -> bytes:
    """PNG of uint8 [H, W]."""
    return _png(Image.fromarray(image))


def map_png(values: np.ndarray, palette: list[int]) -> bytes:
    """PNG of [h, w] in the 256 colours of `palette` (r, g, b, r, ...) from 0 or less to 1."""
    picture = Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8))
    picture.putpalette(palette)  # makes indices of the grey levels
    return _png(picture)


def read_palette(png: bytes) -> list[int]:
    """The palette of a PNG that `map_png` made."""
    with Image.open(io.BytesIO(png)) as picture:
        return picture.getpalette() or []


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
