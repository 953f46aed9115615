"""Where in a picture anything as thin and as marked as a stroke of print is, in a few milliseconds.

Nearly all of a radiograph holds nothing as sharp as print. Two morphological top-hats (a stroke is a bright or dark
line on its surroundings) say where such strokes are, on a raster of cells; the detector looks there only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[Any]
Cells = NDArray[np.uint8]

CELL = 32  # pixels: the gate's raster, and the multiple that the detector wants
STROKE = 9  # a stroke is thinner than this; thicker print is found on the smaller levels of the pyramid
# Levels by which a stroke stands out, lowest first, and the share of a cell that such strokes cover: much faint ink, or
# a little of strong ink as tiny print has it.
INK = ((24, 0.10), (48, 0.03))
STRIP = 8 * CELL  # rows
RUN = 96  # pixels in one straight upright or level line
EDGE = 4  # pixels
SMALL = 24  # cells that are not worth dividing


@dataclass(frozen=True)
class Region:
    """An upright rectangle of a picture in pixels, with the detector's mean probability."""

    left: int
    top: int
    width: int
    height: int
    score: float = 1.0

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def area(self) -> int:
        return self.width * self.height

    def grown(self, x: int, y: int, shape: tuple[int, ...]) -> Region:
        """The region made larger by x and y pixels on each side, within a picture of `shape` (rows, columns)."""
        left, top = max(self.left - x, 0), max(self.top - y, 0)
        right, bottom = min(self.right + x, shape[1]), min(self.bottom + y, shape[0])
        return Region(left, top, right - left, bottom - top, self.score)

    def scaled(self, factor: float) -> Region:
        """The region in a picture of another size, never smaller than it was."""
        left, top = math.floor(self.left * factor), math.floor(self.top * factor)
        width, height = math.ceil(self.right * factor) - left, math.ceil(self.bottom * factor) - top
        return Region(left, top, width, height, self.score)

    def within(self, other: Region) -> Region:
        """The region as seen from the corner of another."""
        return Region(self.left - other.left, self.top - other.top, self.width, self.height, self.score)

    def crop(self, picture: NDArray[Any]) -> NDArray[Any]:
        return picture[self.top : self.bottom, self.left : self.right]


def stroke_cells(picture: Picture, known: Sequence[Region] = ()) -> Cells:
    """1 for each cell (rows / 32, columns / 32) with strokes in it, on a picture whose sides are multiples of 32.

    Strokes within `known` regions do not count.
    """
    rows, columns = picture.shape
    active = np.zeros((rows // CELL, columns // CELL), np.uint8)
    for top in range(0, rows, STRIP):  # a strip and what is made of it fit a processor's cache
        strip = Region(0, top, columns, min(STRIP, rows - top))
        bright, dark = _strokes(picture, strip, known)
        strip.scaled(1 / CELL).crop(active)[...] = _covered(_marked(cv2.max(bright, dark)))
    # Frames, rulers and edges of plates run straight on; no stroke of print does.
    for area in components(active):
        if max(area.width, area.height) * CELL < RUN:
            continue
        wide = area.grown(RUN // CELL, RUN // CELL, active.shape)  # a run goes on beyond the cells that it fills
        lines = _strokes(picture, wide.scaled(CELL), known)
        if not any(_may_run(_marked(line)[0]) for line in lines):
            continue
        broken = [[_without_runs(mask) for mask in _marked(line)] for line in lines]
        rest = _covered([cv2.max(*masks) for masks in zip(*broken, strict=True)])
        area.crop(active)[...] &= area.within(wide).crop(rest)
    return active


def _strokes(picture: Picture, part: Region, known: Sequence[Region]) -> list[Picture]:
    """How much each pixel of a part stands out as part of a thin bright line, and of a thin dark line, in levels."""
    around = part.grown(STROKE - 1, STROKE - 1, picture.shape)
    kernel, inner = np.ones((STROKE, STROKE), np.uint8), part.within(around)
    lines = [
        np.ascontiguousarray(inner.crop(cv2.morphologyEx(around.crop(picture), op, kernel)))
        for op in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT)
    ]
    for region in known:
        text = region.grown(EDGE, EDGE, picture.shape).within(part)
        if text.right > 0 and text.bottom > 0:
            for line in lines:
                line[max(text.top, 0) : text.bottom, max(text.left, 0) : text.right] = 0
    return lines


def components(cells: Cells) -> list[Region]:
    """The bounding rectangles of connected cells, in cells."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(cells)
    return [Region(*(int(v) for v in stats[i][:4])) for i in range(1, count)]


def areas(active: Cells) -> list[Region]:
    """Rectangles, in cells, that hold every active cell and a cell around it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(active, np.ones((3, 3), np.uint8)))
    found: list[Region] = []
    for i in range(1, count):
        parts = _compact(Region(*(int(v) for v in stats[i][:4])), labels == i)
        found += parts if len(parts) == 1 else [part.grown(1, 1, labels.shape) for part in parts]
    return found


def _marked(line: Picture) -> list[Picture]:
    """Masks of the pixels that stand out by each level of INK."""
    return [cv2.compare(line, contrast, cv2.CMP_GE) for contrast, _ in INK]


def _covered(masks: Sequence[Picture]) -> Cells:
    """1 for each cell of which one of the masks, made for the levels of INK, covers its share."""
    rows, columns = masks[0].shape
    active = np.zeros((rows // CELL, columns // CELL), np.uint8)
    for mask, (_, share) in zip(masks, INK, strict=True):
        active |= cv2.resize(mask, active.shape[::-1], interpolation=cv2.INTER_AREA) >= share * 255
    return active


def _may_run(mask: Picture) -> bool:
    """Whether some row or column is full in two cells side by side, as a run makes it wherever it begins."""
    for lines in (mask, cv2.transpose(mask)):
        full = np.packbits(lines, axis=1).view(np.uint32) == (1 << CELL) - 1
        if (full[:, 1:] & full[:, :-1]).any():
            return True
    return False


def _without_runs(mask: Picture) -> Picture:
    for kernel in (np.ones((1, RUN), np.uint8), np.ones((RUN, 1), np.uint8)):
        runs = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        mask = cv2.subtract(mask, runs)
    return mask


def _compact(area: Region, cells: NDArray[np.bool_]) -> list[Region]:
    """Cut a rectangle of cells in halves, each shrunk to its cells, until it is filled for the greater part: a wire
    across the picture would else take all of it along."""
    inside = area.crop(cells)
    if not inside.any():
        return []
    y, x, height, width = *(int(v.min()) for v in np.nonzero(inside)), *(int(np.ptp(v)) + 1 for v in np.nonzero(inside))
    area = Region(area.left + x, area.top + y, width, height)
    if width * height <= SMALL or 2 * area.crop(cells).sum() >= width * height:
        return [area]
    if width >= height:
        first = Region(area.left, area.top, width // 2, height)
        second = Region(first.right, area.top, width - first.width, height)
    else:
        first = Region(area.left, area.top, width, height // 2)
        second = Region(area.left, first.bottom, width, height - first.height)
    return [*_compact(first, cells), *_compact(second, cells)]
