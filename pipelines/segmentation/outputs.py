"""What segmentation leaves in a run folder: predicted masks as DICOM SEG, overlays for the report, facts about both.

segmentation/facts.json                    how it was measured, for the report
segmentation/overlays/CASE-MODEL.png       truth and prediction on the judged square
segmentation/dicom/MODEL/INSTANCE.dcm      predicted masks of test images, in the geometry of the de-identified image
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.contract import RunFolder, write_atomic
from pipelines.segmentation import metrics, rasters, truth
from pipelines.segmentation.exam import Exam
from pipelines.segmentation.spec import Segmentation

FOLDER = "segmentation"
TRUTH, FOUND = (224, 209, 127), (95, 183, 227)  # BGR: light blue, amber
LEAST_SIDE = 256
"""Overlays of a smaller square are enlarged to at least this."""


@dataclass(frozen=True)
class Shown:
    """Predictions of one model that are shown and written: its first head under the first seed."""

    name: str
    digest: str
    load: Callable[[], np.ndarray]
    """Reads bool [test, S, side, side]: of a study's many models, not all masks would fit into memory at once."""
    thresholds: np.ndarray


def write_outputs(
    exam: Exam, shown: list[Shown], table: pa.Table, settings: Segmentation, seed: int, run: RunFolder
) -> None:
    """Write all of it; DICOM files that stand are left as they are."""
    folder = run.root / FOLDER
    (folder / "overlays").mkdir(parents=True, exist_ok=True)
    cases = [case | {"files": []} for case in choose_cases(exam, shown, table, seed)]
    for number, model in enumerate(shown):
        masks = model.load()
        for case in cases:
            case["files"].append(_overlay_file(exam, model, masks, case, folder, number))
        write_dicom(exam, model, masks, settings.dicom, folder, run)
    test, where = exam.of("test"), list(range(len(exam.structures)))
    facts = {
        "side": exam.side,
        "heads": list(settings.heads),
        "steps": settings.steps,
        "seed": seed,
        "tolerance_mm": round(metrics.TOLERANCE_MM),
        "tip_mm": round(metrics.TIP_MM),
        "without_spacing": sum(exam.pixel_mm(i) is None for i in test.tolist()),
        "dicom": min(settings.dicom, len(test)),
        "structures": [
            _facts(exam, s) | {"thresholds": {m.name: float(m.thresholds[s]) for m in shown}} for s in where
        ],
        "cases": cases,
    }
    write_atomic(folder / "facts.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    run.artifact("segmentation", folder)


def _facts(exam: Exam, s: int) -> dict[str, Any]:
    """Counts of a structure by split, and how much of it lies in the judged squares."""
    structure = exam.structures[s]
    drawn = sorted(set(exam.of("test").tolist()) & structure.drawn.keys())
    return {
        "label": structure.label,
        "line": structure.is_line,
        "images": {split: int(exam.known[exam.of(split), s].sum()) for split in ("train", "validation", "test")},
        "inside": truth.share_inside(exam.cohort, structure, drawn, exam.shapes),
    }


def choose_cases(exam: Exam, shown: list[Shown], table: pa.Table, seed: int) -> list[dict[str, Any]]:
    """For each structure the test images of median and of least Dice of the first model: neither is picked by hand."""
    of = (pc.field("model") == shown[0].name) & (pc.field("metric") == "dice") & (pc.field("seed") == seed)
    rows = table.filter(of)
    number = {int(row): i for i, row in enumerate(exam.rows)}
    cases = []
    for s, structure in enumerate(exam.structures):
        own = rows.filter(pc.field("label") == structure.label)
        order = np.argsort(own["numerator"].to_numpy(), kind="stable")
        images = own["image"].to_numpy()
        for word, place in dict.fromkeys([("typical", len(order) // 2), ("worst", 0)]) if len(order) > 1 else []:
            image = number[int(images[order[place]])]
            cases.append({"structure": s, "label": structure.label, "word": word, "image": image})
    return cases


def _overlay_file(
    exam: Exam, model: Shown, masks: np.ndarray, case: dict[str, Any], folder: Path, number: int
) -> dict[str, Any]:
    """The picture of a case for one model, the `number`th, with the Dice of what it shows."""
    image, s = case["image"], case["structure"]
    place = int(np.flatnonzero(exam.of("test") == image)[0])
    box = exam.box(image)
    pixels = exam.cohort.image(int(exam.rows[image]))
    square = pixels[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
    mask = exam.truth(image, s).mask
    found = masks[place, s]
    picture = overlay(square, mask, found)
    path = folder / "overlays" / f"{exam.structures[s].name}-{case['word']}-{number}.png"
    write_atomic(path, cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())
    return {"model": model.name, "path": path.relative_to(folder).as_posix(), "dice": metrics.dice(found, mask)}


def overlay(square: np.ndarray, mask: np.ndarray, found: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] (BGR): the image with the outlines of truth and prediction; no text, no name."""
    side = len(mask) * max(1, -(-LEAST_SIDE // len(mask)))
    grey = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA if side < len(square) else cv2.INTER_LINEAR)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for region, colour in ((mask, TRUTH), (found, FOUND)):
        large = cv2.resize(region.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colour, 1)
    return picture


def write_dicom(exam: Exam, model: Shown, masks: np.ndarray, most: int, folder: Path, run: RunFolder) -> None:
    """Write the predicted masks of a model on the first test images, `most` of them."""
    from pipelines.segmentation import dicomseg

    test = exam.of("test")[:most]
    own = folder / "dicom" / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', model.name)}-{model.digest[:8]}"
    for place, image in enumerate(test.tolist()):
        run.check_stop()
        own.mkdir(parents=True, exist_ok=True)
        row = exam.cohort.index.slice(int(exam.rows[image]), 1).to_pylist()[0]
        path = own / f"{row['instance']}.dcm"
        if not path.exists():
            shape = (row["source_rows"], row["source_columns"])
            found = [
                (s.name, s.label, rasters.to_source(masks[place, i], exam.box(image), row["affine"], shape))
                for i, s in enumerate(exam.structures)
            ]
            dicomseg.write(path, row, found, model.name, model.digest)
        run.progress(place + 1, len(test), f"writing predicted masks of {model.name}")
