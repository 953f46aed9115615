"""Centre lines of masks: thinning after Zhang and Suen (Communications of the ACM 27, 1984), their ends and tips."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

LEAST_SHARE = 0.25
"""Pieces of a centre line shorter than this share of the longest are not looked at for a tip."""
# Neighbours P2 ... P9 of Zhang and Suen, clockwise from above, as bits 0 ... 7.
_BITS = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.float32)


def thin(mask: np.ndarray) -> np.ndarray:
    """bool [H, W]: the mask worn down from its border until lines of one pixel remain, 8-connected as it was."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    out = np.zeros(mask.shape, bool)
    if not len(rows):
        return out
    place = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    picture = np.pad(mask[place].astype(np.uint8), 1)
    changed = True
    while changed:
        changed = False
        for goes in _removable():
            around = cv2.filter2D(picture, cv2.CV_16U, _BITS, borderType=cv2.BORDER_CONSTANT)
            gone = goes[around] & (picture > 0)
            changed |= bool(gone.any())
            picture[gone] = 0
    out[place] = picture[1:-1, 1:-1] > 0
    return out


@cache
def _removable() -> tuple[np.ndarray, np.ndarray]:
    """bool [256] for each of the two passes: whether a pixel with these neighbours goes."""
    p = (np.arange(256)[:, None] >> np.arange(8)) & 1
    around = p.sum(1)
    rises = ((p == 0) & (np.roll(p, -1, 1) == 1)).sum(1)
    common = (around >= 2) & (around <= 6) & (rises == 1)
    up, right, down, left = p[:, 0], p[:, 2], p[:, 4], p[:, 6]
    return (
        common & (up * right * down == 0) & (right * down * left == 0),
        common & (up * right * left == 0) & (up * down * left == 0),
    )


def tips(line: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """float64 [K, 2] (x, y): of each longer piece of a centre line the end that lies farthest in a direction.

    A mask does not say which end is the tip; `direction` is how lines of the structure run from entry to tip, (x, y).
    """
    count, label, size, _ = cv2.connectedComponentsWithStats(line.astype(np.uint8), connectivity=8)
    area = size[1:, cv2.CC_STAT_AREA]
    pieces = 1 + np.flatnonzero(area >= LEAST_SHARE * area.max()) if count > 1 else []
    neighbours = cv2.filter2D(line.astype(np.uint8), -1, np.ones((3, 3), np.float32), borderType=cv2.BORDER_CONSTANT)
    found = []
    for piece in pieces:
        own = label == piece
        ends = own & (neighbours == 2)  # itself and one more
        y, x = np.nonzero(ends if ends.any() else own)
        xy = np.stack([x, y], 1).astype(np.float64)
        found.append(xy[np.argmax(xy @ direction)])
    return np.array(found).reshape(-1, 2)


def mean_direction(lines: list[np.ndarray]) -> np.ndarray:
    """Unit vector (x, y) of how lines run on average, from first to last point; downwards when they cancel out."""
    steps = [line[-1] - line[0] for line in lines]
    units = [step / np.hypot(*step) for step in steps if np.hypot(*step) > 0]
    mean = np.mean(units, 0) if units else np.zeros(2)
    length = float(np.hypot(*mean))
    return mean / length if length > 1e-6 else np.array([0.0, 1.0])
