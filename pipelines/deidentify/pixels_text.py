"""Where text stands in a picture: the gate's cells, looked at by PP-OCR's detector from coarse to full resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.deidentify.pixels_gate import (
    CELL,
    EDGE,
    HALF,
    WHITE,
    Cells,
    Picture,
    Region,
    amplified,
    areas,
    cells_of,
    components,
    cut,
    divided,
    halves,
    stroke_cells,
    stroke_pixels,
    whole,
)
from pipelines.deidentify.pixels_models import text_probability

LEVELS = 3  # of the pyramid
WELL = 10  # pixels of height, for each halving, from which on the outline of a region is good enough
THICK = 48  # pixels of height from which strokes may be too thick to be told
INKED = 0.2  # of the pixels in a line, by its strokes; of print there is at least a quarter
ALONG = 3  # heights of blanked text beyond its ends that are looked at for faint strokes
VICINITY = 1  # cells around blanked text that a second look goes to
FOLLOWED = 48  # pixels of height from which on a coarser level has seen all of a text
FOLLOW = 3  # times that text is followed beyond the edge of what was looked at
PROBABILITY = 0.3  # of a text pixel (DB, arXiv 1911.08947)
LEAST, TALLEST = 3, 96  # pixels across a line of print; what is taller is found on a smaller level
SCORE = 0.4  # mean probability of a text region; DB's own default is 0.5
HINT = 0.1  # probability of something that may be text the other way up
TURNED = 1.2  # height by width of an area that is looked at turned, too
FRESH = 0.4  # of a region that is worth reading although coarser levels found text in it
UNCLIP = 1.6  # DB's map is shrunk text; regions grow by area * UNCLIP / perimeter

_FAINT = cv2.createCLAHE(clipLimit=16.0, tileGridSize=(4, 4))


def find_text(
    picture: Picture,
    around: Sequence[Region] = (),
    settled: Sequence[Region] = (),
    is_settled: Callable[[Region], bool] = lambda _: False,
) -> Iterator[Region]:
    """Text regions of a picture (rows, columns) on a pyramid of LEVELS halvings, those of its coarsest level first.

    `is_settled` says of a region that it was made out in full, so that it need not be looked at on a finer level;
    `settled` are such regions from the start.
    `around` are places where text was found, and blanked, before: only they and their neighbourhood are looked at, most
    of all along the line and there for the faintest strokes, too: print runs on into parts where it hardly stands out.
    """
    # What is far from blanked text is what it was at the look before.
    part = _vicinity(around, picture.shape) if around else Region(0, 0, picture.shape[1], picture.shape[0])
    pyramid = [part.crop(picture)]
    while len(pyramid) < LEVELS and min(pyramid[-1].shape) >= 4 * CELL:
        pyramid.append(cv2.resize(pyramid[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    blanked = [r.within(part) for r in around]
    corner = Region(-part.left, -part.top, 0, 0)
    known = [r.within(part) for r in settled if r.common(part).area]
    vague: list[Region] = []  # left to a finer level, which mostly outlines it better
    for level in reversed(range(len(pyramid))):
        scale = 1 << level
        near = [_beside(r, pyramid[0].shape).scaled(1 / scale) for r in blanked]
        closest = [n for n, r in zip(near, blanked, strict=True) if level == min(_level_of(r), len(pyramid) - 1)]
        here = [r.scaled(1 / scale) for r in known]
        for small in _find_on_level(pyramid[level], near, closest, here, coarse=level > 1):
            line = fitted(small, pyramid[level]) if level else small
            region = line.scaled(scale).grown(0, 0, pyramid[0].shape).within(corner)
            if min(small.width, small.height) < WELL * level:
                vague.append(region)
                continue
            yield region
            if is_settled(region):
                known.append(region.within(part))
    yield from (v for v in vague if not any(v.within(part).common(k).area for k in known))


def fitted(text: Region, picture: Picture) -> Region:
    """A line of thin strokes cut to their height: the less pixels it has, the farther a region reaches beyond."""
    if min(text.width, text.height) > THICK:
        return text
    level = text.width >= text.height
    marked = stroke_pixels(picture, text)
    marked = marked if level else marked.T
    inked = (np.count_nonzero(marked, axis=1) >= 2).astype(np.uint8)
    # Between capitals and their accents there may be nothing.
    inked = cv2.morphologyEx(inked, cv2.MORPH_CLOSE, np.ones((2 + len(inked) // 10, 1), np.uint8)).ravel()
    ends = np.flatnonzero(np.diff(inked.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    if not len(ends):
        return text
    # Lines above and below may reach into the region.
    first, last = (int(v) for v in ends[np.abs(ends.mean(axis=1) - len(inked) / 2).argmin()])
    margin = max((last - first) // 6, 2)
    first, last = max(first - margin, 0), min(last + margin, len(inked))
    if (marked[first:last] > 0).mean() < INKED:
        return text
    if level:
        return replace(text, top=text.top + first, height=last - first)
    return replace(text, left=text.left + first, width=last - first)


def _vicinity(around: Sequence[Region], shape: tuple[int, ...]) -> Region:
    """The part of a picture that holds all of `around` and what a second look there may need."""
    wide = [r.grown(ALONG * r.height + 2 * VICINITY * CELL, r.height + 2 * VICINITY * CELL, shape) for r in around]
    left, top = min(r.left for r in wide), min(r.top for r in wide)
    return Region(left, top, max(r.right for r in wide) - left, max(r.bottom for r in wide) - top)


def _beside(text: Region, shape: tuple[int, ...]) -> Region:
    """A line of text with what is beyond its ends and beside it."""
    height = min(text.width, text.height)
    return text.grown(*((ALONG * height, height) if text.width >= text.height else (height, ALONG * height)), shape)


def _level_of(text: Region) -> int:
    """The level on which faint print of a line's size is found best, the coarsest that shows it."""
    return max(int(math.log2(min(text.width, text.height) / (2 * WELL))), 0)


