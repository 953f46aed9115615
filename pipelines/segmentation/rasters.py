"""From masks and polylines of the store to a square of a stated side, and back: the one place that knows geometry.

Everything lies in a `Box` of the stored image, in pixels of the store counted from the outer edge of the first pixel. A
polyline's point (x, y) is the middle of a pixel, so that it lies at (x + 0.5, y + 0.5) of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from pipelines.preprocessing import Preprocessing

SHARE = 0.01
"""Width of a drawn line as a share of the mean of height and width, as in public code for RANZCR CLiP."""
_SHIFT = 4  # fractional bits of cv2's drawing


class Box(NamedTuple):
    """A part of a stored image."""

    left: float
    top: float
    right: float
    bottom: float


def whole(height: int, width: int) -> Box:
    """All of an image."""
    return Box(0, 0, width, height)


def seen(height: int, width: int, how: Preprocessing) -> Box:
    """What an encoder with this preprocessing sees of an image; padding reaches beyond it."""
    across, down = float(width), float(height)
    if how.fit != "stretch":
        across = down = float(min(height, width) if how.fit == "crop" else max(height, width))
    share = how.size / (how.resize or how.size)
    across, down = across * share, down * share
    return Box((width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2)


def central_square(height: int, width: int) -> Box:
    """The part of an image in which all are judged, and which most encoders see."""
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return Box(left, top, left + side, top + side)


def split_polylines(points: Sequence[float] | None) -> list[np.ndarray]:
    """float64 [N, 2] of each polyline in x0 y0 x1 y1 ...; a pair of nan stands between two lines of one structure."""
    xy = np.array(points if points is not None else [], np.float64).reshape(-1, 2)
    gaps = np.flatnonzero(np.isnan(xy).any(1))
    parts = [part[~np.isnan(part).any(1)] for part in np.split(xy, gaps)]
    return [part for part in parts if len(part) > 1]


def to_square(xy: np.ndarray, box: Box, side: int) -> np.ndarray:
    """Pixels of the store (middle of a pixel at a whole number) to pixels of the box drawn at `side`, likewise."""
    scale = side / np.array([box.right - box.left, box.bottom - box.top])
    return (xy + 0.5 - np.array([box.left, box.top])) * scale - 0.5


def draw_lines(lines: Sequence[np.ndarray], side: int, share: float = SHARE) -> np.ndarray:
    """bool [side, side] of polylines (pixels of the square) with a filled disc at each tip, the last point.

    A share of 0 draws lines of one pixel without a disc: the centre line.
    """
    canvas = np.zeros((side, side), np.uint8)
    thickness = max(int(share * side), 1)
    for line in lines:
        # Far points would overflow the fixed-point numbers of cv2; nothing of them is seen.
        at = np.round(np.clip(line, -2 * side, 3 * side) * (1 << _SHIFT)).astype(np.int32)
        cv2.polylines(canvas, [at], False, 255, thickness, cv2.LINE_8, _SHIFT)
        if share:
            cv2.circle(canvas, at[-1].tolist(), (thickness // 2) << _SHIFT, 255, -1, cv2.LINE_8, _SHIFT)
    return canvas > 0


def cut(mask_HW: np.ndarray, box: Box, side: int) -> np.ndarray:
    """A mask of the store in a box at `side`: float32 [side, side], the share of each pixel that the mask covers."""
    left, top, right, bottom = (round(edge) for edge in box)
    height, width = mask_HW.shape
    part = (mask_HW[max(top, 0) : bottom, max(left, 0) : right] > 0).astype(np.float32)
    beyond = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    part = cv2.copyMakeBorder(part, *beyond, cv2.BORDER_CONSTANT, value=0)
    smaller = side <= min(part.shape)
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def to_source(square: np.ndarray, box: Box, affine: Sequence[float], shape: tuple[int, int]) -> np.ndarray:
    """bool [rows, columns] of the source image from a mask of a box; false outside the box.

    `affine` takes (x, y) of the source to the store (tables.INDEX). Edges are those of the linearly scaled mask.
    """
    a, b, c, d, e, f = affine
    side = len(square)
    scale_x, scale_y = side / (box.right - box.left), side / (box.bottom - box.top)
    matrix = np.array(
        [
            [a * scale_x, b * scale_x, (c + 0.5 - box.left) * scale_x - 0.5],
            [d * scale_y, e * scale_y, (f + 0.5 - box.top) * scale_y - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found = cv2.warpAffine(square.astype(np.float32), matrix, (shape[1], shape[0]), flags=flags)
    return found >= 0.5
