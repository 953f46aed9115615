"""How far the image store departs from each baseline's published preparation of the source pixels.

The publishers prepare an image from its whole range in 8 bits at its own size; the store has been windowed and shrunk
before. Both ways end in the encoder's own scaling, and the difference is measured on the cohort's reference images: of
the prepared inputs, in grey levels of 255, and of the pooled features, as a cosine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.build.references import read_references
from pipelines.cohort import Cohort
from pipelines.contract import RunFolder, read_json, write_atomic
from pipelines.evaluate import features
from pipelines.evaluate.models import Model


def measure_deviations(models: list[Model], cohort: Cohort, device: str, run: RunFolder, store: Path) -> dict[str, Any]:
    """By name of each open-weight model: `images`, `mean` and `max` in grey levels, `cosine` and `lowest_cosine`; None
    where the cohort holds no references. Once for a model and cohort: what stands in the store is read."""
    found: dict[str, Any] = {}
    for model in models:
        if model.card.kind != "open-weight":
            continue
        path = store / "deviations" / f"{model.digest[:16]}-{cohort.digest[:16]}.json"
        if not path.exists():
            run.check_stop()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps({"deviation": _measure(model, cohort, device)}))
        found[model.name] = read_json(path)["deviation"]
        run.log(in_words(model.name, found[model.name]))
    return found


def in_words(name: str, deviation: dict[str, Any] | None) -> str:
    """One sentence."""
    if deviation is None:
        return (
            f"How the store departs from {name}'s published preparation was not measured: no source image is at hand."
        )
    return (
        f"The store departs from {name}'s published preparation of {deviation['images']} source images by "
        f"{deviation['mean']:.1f} grey levels of 255 on average, {deviation['max']:.0f} at most; their pooled features "
        f"have a cosine of {deviation['cosine']:.3f} on average, {deviation['lowest_cosine']:.3f} at least."
    )


def _measure(model: Model, cohort: Cohort, device: str) -> dict[str, Any] | None:
    references = read_references(cohort.folder)
    if not references:
        return None
    encoder = features.load(model, device)
    differences, largest, cosines = [], [], []
    for row, source in references:
        published, stored = (encoder.prepare([image]) for image in (to_8_bits(source), cohort.image(row)))
        difference_CHW = np.abs((published - stored).cpu().numpy()[0])
        levels = difference_CHW * np.reshape(encoder.how.std[: len(difference_CHW)], (-1, 1, 1)) * 255
        differences.append(float(levels.mean()))
        largest.append(float(levels.max()))
        a, b = (encoder.features(x)[0].float().cpu().numpy()[0] for x in (published, stored))
        cosines.append(float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)))
    return {
        "images": len(references),
        "mean": float(np.mean(differences)),
        "max": max(largest),
        "cosine": float(np.mean(cosines)),
        "lowest_cosine": min(cosines),
    }


def to_8_bits(source: np.ndarray) -> np.ndarray:
    """uint8 [H, W]: the whole range of the source, as the publishers' 8 bit files are made."""
    low, high = int(source.min()), int(source.max())
    scaled: np.ndarray = (source.astype(np.float32) - low) * (255 / max(high - low, 1))
    return scaled.round().astype(np.uint8)
