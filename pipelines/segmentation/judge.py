"""Predictions of one head against the truth, image by image: rows of tables.MEASURES."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from pipelines import tables
from pipelines.contract import RunFolder
from pipelines.segmentation import metrics, rasters
from pipelines.segmentation.centreline import mean_direction, thin, tips
from pipelines.segmentation.exam import Exam
from pipelines.segmentation.truth import Truth, polylines

REGION = ("dice", "iou")
LINE = ("cldice", "centreline_recall", "centreline_precision", "tip_found", "tip_distance")
EMPTY = "empty_kept"
"""Share of images known to be without the structure in which none was found."""
METRICS = (*REGION, *LINE, EMPTY)
Measure = tuple[str, float, float]
"""Metric, numerator, denominator."""


def measure_image(
    found: np.ndarray, truth: Truth, mm: tuple[float, float] | None, direction: np.ndarray
) -> Iterator[Measure]:
    """The measures of one structure of one image. Tips are measured in mm only, within `metrics.TIP_MM` as found.

    Centre lines may lie `metrics.TOLERANCE_MM` apart, or a share of the side where there is no spacing. A truth that is
    empty says whether nothing was found and no more.
    """
    if not truth.mask.any():
        yield EMPTY, float(not found.any()), 1
        return
    yield "dice", metrics.dice(found, truth.mask), 1
    yield "iou", metrics.iou(found, truth.mask), 1
    if truth.line is None:
        return
    line = thin(found)
    pixel, tolerance = (mm, metrics.TOLERANCE_MM) if mm else ((1.0, 1.0), metrics.TOLERANCE_SHARE * len(found))
    yield "cldice", metrics.cldice(found, truth.mask, line, truth.line), 1
    yield "centreline_recall", metrics.within(truth.line, line, tolerance, pixel), 1
    yield "centreline_precision", metrics.within(line, truth.line, tolerance, pixel), 1
    if mm and len(truth.tips):
        apart = metrics.tip_distances(tips(line, direction), truth.tips, mm)
        yield "tip_found", float((apart <= metrics.TIP_MM).mean()), 1
        known = apart[np.isfinite(apart)]
        yield "tip_distance", float(known.sum()), len(known)


def directions(exam: Exam) -> list[np.ndarray]:
    """How each structure runs from entry to tip, from the polylines of the train split."""
    train = set(exam.of("train").tolist())
    found = []
    for structure in exam.structures:
        places = sorted(train & structure.drawn.keys()) if structure.is_line else []
        drawn = [(rasters.to_square(xy, exam.box(i), exam.side)) for i in places for xy in polylines(structure, i)]
        found.append(mean_direction(drawn))
    return found


def judge(
    exam: Exam, images: np.ndarray, predictions: np.ndarray, names: dict[str, object], prefix: str, run: RunFolder
) -> pa.Table:
    """tables.MEASURES of bool [images, S, side, side] predictions; `names` are model and seed.

    Metrics are prefixed; rows are sorted by metric as METRICS has them, structure and image.
    """
    towards = directions(exam)
    pairs = [(i, s) for i in range(len(images)) for s in range(len(exam.structures)) if exam.known[images[i], s]]
    spacing = {i: exam.pixel_mm(image) for i, image in enumerate(images.tolist())}

    def one(pair: tuple[int, int]) -> list[Measure]:
        i, s = pair
        truth = exam.truth(int(images[i]), s)
        return list(measure_image(predictions[i, s], truth, spacing[i], towards[s]))

    rows = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # cv2 and numpy let go of the lock
        for done, ((i, s), found) in enumerate(zip(pairs, pool.map(one, pairs), strict=True), 1):
            run.check_stop()
            image = int(images[i])
            keys = {"label": exam.structures[s].label, "image": int(exam.rows[image]), "patient": exam.patient[image]}
            for metric, numerator, denominator in found:
                sums = {"numerator": numerator, "denominator": denominator}
                order = (METRICS.index(metric), s, i)
                rows.append((order, names | keys | sums | {"task": "segmentation", "metric": prefix + metric}))
            run.progress(done, len(pairs), "measuring predicted masks")
    rows.sort(key=lambda row: row[0])
    return pa.Table.from_pylist([row for _, row in rows], schema=tables.MEASURES)
