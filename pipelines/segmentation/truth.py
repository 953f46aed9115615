"""What the cohort knows of structures: which images have a mask, a polyline or a word that nothing is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from pipelines.cohort import Cohort
from pipelines.contract import BadInput
from pipelines.segmentation import rasters
from pipelines.segmentation.centreline import thin
from pipelines.segmentation.rasters import Box
from pipelines.tables import LINE_STRUCTURES


@dataclass
class Structure:
    """One structure and the images of which it is known; places are those in the evaluation's list of images."""

    name: str
    drawn: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Place -> row of tables.COHORT_MASKS."""
    absent: set[int] = field(default_factory=set)
    """Places of images whose study is labelled as having none: the mask is known to be empty."""

    @property
    def label(self) -> str:
        return LINE_STRUCTURES.get(self.name, self.name.replace("_", " ").capitalize())

    @property
    def is_line(self) -> bool:
        return self.name in LINE_STRUCTURES

    def knows(self, place: int) -> bool:
        return place in self.drawn or place in self.absent


@dataclass(frozen=True)
class Truth:
    """One structure of one image in its judged square. `line` and `tips` (x, y) are of lines only."""

    mask: np.ndarray
    line: np.ndarray | None
    tips: np.ndarray


def structures(cohort: Cohort, rows: np.ndarray) -> list[Structure]:
    """The structures of the cohort's masks, by name, over the images in `rows` (rising)."""
    place = {int(row): i for i, row in enumerate(rows)}
    found: dict[str, Structure] = {}
    for mask in cohort.masks.to_pylist():
        if mask["image"] in place:
            structure = found.setdefault(mask["structure"], Structure(mask["structure"]))
            structure.drawn[place[mask["image"]]] = mask
    lines = [s for s in found.values() if s.is_line]
    said = cohort.label_matrix([s.label for s in lines])[rows]
    for i, structure in enumerate(lines):
        structure.absent = set(np.flatnonzero(said[:, i] == 0).tolist()) - structure.drawn.keys()
    return [found[name] for name in sorted(found)]


def polylines(structure: Structure, place: int) -> list[np.ndarray]:
    """The structure's polylines in an image, in pixels of the store."""
    return rasters.split_polylines(structure.drawn[place]["points"]) if place in structure.drawn else []


def draw(cohort: Cohort, structure: Structure, place: int, box: Box, side: int) -> np.ndarray:
    """float32 [side, side] in 0..1: the structure in a box. A line is drawn from its polyline where there is one."""
    if place not in structure.drawn:
        return np.zeros((side, side), np.float32)
    lines = polylines(structure, place)
    if structure.is_line and lines:
        return rasters.draw_lines([rasters.to_square(xy, box, side) for xy in lines], side).astype(np.float32)
    path = structure.drawn[place]["path"]
    mask = cv2.imread(str(cohort.folder / path), cv2.IMREAD_GRAYSCALE) if path else None
    if mask is None:
        raise BadInput("A mask of the cohort is missing or damaged; build the cohort again.")
    return rasters.cut(mask, box, side)


def judged(cohort: Cohort, structure: Structure, place: int, box: Box, side: int) -> Truth:
    """The truth that predictions are measured against."""
    mask = draw(cohort, structure, place, box, side) >= 0.5
    if not structure.is_line:
        return Truth(mask, None, np.empty((0, 2)))
    lines = [rasters.to_square(xy, box, side) for xy in polylines(structure, place)]
    line = rasters.draw_lines(lines, side, 0) if lines else thin(mask)
    tips = np.array([xy[-1] for xy in lines]).reshape(-1, 2)
    inside = ((tips >= -0.5) & (tips <= side - 0.5)).all(1)
    return Truth(mask, line & mask, tips[inside])


def share_inside(cohort: Cohort, structure: Structure, places: Sequence[int], shapes: np.ndarray) -> float:
    """How much of the structure lies in the judged squares, of what the whole images hold; nan without any."""
    inside = total = 0.0
    for place in places:
        height, width = (int(n) for n in shapes[place])
        lines = polylines(structure, place)
        box = rasters.central_square(height, width)
        if structure.is_line and lines:
            steps = np.concatenate([_walk(xy) for xy in lines])
            seen = (steps + 0.5 >= [box.left, box.top]) & (steps + 0.5 <= [box.right, box.bottom])
            inside, total = inside + float(seen.all(1).sum()), total + len(steps)
        else:
            everything = draw(cohort, structure, place, rasters.whole(height, width), 256)
            square = draw(cohort, structure, place, box, 256)
            area = (box.right - box.left) * (box.bottom - box.top) / (height * width)
            inside, total = inside + area * float(square.sum()), total + float(everything.sum())
    return inside / total if total else float("nan")


def _walk(xy: np.ndarray) -> np.ndarray:
    """Points a pixel apart along a polyline."""
    parts = []
    for begin, end in pairwise(xy):
        count = max(int(np.hypot(*(end - begin))), 1)
        parts.append(begin + (end - begin) * (np.arange(count)[:, None] / count))
    return np.concatenate(parts)
