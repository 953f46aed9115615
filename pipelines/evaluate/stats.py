"""Rank metrics and their patient-cluster bootstrap, in numpy.

Images of one patient are not independent, so patients are drawn, never images, and every model, label and metric is
measured on the same draws: a difference of two models is then a paired difference. Draws are weights on images, so a
draw costs a cumulative sum and no sort; weighted counts are whole numbers in float64 and therefore exact.

Seeds of the probe are a level of their own: every draw takes one seed, the same for all models, so the intervals hold
what the choice of training patients adds as well.

Plain percentile intervals are too narrow where few patients are positive and where a metric is near 1 (measured by
tests/benchmarks/bench_coverage.py). So a share gets a studentised interval on the log-odds scale, a difference an
expanded percentile interval, both with Student's t of the number of patients in the smaller class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import t as student

METRICS = ("auroc", "auprc", "sensitivity", "brier")
SPECIFICITY = 0.9  # at which sensitivity is read
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
    images: np.ndarray
    """How many images each cluster has [clusters]."""
    squares: np.ndarray
    """Sum over each cluster's images of (probability - target)^2 [clusters]."""

    @staticmethod
    def of(target: np.ndarray, score: np.ndarray, cluster: np.ndarray | None = None) -> Ranking:
        """Rank `score` [images], log-odds, against `target` [images], 1 or 0; by default each image is a cluster."""
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
            np.bincount(cluster),
            np.bincount(cluster, (expit(score.astype(np.float64)) - target) ** 2),
        )

    def measure(self, weights: np.ndarray) -> np.ndarray:
        """METRICS [4, draws] under cluster weights [clusters, draws]; nan where a class has no weight.

        AUPRC is average precision as in scikit-learn: the sum of precision over the steps of recall. Sensitivity is the
        largest at a specificity of at least SPECIFICITY. The Brier score is the mean squared error of the probability.
        """
        positive, found, false = self._sums(weights)
        total_positive, total_negative = found[-1], false[-1]
        true, at_least = found[self.threshold], false[self.at_least]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(positive > 0, true / (true + at_least), 0.0)
            auprc = np.einsum("pd,pd->d", positive, precision) / total_positive
            # A whole number of false alarms is allowed; the small term keeps 0.1 * 30 from being less than 3.
            allowed = (1 - SPECIFICITY) * total_negative + 1e-9
            sensitivity = np.where(at_least <= allowed, true, 0.0).max(0, initial=0) / total_positive
        reached = weights[: len(self.images)]
        brier = self.squares @ reached / np.maximum(self.images @ reached, 1)
        measured = np.stack([self._auroc(positive, false), auprc, sensitivity, brier])
        measured[:, (total_positive == 0) | (total_negative == 0)] = np.nan
        return measured

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """AUROC alone [draws], at a third of the cost of all metrics."""
        positive, _, false = self._sums(weights)
        return self._auroc(positive, false)

    def _auroc(self, positive: np.ndarray, false: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            won = false[-1] - 0.5 * (false[self.above] + false[self.at_least])
            area: np.ndarray = np.einsum("pd,pd->d", positive, won) / (positive.sum(0) * false[-1])
        return area

    def _sums(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights of the positives, and the weight of the first k positives and negatives by falling score."""
        positive = weights[self.positives]
        return positive, _from_zero(positive), _from_zero(weights[self.negatives])

    def value(self) -> np.ndarray:
        """METRICS [4] of the images as they are."""
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


def interval(draws: np.ndarray, level: float = 0.95, patients: int | None = None) -> tuple[float, float]:
    """Percentile interval of the draws that are defined; nan when none is.

    With `patients`, those of the smaller class, the percentiles are taken further out, as far as Student's t lies
    beyond the normal (the expanded percentile interval of Hesterberg, The American Statistician 69, 2015); where that
    is beyond the outermost draw, as far as their spread says.
    """
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = (1 - level) / 2 if patients is None else float(ndtr(-reach(level, patients)))
    low, high = np.quantile(defined, [tail, 1 - tail])
    if patients is not None and tail * (len(defined) + 1) < 1:
        centre, spread = defined.mean(), reach(level, patients) * defined.std()
        low, high = min(low, centre - spread), max(high, centre + spread)
    return float(low), float(high)


def interval_of_gap(draws: np.ndarray, patients: int) -> tuple[float, float]:
    """Interval of a difference between two metrics that lie between 0 and 1: it cannot be more than 1 either way."""
    low, high = np.clip(interval(draws, patients=patients), -1, 1)
    return float(low), float(high)


def interval_of_share(value: float, draws: np.ndarray, patients: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a metric between 0 and 1: Student's t around the log-odds, with the spread of the draws.

    At 0 or 1 draws have no spread. Then the exact bound of no error in `patients` independent trials holds (Clopper
    and Pearson 1934): an AUROC of 1 orders as many disjoint pairs of patients rightly.
    """
    defined = draws[np.isfinite(draws)]
    if not len(defined) or not np.isfinite(value):
        return float("nan"), float("nan")
    bound = ((1 - level) / 2) ** (1 / max(patients, 1))
    if value >= 1 or value <= 0:
        return (bound, 1.0) if value >= 1 else (0.0, 1 - bound)
    spread = defined.std(ddof=1) / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-1, 1]) * reach(level, patients) * spread)
    return float(low), float(high)


def reach(level: float, patients: int) -> float:
    """How many bootstrap standard errors an interval reaches to either side: t, and the bootstrap's n / (n - 1)."""
    n = max(patients, 2)
    return float(student.ppf((1 + level) / 2, n - 1) * np.sqrt(n / (n - 1)))


def two_sided_p(draws: np.ndarray, patients: int | None = None) -> float:
    """Two-sided bootstrap p of 'no difference': twice the smaller tail beyond zero, never below 2 / (draws + 1).

    With `patients` it is the p of the expanded interval: below 0.05 where that interval leaves zero out.
    """
    defined = draws[np.isfinite(draws)]
    tail = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    p = min(1.0, 2 * (tail + 1) / (len(defined) + 1))
    if patients is None:
        return p
    n = max(patients, 2)
    return float(2 * student.cdf(ndtri(p / 2) / np.sqrt(n / (n - 1)), n - 1))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p values (Holm 1979), in the order given."""
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(adjusted, 1.0)
    return out
