"""Where text stands in a picture: the gate's cells, looked at by PP-OCR's detector at full resolution and below it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.deidentify.pixels_gate import CELL, EDGE, Cells, Picture, Region, areas, components, stroke_cells
from pipelines.deidentify.pixels_models import text_probability

LEVELS = 3  # of the pyramid
ALONG = 3  # heights of blanked text beyond its ends that are looked at whatever the gate says
VICINITY = 3  # cells around blanked text that a second look goes to
FOLLOW = 3  # times that text is followed beyond the edge of what was looked at
PROBABILITY = 0.3  # of a text pixel (DB, arXiv 1911.08947)
LEAST, TALLEST = 3, 96  # pixels across a line of print; what is taller is found on a smaller level
SCORE = 0.4  # mean probability of a text region; DB's own default is 0.5
SURE = 0.6  # a region that need not be looked at on a smaller level
TURNED = 1.2  # height by width of an area that is looked at turned, too
FRESH = 0.4  # of a region that is worth reading although finer levels found text in it
UNCLIP = 1.6  # DB's map is shrunk text; regions grow by area * UNCLIP / perimeter

_FAINT = cv2.createCLAHE(clipLimit=16.0, tileGridSize=(4, 4))


def find_text(picture: Picture, around: Sequence[Region] = (), levels: int = LEVELS) -> list[Region]:
    """Text regions of a picture (rows, columns) on a pyramid of `levels` halvings from full size.

    `around` are places where text was found, and blanked, before: only they and their neighbourhood are looked at, most
    of all along the line and there whatever the gate says, since print runs on into parts where it hardly stands out.
    """
    if around:  # the rest of the picture is what it was at the look before
        part = _vicinity(around, picture.shape)
        near = [r.within(part) for r in around]
        found = _find_on_levels(part.crop(picture), near, levels)
        return [Region(r.left + part.left, r.top + part.top, r.width, r.height, r.score) for r in found]
    return _find_on_levels(picture, (), levels)


def _vicinity(around: Sequence[Region], shape: tuple[int, ...]) -> Region:
    """The part of a picture that holds all of `around` and what a second look there may need."""
    wide = [r.grown(ALONG * r.height + 2 * VICINITY * CELL, r.height + 2 * VICINITY * CELL, shape) for r in around]
    left, top = min(r.left for r in wide), min(r.top for r in wide)
    return Region(left, top, max(r.right for r in wide) - left, max(r.bottom for r in wide) - top)


def _find_on_levels(picture: Picture, around: Sequence[Region], levels: int) -> list[Region]:
    found: list[Region] = []
    small = picture
    for level in range(levels):
        scale = 1 << level
        if level:
            if min(picture.shape) // scale < 2 * CELL:
                break
            small = cv2.resize(small, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        near = [r.grown(ALONG * r.height, r.height, picture.shape).scaled(1 / scale) for r in around]
        known = [r.scaled(1 / scale) for r in found if r.score >= SURE]
        found += [r.scaled(scale).grown(0, 0, picture.shape) for r in _find_on_level(small, near, known)]
    return found


def _is_known(region: Region, found: Sequence[Region]) -> bool:
    """Whether most of a region is text that was found on a finer level."""
    fresh = np.ones((region.height, region.width), bool)
    for other in found:
        left, top = max(other.left - region.left, 0), max(other.top - region.top, 0)
        fresh[top : max(other.bottom - region.top, 0), left : max(other.right - region.left, 0)] = False
    return fresh.mean() < FRESH


def _find_on_level(picture: Picture, near: Sequence[Region], known: Sequence[Region]) -> list[Region]:
    rows, columns = picture.shape
    padded = cv2.copyMakeBorder(picture, 0, -rows % CELL, 0, -columns % CELL, cv2.BORDER_REPLICATE)
    pending = areas(_cells_to_look_at(padded, near, known))
    probability = np.zeros(padded.shape, np.float32)
    looked = np.zeros((padded.shape[0] // CELL, padded.shape[1] // CELL), np.uint8)
    regions: list[Region] = []
    for _ in range(FOLLOW):
        if not pending:
            break
        for area in pending:
            pixels = area.scaled(CELL)
            part, looked_at = pixels.crop(probability), pixels.crop(padded)
            np.maximum(part, text_probability(looked_at), out=part)
            if near:  # beside a line that stands out, another may hardly do: white print on what is nearly white
                np.maximum(part, text_probability(_FAINT.apply(looked_at)), out=part)
            if area.height > TURNED * area.width:  # the detector falls apart on lines that run up or down
                turned = text_probability(np.ascontiguousarray(np.rot90(looked_at)))
                np.maximum(part, np.rot90(turned, 3), out=part)
            area.crop(looked)[...] = 1
        regions = [r for area in components(looked) for r in _regions(probability, area.scaled(CELL), (rows, columns))]
        regions = [r for r in regions if not _is_known(r, known)]
        # Text that runs up to the edge of what was looked at runs on behind it.
        cells = [r.grown(EDGE, EDGE, (rows, columns)).scaled(1 / CELL) for r in regions]
        pending = [c.grown(2, 2, looked.shape) for c in cells if not c.crop(looked).all()]
    return regions


def _cells_to_look_at(picture: Picture, near: Sequence[Region], known: Sequence[Region]) -> Cells:
    active = stroke_cells(picture, known)
    if near:  # the rest of the picture is what it was at the look before
        again = np.zeros_like(active)
        for region in near:
            region.scaled(1 / CELL).crop(again)[...] = 1
        active = cv2.dilate(again, np.ones((2 * VICINITY + 1,) * 2, np.uint8)) & active | again
    return active


def _regions(probability: NDArray[np.float32], area: Region, shape: tuple[int, int]) -> list[Region]:
    """The text regions of one looked-at area of a probability map, in a picture of `shape`."""
    inside = area.crop(probability)
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
