"""Where text stands in a picture, and what it says: PP-OCR's detector and recogniser on onnxruntime.

The detector costs about a second of one core on 1024 x 1024 pixels, and nearly all of a radiograph holds nothing as
sharp as print. So a gate of two morphological top-hats (a stroke is a bright or dark line on its surroundings) says
where anything as thin and as marked as a stroke is, and the detector looks there only, at full resolution.
The models are files of the `rapidocr` wheel; nothing is ever fetched.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

View = NDArray[np.uint8]

CELL = 32  # the gate's raster, and the multiple of pixels that the detector wants
STROKE = 9  # a stroke is thinner than this; thicker print is found on the smaller levels of the pyramid
# Grey levels of 255 by which a stroke stands out, and the share of a cell that such strokes cover: much faint ink, or
# a little of strong ink as tiny print has it.
INK = ((24, 0.10), (48, 0.03))
RUN = 96  # pixels in one straight upright or level line
EDGE = 4  # pixels
VICINITY = 3  # cells around blanked text that a second look goes to
FOLLOW = 3  # times that text is followed beyond the edge of what was looked at
SMALL = 24  # cells that are not worth dividing
PROBABILITY = 0.3  # of a text pixel (DB, arXiv 1911.08947)
SCORE = 0.4  # mean probability of a text region; DB's own default is 0.5
UNCLIP = 1.6  # DB's map is shrunk text; regions grow by area * UNCLIP / perimeter
WHITE, MEAN, SCALE = 255, 127.5, 1 / 127.5


@dataclass(frozen=True)
class Region:
    """An upright rectangle of a view in pixels, with the detector's mean probability."""

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

    def grown(self, x: int, y: int, shape: tuple[int, ...]) -> Region:
        """The region made larger by x and y pixels on each side, within a view of `shape` (rows, columns)."""
        left, top = max(self.left - x, 0), max(self.top - y, 0)
        right, bottom = min(self.right + x, shape[1]), min(self.bottom + y, shape[0])
        return Region(left, top, right - left, bottom - top, self.score)

    def scaled(self, factor: float) -> Region:
        """The region in a view of another size, never smaller than it was."""
        left, top = math.floor(self.left * factor), math.floor(self.top * factor)
        width, height = math.ceil(self.right * factor) - left, math.ceil(self.bottom * factor) - top
        return Region(left, top, width, height, self.score)

    def crop(self, view: NDArray[Any]) -> NDArray[Any]:
        return view[self.top : self.bottom, self.left : self.right]


def find_text(view: View, around: Sequence[Region] = (), levels: int = 3) -> list[Region]:
    """Text regions of a grey view (rows, columns), uint8, on a pyramid of `levels` halvings from full size.

    `around` are places where text was found, and blanked, before: only they and their neighbourhood are looked at, most
    of all along the line and there whatever the gate says, since print runs on into parts where it hardly stands out.
    """
    found: list[Region] = []
    for level in range(levels):
        scale = 1 << level
        if level and min(view.shape) // scale < 2 * CELL:
            break
        small = view if not level else cv2.resize(view, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        near = [r.grown(6 * r.height, r.height, view.shape).scaled(1 / scale) for r in around]
        found += [r.scaled(scale).grown(0, 0, view.shape) for r in _find_on_level(small, near)]
    return found


def strokes(view: View) -> NDArray[np.uint8]:
    """How much each pixel stands out as part of a thin bright or dark line, in grey levels."""
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (STROKE, STROKE))
    white, black = (cv2.morphologyEx(view, op, kernel) for op in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT))
    return np.asarray(cv2.max(white, black), dtype=np.uint8)


def read_text(views: list[View]) -> list[tuple[str, float]]:
    """The recogniser's reading and mean confidence of each upright line of text (rows, columns), uint8."""
    session, characters = _recogniser()
    results = []
    for view in views:
        width = max(round(view.shape[1] * 48 / max(view.shape[0], 1)), 16)
        line = cv2.resize(view, (min(width, 1600), 48), interpolation=cv2.INTER_LINEAR)
        (probabilities,) = session.run(None, {"x": _tensor(line)})
        results.append(_decode(probabilities[0], characters))
    return results


# ---- detector ----------------------------------------------------------------------------------------------------


