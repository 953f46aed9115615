"""Where in a picture anything as sharp, as thin and as marked as strokes of print is, in a few milliseconds.

Nearly all of a radiograph holds nothing like print. Strokes have sides and ends, so that they are sharp across and
along, where edges of bones, wires and plates run on; and they stand out, and so do the gaps between them: two
morphological top-hats tell bright lines and dark ones. The detector looks only at cells of a raster that have it all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[Any]
Cells = NDArray[np.uint8]

CELL = 32  # pixels: the gate's raster, and the multiple that the detector wants
HALF = CELL // 2  # pixels: the raster of what is looked at
STROKE = 9  # a stroke is thinner than this; thicker print is found on the smaller levels of the pyramid
# Levels by which a stroke stands out, lowest first, and the share of a cell that such strokes cover: much faint ink, or
# a little of strong ink as tiny print has it.
INK = ((24, 0.10), (48, 0.03))
SHARP = (24, 0.02)  # levels across two pixels, and the share of a cell that is so sharp to the side, and up or down
GAPS = (16, 0.03)  # levels, and the share of a cell, of lines brighter, and of lines darker, than what is beside them
DENSE = 2
GRAIN, GAIN = 3, 5  # levels that grain is made to have where faint strokes are looked for; and so much at most
WHITE = 255
STRIP = 8  # rows of cells
RUN = 96  # pixels in one straight upright or level line
EDGE = 4  # pixels
SMALL = 48  # half cells that are not worth dividing


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

    def common(self, other: Region) -> Region:
        """What is in both regions; of no area where nothing is."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        width, height = min(self.right, other.right) - left, min(self.bottom, other.bottom) - top
        return Region(left, top, max(width, 0), max(height, 0))

    def crop(self, picture: NDArray[Any]) -> NDArray[Any]:
        return picture[self.top : self.bottom, self.left : self.right]


def cut(picture: Picture, part: Region) -> Picture:
    """A part of a picture; what of it lies beyond the last row or column repeats that."""
    inside = part.crop(picture)
    below, aside = part.height - inside.shape[0], part.width - inside.shape[1]
    return cv2.copyMakeBorder(inside, 0, below, 0, aside, cv2.BORDER_REPLICATE) if below or aside else inside