def _find_on_level(
    picture: Picture, near: Sequence[Region], closest: Sequence[Region], known: Sequence[Region], *, coarse: bool
) -> list[Region]:
    """Text regions of one level, `near` the given regions if there are any, and faint ones in the `closest`."""
    vicinity = cv2.dilate(cells_of(picture.shape, near), np.ones((2 * VICINITY + 1,) * 2, np.uint8)) if near else None
    faint = cells_of(picture.shape)
    for part in chain(*divided(cells_of(picture.shape, closest))):
        part.crop(faint)[...] |= stroke_cells(amplified(cut(picture, part.scaled(CELL))))
    marked = stroke_cells(picture, known, vicinity, dense=coarse)
    pending = areas(marked | faint, margin=2 if coarse else 1)
    marked, faint = halves(marked), halves(faint)
    looks: list[tuple[Region, NDArray[np.float32]]] = []
    looked = np.zeros_like(marked)
    regions: list[Region] = []
    for _ in range(FOLLOW):
        if not pending:
            break
        for area in pending:
            looked_at = cut(picture, area.scaled(HALF))
            # Beside a line that stands out, another may hardly do: white print on what is nearly white.
            if area.crop(faint).any():
                looks.append((area, _look(_with_local_contrast(looked_at))))
            if area.crop(marked).any() or not area.crop(faint).any():
                looks.append((area, _look(looked_at)))
            area.crop(looked)[...] = 1
        regions = [r for area in components(looked) for r in _regions(area, looks, picture.shape)]
        regions = [r for r in regions if not _is_known(r, known)]
        pending = [area for r in regions if coarse or min(r.width, r.height) <= FOLLOWED for area in _beyond(r, looked)]
    return regions


def _beyond(region: Region, looked: Cells) -> list[Region]:
    """Where text that runs up to the edge of what was looked at runs on behind it, in half cells."""
    reached = region.grown(EDGE, EDGE, (looked.shape[0] * HALF, looked.shape[1] * HALF)).scaled(1 / HALF)
    height = min(region.width, region.height)
    along, aside = max(2 * CELL, height) // HALF, max(CELL, height) // HALF
    x, y = (along, aside) if region.width >= region.height else (aside, along)
    ends = [
        Region(end.left + reached.left, end.top + reached.top, end.width, end.height)
        for end in components(1 - reached.crop(looked))
    ]
    return [whole(end.grown(x, y, looked.shape), looked.shape) for end in ends]


def _with_local_contrast(picture: Picture) -> Picture:
    """A part of a picture with the contrast of each of its neighbourhoods enlarged."""
    low, high, _, _ = cv2.minMaxLoc(picture)
    # 256 levels are enlarged in a tenth of the time.
    return _FAINT.apply((picture - picture.dtype.type(low)).astype(np.uint8) if high - low <= WHITE else picture)


def _look(picture: Picture) -> NDArray[np.float32]:
    """The probability of text for each pixel of a part of a picture."""
    probability = text_probability(picture)
    # The detector falls apart on lines that run up or down, but never sees nothing there.
    rows, columns = picture.shape
    hints = probability.reshape(rows // CELL, CELL, columns // CELL, CELL).max(axis=(1, 3)) >= HINT
    for area in areas(hints.astype(np.uint8)):
        if area.height > TURNED * area.width:
            part, looked_at = area.scaled(HALF).crop(probability), area.scaled(HALF).crop(picture)
            turned = text_probability(np.ascontiguousarray(np.rot90(looked_at)))
            np.maximum(part, np.rot90(turned, 3), out=part)
    return probability


def _is_known(region: Region, found: Sequence[Region]) -> bool:
    """Whether most of a region is text that was made out on a coarser level."""
    fresh = np.ones((region.height, region.width), bool)
    for other in found:
        left, top = max(other.left - region.left, 0), max(other.top - region.top, 0)
        fresh[top : max(other.bottom - region.top, 0), left : max(other.right - region.left, 0)] = False
    return fresh.mean() < FRESH


def _regions(
    cells: Region, looks: Sequence[tuple[Region, NDArray[np.float32]]], shape: tuple[int, ...]
) -> list[Region]:
    """The text regions of a rectangle of half cells, by the looks at it, in a picture of `shape`."""
    area = cells.scaled(HALF)
    inside = np.zeros((area.height, area.width), np.float32)
    for place, probability in looks:
        if (common := place.common(cells)).area:
            part = common.within(cells).scaled(HALF).crop(inside)
            np.maximum(part, common.within(place).scaled(HALF).crop(probability), out=part)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((inside > PROBABILITY).astype(np.uint8), connectivity=8)
    regions = []
    for i in range(1, count):
        left, top, width, height = (int(v) for v in stats[i][:4])
        if not LEAST <= min(width, height) <= TALLEST:
            continue
        window = (slice(top, top + height), slice(left, left + width))
        score = float(inside[window][labels[window] == i].mean())
        if score < SCORE:
            continue
        grow = round(width * height * UNCLIP / (2 * (width + height)))
        regions.append(Region(area.left + left, area.top + top, width, height, score).grown(grow, grow, shape))
    return [r for r in regions if r.width > 0 and r.height > 0]