def _find_on_level(view: View, near: Sequence[Region]) -> list[Region]:
    rows, columns = view.shape
    padded = cv2.copyMakeBorder(view, 0, -rows % CELL, 0, -columns % CELL, cv2.BORDER_REPLICATE)
    areas = _areas(padded, near)
    if not areas:
        return []
    probability = np.zeros(padded.shape, np.float32)
    looked = np.zeros(padded.shape, bool)
    for _ in range(FOLLOW):
        for area in areas:
            part = area.crop(probability)
            np.maximum(part, _probability(area.crop(padded)), out=part)
            area.crop(looked)[...] = True
        regions = _regions(probability, (rows, columns))
        # Text that runs up to the edge of what was looked at runs on behind it.
        areas = [
            _in_cells(r, padded.shape) for r in regions if not r.grown(EDGE, EDGE, (rows, columns)).crop(looked).all()
        ]
        if not areas:
            break
    return regions


def _in_cells(region: Region, shape: tuple[int, ...]) -> Region:
    """The region and two cells on each side, in whole cells."""
    cells = region.scaled(1 / CELL).grown(2, 2, (shape[0] // CELL, shape[1] // CELL))
    return cells.scaled(CELL)


def _areas(view: View, near: Sequence[Region] = ()) -> list[Region]:
    """Rectangles, in whole cells, that hold everything the gate lets through and a cell around it, and what is near."""
    standing_out = strokes(view)
    grid = (view.shape[1] // CELL, view.shape[0] // CELL)
    active = np.zeros(grid[::-1], np.uint8)
    for contrast, share in INK:
        marked = (standing_out >= contrast).astype(np.uint8)
        # Frames, rulers and edges of plates run straight on; no stroke of print does.
        for kernel in (np.ones((1, RUN), np.uint8), np.ones((RUN, 1), np.uint8)):
            marked -= cv2.morphologyEx(marked, cv2.MORPH_OPEN, kernel)
        covered = cv2.resize(marked.astype(np.float32), grid, interpolation=cv2.INTER_AREA)
        active |= covered >= share
    if near:  # the rest of the picture is what it was at the look before
        again = np.zeros_like(active)
        for region in near:
            region.scaled(1 / CELL).crop(again)[...] = 1
        active = cv2.dilate(again, np.ones((2 * VICINITY + 1,) * 2, np.uint8)) & active | again
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(active, np.ones((3, 3), np.uint8)))
    areas: list[Region] = []
    for i in range(1, count):
        parts = _compact(Region(*(int(v) for v in stats[i][:4])), labels == i)
        areas += parts if len(parts) == 1 else [part.grown(1, 1, labels.shape) for part in parts]
    return [area.scaled(CELL) for area in areas]


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


def _probability(view: View) -> NDArray[np.float32]:
    (result,) = _detector().run(None, {"x": _tensor(view)})
    return np.asarray(result[0, 0], dtype=np.float32)


def _regions(probability: NDArray[np.float32], shape: tuple[int, int]) -> list[Region]:
    mask = (probability > PROBABILITY).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    regions = []
    for i in range(1, count):
        left, top, width, height = (int(v) for v in stats[i][:4])
        if min(width, height) < 3:
            continue
        window = (slice(top, top + height), slice(left, left + width))
        score = float(probability[window][labels[window] == i].mean())
        if score < SCORE:
            continue
        grow = round(width * height * UNCLIP / (2 * (width + height)))
        regions.append(Region(left, top, width, height, score).grown(grow, grow, shape))
    return [r for r in regions if r.width > 0 and r.height > 0]


# ---- models ------------------------------------------------------------------------------------------------------


def _tensor(view: View) -> NDArray[np.float32]:
    """(1, 3, rows, columns), each channel the grey view scaled to [-1, 1]."""
    grey = (view.astype(np.float32) - MEAN) * SCALE
    return np.ascontiguousarray(np.broadcast_to(grey, (1, 3, *view.shape)))


def _decode(probability: NDArray[np.float32], characters: list[str]) -> tuple[str, float]:
    """Greedy CTC: repeated classes collapse, class 0 is the blank."""
    best = probability.argmax(axis=1)
    keep = (best != 0) & np.concatenate([[True], best[1:] != best[:-1]])
    text = "".join(characters[i] for i in best[keep])
    return text, float(probability.max(axis=1)[keep].mean()) if keep.any() else 0.0


@functools.cache
def _detector() -> Any:
    return _session("PP-OCRv6_det_small.onnx")


@functools.cache
def _recogniser() -> tuple[Any, list[str]]:
    session = _session("PP-OCRv6_rec_small.onnx")
    characters = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    return session, ["", *characters, " "]


def _session(name: str) -> Any:
    """One thread each: the stage runs one process per core."""
    import onnxruntime

    cv2.setNumThreads(1)
    spec = importlib.util.find_spec("rapidocr")
    assert spec and spec.origin  # noqa: S101 - a dependency in the lock
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    path = Path(spec.origin).parent / "models" / name
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
