"""Are the probabilities true? Reliability and the expected calibration error, over bins of equal numbers of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import expit

from pipelines.evaluate.tasks import LINEAR

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Predicted against observed, bin by bin in rising order [bins]."""

    predicted: np.ndarray
    """Mean probability of a bin's images."""
    observed: np.ndarray
    """Share of them that are positive."""
    images: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance between the two, by images."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.images))


def reliability(target: np.ndarray, score: np.ndarray, bins: int = BINS) -> Reliability:
    """Reliability of `score` [images], log-odds, on `target` [images], 1 or 0.

    Bins hold equal numbers, so that none rests on an image or two (Nixon et al., arXiv 1904.01685); equal scores stay
    in the order given. Fewer images than bins give one bin an image.
    """
    order = np.argsort(score, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    probability = expit(score.astype(np.float64))
    return Reliability(
        np.array([probability[part].mean() for part in parts]),
        np.array([target[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )


def by_model(scores: pa.Table) -> list[dict[str, Any]]:
    """Of the linear probes, a task and model each: the calibration error of every label and their mean, over seeds,
    and the reliability of all labels together. An error has no interval: drawing patients again adds to it."""
    linear = scores.filter(pc.field("method") == LINEAR)
    out = []
    for task in pc.unique(linear["task"]).to_pylist():
        of_task = linear.filter(pc.field("task") == task)
        for model in pc.unique(of_task["model"]).to_pylist():
            part = of_task.filter(pc.field("model") == model)
            labels = {
                label: float(np.mean([r.error for r in _by_seed(part.filter(pc.field("label") == label))]))
                for label in pc.unique(part["label"]).to_pylist()
            }
            whole = reliability(part["target"].to_numpy(), part["score"].to_numpy())
            out.append(
                {
                    "task": task,
                    "model": model,
                    "labels": labels,
                    "mean": float(np.mean(list(labels.values()))),
                    "predicted": whole.predicted.tolist(),
                    "observed": whole.observed.tolist(),
                }
            )
    return out


def _by_seed(part: pa.Table) -> list[Reliability]:
    parts = [part.filter(pc.field("seed") == seed) for seed in pc.unique(part["seed"]).to_pylist()]
    return [reliability(p["target"].to_numpy(), p["score"].to_numpy()) for p in parts]