def cells_of(shape: tuple[int, ...], regions: Sequence[Region] = ()) -> Cells:
    """The raster of a picture of a shape (rows, columns), its last cells reaching beyond; 1 where regions are."""
    cells = np.zeros((-(-shape[0] // CELL), -(-shape[1] // CELL)), np.uint8)
    for region in regions:
        region.scaled(1 / CELL).crop(cells)[...] = 1
    return cells


def stroke_cells(
    picture: Picture, known: Sequence[Region] = (), within: Cells | None = None, *, dense: bool = False
) -> Cells:
    """1 for each cell of a picture (rows, columns) with strokes in it.

    Strokes in `known` regions do not count, nor do cells that are not `within`. `dense`: no tiny print is looked for,
    and what is larger has DENSE times as many sharp pixels and gaps.
    """
    active, factor = cells_of(picture.shape), DENSE if dense else 1
    for top in range(0, active.shape[0], STRIP):  # a strip and what is made of it fit a processor's cache
        strip = Region(0, top, active.shape[1], min(STRIP, active.shape[0] - top))
        if within is not None and not strip.crop(within).any():
            continue
        sharp = _sharp_cells(cut(picture, strip.scaled(CELL)), factor)
        if within is not None:
            sharp &= strip.crop(within)
        for part in chain(*divided(sharp)):
            place = Region(part.left, part.top + top, part.width, part.height)
            place.crop(active)[...] |= _stroke_cells(picture, place.scaled(CELL), known, factor)
        strip.crop(active)[...] &= sharp
    # Frames, rulers and edges of plates run straight on; no stroke of print does.
    for area in components(active):
        if max(area.width, area.height) * CELL < RUN:
            continue
        wide = area.grown(RUN // CELL, RUN // CELL, active.shape)  # a run goes on beyond the cells that it fills
        lines = _strokes(picture, wide.scaled(CELL), known)
        if not any(_may_run(_marked(line)[0]) for line in lines):
            continue
        broken = [[_without_runs(mask) for mask in _marked(line)] for line in lines]
        rest = _inked([cv2.max(*masks) for masks in zip(*broken, strict=True)])
        area.crop(active)[...] &= area.within(wide).crop(rest)
    return active


def amplified(picture: Picture) -> Picture:
    """A picture, its sides multiples of 32, with differences of neighbours enlarged as far as its grain allows."""
    rows, columns = picture.shape
    levels = picture.astype(np.float32)
    bends = np.abs(cv2.filter2D(levels, -1, np.float32([[1, -2, 1]])))
    cells = bends.reshape(rows // CELL, CELL, columns // CELL, CELL).transpose(0, 2, 1, 3).reshape(-1, CELL * CELL)
    # Of grain alone, a quarter of the bends is greater than 1.15 times their deviation; of print, fewer are.
    grain = np.percentile(cells, 75, axis=1) / (1.15 * math.sqrt(6))
    gain = np.clip(GRAIN / np.maximum(grain, 0.1), 1, GAIN).reshape(rows // CELL, columns // CELL)
    gain = cv2.resize(gain.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
    enlarged = (levels - cv2.blur(levels, (CELL, CELL))) * gain
    return np.clip(enlarged + WHITE / 2, 0, WHITE).astype(np.uint8)


def stroke_pixels(picture: Picture, part: Region) -> Picture:
    """Not 0 for each pixel of a part that stands out as part of a thin line."""
    return _marked(cv2.max(*_strokes(picture, part, ())))[0]


def _sharp_cells(picture: Picture, factor: int) -> Cells:
    """1 for each cell in which enough pixels are sharp to the side, and enough of them up or down."""
    aside, along = np.zeros_like(picture), np.zeros_like(picture)
    cv2.absdiff(picture[:, 2:], picture[:, :-2], dst=aside[:, 1:-1])
    cv2.absdiff(picture[2:], picture[:-2], dst=along[1:-1])
    levels, share = SHARP
    return _covered(aside, levels, factor * share) & _covered(along, levels, factor * share)


def _stroke_cells(picture: Picture, part: Region, known: Sequence[Region], factor: int) -> Cells:
    """1 for each cell of a part in which strokes, and the gaps between them, cover their shares."""
    bright, dark = _strokes(picture, part, known)
    levels, share = GAPS
    gaps = _covered(bright, levels, factor * share) & _covered(dark, levels, factor * share)
    return _inked(_marked(cv2.max(bright, dark))) & gaps


def _strokes(picture: Picture, part: Region, known: Sequence[Region]) -> list[Picture]:
    """How much each pixel of a part stands out as part of a thin bright line, and of a thin dark line, in levels."""
    around = part.grown(STROKE - 1, STROKE - 1, (part.bottom + STROKE, part.right + STROKE))
    kernel, inner = np.ones((STROKE, STROKE), np.uint8), part.within(around)
    lines = [
        np.ascontiguousarray(inner.crop(cv2.morphologyEx(cut(picture, around), op, kernel)))
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


def halves(cells: Cells) -> Cells:
    """A raster of cells as one of half cells."""
    return np.repeat(np.repeat(cells, 2, axis=0), 2, axis=1)


def areas(active: Cells, margin: int = 1) -> list[Region]:
    """Rectangles, in half cells, that hold every active cell and a margin around it; their sides are whole cells."""
    wide = cv2.dilate(halves(active), np.ones((2 * margin + 1,) * 2, np.uint8))
    found = [
        part if len(parts) == 1 else part.grown(margin, margin, wide.shape) for parts in divided(wide) for part in parts
    ]
    return [whole(part, wide.shape) for part in found]


def whole(area: Region, shape: tuple[int, ...]) -> Region:
    """A rectangle of half cells, its sides made even, in a raster of even sides."""
    right, bottom = min(area.right + area.width % 2, shape[1]), min(area.bottom + area.height % 2, shape[0])
    width, height = area.width + area.width % 2, area.height + area.height % 2
    return Region(right - width, bottom - height, width, height)


def divided(cells: Cells) -> list[list[Region]]:
    """For each component of connected cells, compact rectangles that hold all of it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cells)
    return [_compact(Region(*(int(v) for v in stats[i][:4])), labels == i) for i in range(1, count)]


def _marked(line: Picture) -> list[Picture]:
    """Masks of the pixels that stand out by each level of INK."""
    return [cv2.compare(line, contrast, cv2.CMP_GE) for contrast, _ in INK]


def _inked(masks: Sequence[Picture]) -> Cells:
    """1 for each cell of which one of the masks, made for the levels of INK, covers its share."""
    return np.bitwise_or.reduce([_filled(mask, share) for mask, (_, share) in zip(masks, INK, strict=True)])


def _covered(levels: Picture, least: int, share: float) -> Cells:
    """1 for each cell of which pixels of at least so many levels cover a share."""
    return _filled((levels >= least).view(np.uint8), share)


def _filled(mask: Picture, share: float) -> Cells:
    """1 for each cell of which odd values of a mask cover a share."""
    rows, columns = mask.shape
    # Rows are added up first, in bytes: so it takes a third of the time that averaging takes.
    sums = np.add.reduce((mask & 1).reshape(rows // CELL, CELL, columns), axis=1, dtype=np.uint8)
    sums = sums.reshape(rows // CELL, columns // CELL, CELL).sum(axis=2, dtype=np.uint16)
    return (sums >= share * CELL * CELL).astype(np.uint8)


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
