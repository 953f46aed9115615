"""DeLong's test of two correlated AUROCs on the same images (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988).

It holds for independent images only, so it stands beside the patient bootstrap where every patient has one image. By
midranks (Sun and Xu, IEEE Signal Processing Letters 21, 2014) it costs a sort and no loop over pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import rankdata


@dataclass(frozen=True)
class Placements:
    """What each image adds to an AUROC. Placements of several seeds may be averaged: the AUROC is linear in them."""

    positive: np.ndarray
    """Share of negatives that each positive outranks, ties as half [P]."""
    negative: np.ndarray
    """Share of positives that outrank each negative [N]."""

    @property
    def auroc(self) -> float:
        """The area under the ROC curve."""
        return float(self.positive.mean())

    @property
    def variance(self) -> float:
        """Of the AUROC; nan with fewer than two images of a class."""
        return _variance(self.positive, self.negative)


def placements(target: np.ndarray, score: np.ndarray) -> Placements:
    """Placements of `score` [images] against `target` [images], 1 or 0, in the order of the images."""
    up, down = score[target == 1], score[target == 0]
    together = rankdata(np.concatenate([up, down]))
    won = (together[: len(up)] - rankdata(up)) / len(down)
    lost = 1 - (together[len(up) :] - rankdata(down)) / len(up)
    return Placements(won, lost)


def mean(of: list[Placements]) -> Placements:
    """Placements of the mean AUROC over seeds, on the same images."""
    return Placements(np.mean([p.positive for p in of], 0), np.mean([p.negative for p in of], 0))


def paired_p(ours: Placements, theirs: Placements) -> float:
    """Two-sided p of equal AUROC on the same images; 1 where the two order every pair alike."""
    variance = _variance(ours.positive - theirs.positive, ours.negative - theirs.negative)
    difference = abs(ours.auroc - theirs.auroc)
    if not variance > 0:
        return 1.0 if difference == 0 or np.isnan(variance) else 0.0
    return float(2 * ndtr(-difference / np.sqrt(variance)))


def _variance(positive: np.ndarray, negative: np.ndarray) -> float:
    if min(len(positive), len(negative)) < 2:
        return float("nan")
    return float(positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative))
