"""Are the probabilities true? Reliability and the expected calibration error, over bins of equal numbers of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

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
