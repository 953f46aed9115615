"""Rank metrics and their patient-cluster bootstrap, in numpy.

Images of one patient are not independent, so patients are drawn, never images, and every model, label and metric is
measured on the same draws: a difference of two models is then a paired difference. Draws are weights on images, so a
draw costs a cumulative sum and no sort; weighted counts are whole numbers in float64 and therefore exact.

Seeds of the probe are a level of their own: every draw takes one seed, the same for all models, so the intervals hold
what the choice of training patients adds as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

METRICS = ("auroc", "auprc")
BLOCK = 128  # draws at once: [images, BLOCK] float64 stays near the cache for a few thousand images


@dataclass(frozen=True)
class Ranking:
    """The order of scores against targets, prepared once and measured under any weights.

    Scores of equal value are ties: they count half in AUROC and share one threshold in AUPRC.
    """

    positives: np.ndarray
    """Cluster of each positive, by falling score [P]."""
    negatives: np.ndarray
    """Cluster of each negative, by falling score [N]."""
    above: np.ndarray
    """For each positive, how many negatives score strictly higher [P]."""
    at_least: np.ndarray
    """For each positive, how many negatives score as high or higher [P]."""
    threshold: np.ndarray
    """For each positive, how many positives score as high or higher [P]."""

    @staticmethod
    def of(target: np.ndarray, score: np.ndarray, cluster: np.ndarray | None = None) -> Ranking:
        """Rank `score` [images] against `target` [images], 1 or 0; `cluster` [images] defaults to the image itself."""
        cluster = np.arange(len(target)) if cluster is None else cluster
        order = np.argsort(-score, kind="stable")
        positives, negatives = order[target[order] == 1], order[target[order] == 0]
        up, down = -score[positives], -score[negatives]
        return Ranking(
            cluster[positives],
            cluster[negatives],
            np.searchsorted(down, up, "left"),
            np.searchsorted(down, up, "right"),
            np.searchsorted(up, up, "right"),
        )

    def measure(self, weights: np.ndarray) -> np.ndarray:
        """AUROC and AUPRC [2, draws] under cluster weights [clusters, draws]; nan where a class has no weight.

        AUPRC is average precision as in scikit-learn: the sum of precision over the steps of recall.
        """
        positive = weights[self.positives]
        found = _from_zero(positive)
        false = _from_zero(weights[self.negatives])
        total_positive, total_negative = found[-1], false[-1]
        above, at_least = false[self.above], false[self.at_least]
        true = found[self.threshold]
        with np.errstate(invalid="ignore", divide="ignore"):
            won = total_negative - 0.5 * (above + at_least)
            auroc = np.einsum("pd,pd->d", positive, won) / (total_positive * total_negative)
            precision = np.where(positive > 0, true / (true + at_least), 0.0)
            auprc = np.einsum("pd,pd->d", positive, precision) / total_positive
        auprc[total_negative == 0] = np.nan
        return np.stack([auroc, auprc])

    def value(self) -> np.ndarray:
        """AUROC and AUPRC [2] of the images as they are."""
        clusters = 1 + max(self.positives.max(initial=-1), self.negatives.max(initial=-1))
        return self.measure(np.ones((clusters, 1)))[:, 0]


def _from_zero(weights: np.ndarray) -> np.ndarray:
    """Cumulative sum along axis 0 with a leading zero: row k is the weight of the first k images."""
    out = np.zeros((len(weights) + 1, *weights.shape[1:]))
    np.cumsum(weights, axis=0, out=out[1:])
    return out


def auroc(target: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney), ties counting half; nan without both classes."""
    return float(Ranking.of(target, score).value()[0])


def auprc(target: np.ndarray, score: np.ndarray) -> float:
    """Average precision; nan without both classes."""
    return float(Ranking.of(target, score).value()[1])


def draw_patients(patients: int, seeds: int, draws: int, state: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of a patient-cluster bootstrap: how often each patient was drawn [patients, b], the seed taken [b].

    The stream depends on `state` alone, not on the block size.
    """
    rng = np.random.default_rng(state)
    for begin in range(0, draws, BLOCK):
        size = min(BLOCK, draws - begin)
        counts = np.empty((patients, size))
        taken = np.empty(size, np.int64)
        for d in range(size):
            counts[:, d] = np.bincount(rng.integers(patients, size=patients), minlength=patients)
            taken[d] = rng.integers(seeds)
        yield counts, taken


def interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the draws that are defined; nan when none is."""
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def two_sided_p(draws: np.ndarray) -> float:
    """Two-sided bootstrap p of 'no difference': twice the smaller tail beyond zero, never below 2 / (draws + 1)."""
    defined = draws[np.isfinite(draws)]
    tail = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return min(1.0, 2 * (tail + 1) / (len(defined) + 1))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p values (Holm 1979), in the order given."""
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(adjusted, 1.0)
    return out
