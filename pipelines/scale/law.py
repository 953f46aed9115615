"""The scaling law: error(N) = a N^-b + c, its interval, and whether the data can tell its exponent at all.

Fitted by variable projection: for each exponent of a grid, a and c follow by least squares with a, c >= 0, so there is
no start value and no local minimum. The form without c (a pure power law) is fitted beside it; it looks precise even
where it is wrong, so it is preferred only where the corrected Akaike criterion says so. The paper that this follows
(arXiv 2509.12818) gives no form that could be read; this one is an assumption, and every report says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

EXPONENTS = np.geomspace(0.01, 3.0, 481)
"""The grid; beyond it a curve over a few decades of N is flat or a step. Neighbours differ by 1.2 %."""
WIDEST = 0.5
"""An interval of b wider than this tells nothing that a person could plan by."""
LEAST_SIZES = 4
LEVEL = 0.95
FORMS = ("offset", "power")


@dataclass(frozen=True)
class Laws:
    """Fits of many draws at once: arrays [draws]."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def error(self, n: float) -> np.ndarray:
        """Fitted error [draws] at N samples."""
        error: np.ndarray = self.a * np.power(float(n), -self.b) + self.c
        return error


@dataclass(frozen=True)
class Fit:
    """A law of one form with what is known of it."""

    form: str
    """`offset`, with c, or `power`, with c = 0."""
    law: Laws
    """Of the values as they are [1]."""
    draws: Laws
    criterion: float
    """Corrected Akaike criterion; infinite where there are too few points."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of b."""
        low, high = np.quantile(self.draws.b, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)


def fit_laws(sizes: np.ndarray, errors: np.ndarray, form: str) -> Laws:
    """Least-squares laws of errors [S, draws] at sizes [S].

    Sizes are divided by their geometric mean while fitting, so that the conditioning does not depend on N. The best
    exponent of the grid is refined once, among exponents between its neighbours.
    """
    sizes = np.asarray(sizes, float)
    scale = float(np.exp(np.log(sizes).mean()))
    b_D = EXPONENTS[_squares(sizes / scale, EXPONENTS[:, None], errors, form).argmin(0)]
    near_BD = b_D * np.power(EXPONENTS[1] / EXPONENTS[0], np.linspace(-1, 1, 41))[:, None]
    best = _squares(sizes / scale, near_BD, errors, form).argmin(0)
    b_D = near_BD[best, np.arange(errors.shape[1])]
    a, c = _linear(sizes / scale, b_D, errors, form)
    return Laws(a * np.power(scale, b_D), b_D, c)


def _squares(sizes: np.ndarray, b: np.ndarray, errors: np.ndarray, form: str) -> np.ndarray:
    """Sum of squared residuals of the best law at each exponent; b is [B, 1] or [B, D], the sum [B, D]."""
    a, c = _linear(sizes, b, errors, form)
    return sum(((a * np.power(n, -b) + c - error) ** 2 for n, error in zip(sizes, errors, strict=True)), np.zeros(1))


def _linear(sizes: np.ndarray, b: np.ndarray, errors: np.ndarray, form: str) -> tuple[np.ndarray, np.ndarray]:
    """a and c, both at least 0, of least squares at given exponents; errors are [S, D], b broadcasts against D."""
    curves = [np.power(n, -b) for n in sizes]
    cross = sum(x * error for x, error in zip(curves, errors, strict=True))
    power = sum(x * x for x in curves)
    through_zero = np.maximum(cross / power, 0)
    if form == "power":
        return through_zero, np.zeros_like(through_zero)
    count, mean, level = len(sizes), sum(curves) / len(sizes), errors.mean(0)
    slope = (cross - count * mean * level) / (power - count * mean**2)
    floor = level - slope * mean
    a = np.where(slope < 0, 0, np.where(floor < 0, through_zero, slope))
    return a, np.where(slope < 0, np.maximum(level, 0), np.maximum(floor, 0))


def resample_seeds(errors_SK: np.ndarray, draws_SKR: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Errors [S, R] whose spread holds both the draws of patients and the choice of seeds.

    `errors_SK` are the errors of K seeds at S sizes and `draws_SKR` the same under R draws of patients. Three seeds are
    too few to draw from, so their residuals are pooled over sizes, enlarged for the mean they were taken about, and
    K of them are drawn for every size: a residual bootstrap that takes the spread of seeds to be alike at all sizes.
    """
    sizes, seeds = errors_SK.shape
    mean_SR: np.ndarray = draws_SKR.mean(1)
    if seeds < 2:
        return mean_SR
    # Percentiles of few pooled residuals are too narrow by what Student's quantile exceeds the normal one.
    student = t.ppf((1 + LEVEL) / 2, sizes * (seeds - 1)) / norm.ppf((1 + LEVEL) / 2)
    residual = ((errors_SK - errors_SK.mean(1, keepdims=True)) * np.sqrt(seeds / (seeds - 1)) * student).ravel()
    chosen = rng.integers(len(residual), size=(sizes, seeds, mean_SR.shape[1]))
    spread_SR: np.ndarray = mean_SR + residual[chosen].mean(1)
    return spread_SR


def fit(sizes: np.ndarray, errors_SK: np.ndarray, spread_SR: np.ndarray, form: str) -> Fit:
    """The law of one form: of the mean over seeds, and of every draw of `spread_SR`."""
    law = fit_laws(sizes, errors_SK.mean(1)[:, None], form)
    predicted = np.array([law.error(n)[0] for n in sizes])
    squares = float(((errors_SK - predicted[:, None]) ** 2).sum())
    count, free = errors_SK.size, (4 if form == "offset" else 3)  # a, b, the noise, and c
    criterion = np.inf
    if count > free + 1:
        criterion = count * np.log(max(squares / count, 1e-18)) + 2 * free + 2 * free * (free + 1) / (count - free - 1)
    return Fit(form, law, fit_laws(sizes, spread_SR, form), float(criterion))


def prefer(fits: dict[str, Fit]) -> tuple[str, str]:
    """The form to prefer and the reason, in words."""
    gain = fits["power"].criterion - fits["offset"].criterion
    if np.isfinite(gain) and gain > 2:
        return "offset", f"a floor c explains the errors better (the criterion falls by {gain:.1f})"
    if np.isfinite(gain) and gain < -2:
        return "power", f"no floor is seen: c adds nothing (the criterion rises by {-gain:.1f})"
    return "offset", "the two forms explain the errors equally well; the one with a floor promises less"


def too_few(sizes: int) -> str:
    """Why so few sizes tell no curve."""
    what = "size is" if sizes == 1 else "sizes are"
    return f"{sizes} {what} too few to tell a curve with three parameters; run at least {LEAST_SIZES}"


def why_not_identified(sizes: np.ndarray, chosen: Fit) -> str:
    """Why the data cannot identify the curve, in words; empty when they can."""
    if len(sizes) < LEAST_SIZES:
        return too_few(len(sizes))
    low, high = chosen.interval
    flat = float((chosen.draws.a * np.power(float(min(sizes)), -chosen.draws.b) < 1e-9).mean())
    if flat > (1 - LEVEL) / 2:
        return "a curve that does not fall at all fits as well"
    if low <= EXPONENTS[1] or high >= EXPONENTS[-2]:
        return "the exponent could be anything from flat to a step"
    if high - low > WIDEST:
        return f"the interval of the exponent, {low:.2f} to {high:.2f}, is too wide to plan by; add sizes or seeds"
    return ""
