"""What segmentation is asked on a cohort: which structures can be judged, on which images, and training targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.cohort import Cohort
from pipelines.contract import RunFolder, atomic
from pipelines.evaluate.tasks import Images
from pipelines.preprocessing import Preprocessing
from pipelines.segmentation import rasters, truth
from pipelines.segmentation.rasters import Box
from pipelines.segmentation.truth import Structure, Truth


@dataclass(frozen=True)
class Exam:
    """Structures and the images of which at least one is known. Images are numbered anew, 0 ... n, in index order."""

    cohort: Cohort
    structures: list[Structure]
    side: int
    """Of the judged square, in pixels."""
    rows: np.ndarray
    """int64 [n] rows of the cohort's index."""
    split: np.ndarray
    patient: np.ndarray
    shapes: np.ndarray
    """int64 [n, 2] stored height and width."""
    known: np.ndarray
    """bool [n, S]: whether the structure's mask is known, be it empty."""

    def of(self, split: str) -> np.ndarray:
        """Images of a split."""
        return np.flatnonzero(self.split == split)

    def box(self, image: int) -> Box:
        """The judged square of an image."""
        height, width = self.shapes[image].tolist()
        return rasters.central_square(height, width)

    def seen(self, image: int, how: Preprocessing) -> Box:
        """What an encoder sees of an image."""
        height, width = self.shapes[image].tolist()
        return rasters.seen(height, width, how)

    def truth(self, image: int, structure: int) -> Truth:
        """What predictions of a structure are measured against."""
        return truth.judged(self.cohort, self.structures[structure], image, self.box(image), self.side)

    def pixel_mm(self, image: int) -> tuple[float, float] | None:
        """Height and width in mm of a pixel of the judged square; None where the source names no spacing."""
        row = self.cohort.index.slice(int(self.rows[image]), 1).to_pylist()[0]
        if not row["spacing_row"] or not row["spacing_column"]:
            return None
        box = self.box(image)
        scale_x, _, _, _, scale_y, _ = row["affine"]
        height = row["spacing_row"] / scale_y * (box.bottom - box.top) / self.side
        return height, row["spacing_column"] / scale_x * (box.right - box.left) / self.side


def make_exam(cohort: Cohort, images: Images, minimum_patients: int, side: int) -> tuple[Exam, list[dict[str, Any]]]:
    """The structures that can be judged, and why the others cannot."""
    able, reasons = [], []
    for structure in truth.structures(cohort, images.rows):
        reason = _why_not(cohort, structure, images, minimum_patients)
        if reason:
            reasons.append(reason)
        else:
            able.append(structure)
    places = np.array(sorted({p for s in able for p in s.drawn.keys() | s.absent}), np.int64)
    number = {int(place): i for i, place in enumerate(places)}
    numbered = [
        Structure(s.name, {number[p]: row for p, row in s.drawn.items()}, {number[p] for p in s.absent}) for s in able
    ]
    known = np.array([[s.knows(i) for s in numbered] for i in range(len(places))], bool).reshape(len(places), len(able))
    rows = images.rows[places]
    shapes = np.stack([cohort.index[name].to_numpy()[rows] for name in ("rows", "columns")], 1).astype(np.int64)
    side = min(side, cohort.side)
    return Exam(cohort, numbered, side, rows, images.split[places], images.patient[places], shapes, known), reasons


def _why_not(cohort: Cohort, structure: Structure, images: Images, minimum: int) -> dict[str, Any] | None:
    """None when a structure can be judged, else its counts on the test split and the reason."""
    filled = {place for place in structure.drawn if _is_filled(cohort, structure, place)}
    empty = structure.absent | (structure.drawn.keys() - filled)
    patients = {split: {images.patient[p] for p in filled if images.split[p] == split} for split in set(images.split)}
    if len(patients.get("test", ())) < minimum:
        reason = f"fewer than {minimum} test patients with a mask that is not empty"
    elif len(patients.get("train", ())) < minimum:
        reason = f"fewer than {minimum} train patients with a mask that is not empty"
    elif not patients.get("validation"):
        reason = "no validation patient with a mask that is not empty"
    else:
        return None
    test = {p for p in filled | empty if images.split[p] == "test"}
    negatives = {images.patient[p] for p in test & empty} - patients.get("test", set())
    counts = {"images": len(test), "positives": len(patients.get("test", ())), "negatives": len(negatives)}
    return {"task": "segmentation", "label": structure.label, **counts, "reason": reason}


def _is_filled(cohort: Cohort, structure: Structure, place: int) -> bool:
    row = structure.drawn[place]
    if structure.is_line and row["points"]:
        return True
    mask = cv2.imread(str(cohort.folder / row["path"]), cv2.IMREAD_GRAYSCALE) if row["path"] else None
    return mask is not None and bool(mask.any())


def targets(exam: Exam, images: np.ndarray, how: Preprocessing, side: int, path: Path, run: RunFolder) -> np.ndarray:
    """uint8 [images, S, side, side], memory-mapped from `path`: 255 where the structure covers a pixel of what an
    encoder sees; thin lines cover a pixel in part. Drawn at the judged side and shrunk from there."""
    if not path.exists():
        shape = (len(images), len(exam.structures), side, side)
        with atomic(path) as temporary:
            out = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
            for i, image in enumerate(images.tolist()):
                run.check_stop()
                for s, structure in enumerate(exam.structures):
                    drawn = truth.draw(exam.cohort, structure, image, exam.seen(image, how), exam.side)
                    shrunk = cv2.resize(drawn, (side, side), interpolation=cv2.INTER_AREA)
                    out[i, s] = np.round(255 * shrunk)
                run.progress(i + 1, len(images), "drawing masks to learn from")
            out.flush()
            del out
    stored: np.ndarray = np.load(path, mmap_mode="r")
    return stored
