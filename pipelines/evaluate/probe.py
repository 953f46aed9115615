"""The linear probe: L2-penalised logistic regression on standardised frozen features, one label at a time.

A seed takes 90 % of the train patients, the same for every model, so that a seed changes what is learnt from. The
penalty is chosen by log loss on the validation split, or by folds of train patients where validation is too small.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

PENALTIES = tuple(10.0**k for k in range(-5, 2))  # scikit-learn's C, strongest penalty first
DEFAULT_PENALTY = 1e-2  # where there are too few patients to choose on
SHARE = 0.9
FOLDS = 3


@dataclass(frozen=True)
class Part:
    """Images of one split."""

    features: np.ndarray
    """float [images, D]"""
    target: np.ndarray
    """float32 [images] of one label: 1, 0, nan."""
    patient: np.ndarray

    def known(self) -> Part:
        """Only the images whose label is neither blank nor uncertain."""
        keep = np.isfinite(self.target)
        return Part(self.features[keep], self.target[keep], self.patient[keep])

    def patients(self, value: int) -> int:
        """How many patients have an image of this target value."""
        return len(np.unique(self.patient[self.target == value].astype(str)))


def subsample(patient: np.ndarray, seed: int, share: float = SHARE) -> np.ndarray:
    """Places of the images of a seed's share of the patients; depends on the patients and the seed alone."""
    names = np.unique(patient.astype(str))
    rng = np.random.default_rng([seed, len(names)])
    chosen = rng.choice(names, max(1, round(share * len(names))), replace=False)
    return np.flatnonzero(np.isin(patient.astype(str), chosen))


def standardise(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """float64 features of zero mean and unit variance on `train`; constant ones become zero."""
    train = np.asarray(train, np.float64)
    mean, deviation = train.mean(0), train.std(0)
    deviation[deviation < 1e-8] = np.inf
    return [(np.asarray(part, np.float64) - mean) / deviation for part in (train, *others)]


def probe(
    train: Part, validation: Part, features: np.ndarray, minimum: int, folds: bool = True
) -> tuple[np.ndarray, float]:
    """Log-odds [images] of standardised `features` and the penalty C chosen.

    `minimum` is the number of patients of either class that validation must have for the choice to rest on it; with
    fewer, it rests on folds of train patients or, without `folds`, DEFAULT_PENALTY is taken. A train part of one class
    only, after subsampling, gives log-odds of zero: it has learnt nothing.
    """
    train, validation = train.known(), validation.known()
    if min(train.patients(0), train.patients(1)) == 0:
        return np.zeros(len(features)), DEFAULT_PENALTY
    if min(validation.patients(0), validation.patients(1)) >= minimum:
        odds = _path(train, [validation.features, features])
        losses = [_loss(validation.target, on_validation) for on_validation, _ in odds]
        best = int(np.argmin(losses))
        return odds[best][1], PENALTIES[best]
    if not folds:
        return _path(train, [features], (DEFAULT_PENALTY,))[0][0], DEFAULT_PENALTY
    best = _by_folds(train)
    return _path(train, [features], PENALTIES[: best + 1])[-1][0], PENALTIES[best]


def _by_folds(train: Part) -> int:
    """Place of the penalty with the least log loss over folds of patients."""
    folds = min(FOLDS, train.patients(0), train.patients(1))
    default = PENALTIES.index(DEFAULT_PENALTY)
    if folds < 2:
        return default
    losses = np.zeros(len(PENALTIES))
    splitter = StratifiedGroupKFold(folds)
    for learn, held in splitter.split(train.features, train.target, train.patient.astype(str)):
        part = Part(train.features[learn], train.target[learn], train.patient[learn])
        if min(part.patients(0), part.patients(1)) == 0:
            return default
        odds = _path(part, [train.features[held]])
        losses += [len(held) * _loss(train.target[held], o[0]) for o in odds]
    return int(np.argmin(losses))


def _path(train: Part, features: list[np.ndarray], penalties: tuple[float, ...] = PENALTIES) -> list[list[np.ndarray]]:
    """Log-odds of each of `features` at each penalty, each fit starting from the one before."""
    model = LogisticRegression(max_iter=300, tol=1e-4, warm_start=True)
    out = []
    with warnings.catch_warnings():
        # At the weakest penalties separable data never converge; validation judges the early-stopped fit.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in penalties:
            model.set_params(C=penalty).fit(train.features, train.target.astype(int))
            out.append([model.decision_function(x) for x in features])
    return out


def _loss(target: np.ndarray, odds: np.ndarray) -> float:
    return float(log_loss(target.astype(int), 1 / (1 + np.exp(-odds)), labels=[0, 1]))
