"""Break-even N: from how many samples on the local encoder is better than the open weights, and how sure is that.

The smallest subset whose paired interval lies wholly above zero and stays so at every larger size that was run. The
intervals hold for all sizes of a task at once (maximum over sizes of the studentised difference, by the same draws),
and tasks share the error rate by Holm's steps (Holm 1979), so that looking at many sizes and tasks does not by itself
produce a break-even.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALPHA = 0.05


@dataclass(frozen=True)
class Curve:
    """Paired differences of one task: model - baseline at every size."""

    sizes: np.ndarray
    """Rising [S]."""
    value: np.ndarray
    """[S]"""
    draws: np.ndarray
    """[S, R], all sizes under the same draws."""


@dataclass(frozen=True)
class BreakEven:
    """The answer for one task."""

    samples: int | None
    """Break-even N; None: not reached."""
    low: np.ndarray
    """Lower ends of the simultaneous interval [S], at the level that Holm's steps leave this task."""
    high: np.ndarray
    p: float
    """Of no difference at the largest size, adjusted for all sizes; not for the other tasks."""
    level: float
    """Of the interval."""


def break_evens(curves: dict[str, Curve], alpha: float = ALPHA) -> dict[str, BreakEven]:
    """Break-even of every task. A task whose p at the largest size falls at its step of Holm is not reached, and all
    tasks after it are judged at that same step, so that their intervals are the ones the claim was refused by."""
    p = {task: _adjusted_p(curve)[-1] for task, curve in curves.items()}
    out: dict[str, BreakEven] = {}
    step, alive = len(curves), True
    for task in sorted(curves, key=lambda t: (p[t], t)):
        low, high = _band(curves[task], alpha / step)
        holds = alive and low[-1] > 0
        below = np.flatnonzero(low <= 0)
        first = 0 if not len(below) else int(below[-1]) + 1
        reached = int(curves[task].sizes[first]) if holds else None
        out[task] = BreakEven(reached, low, high, float(p[task]), 1 - alpha / step)
        alive = holds
        step -= 1 if holds else 0
    return {task: out[task] for task in curves}


def _studentised(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors [S] and the largest absolute studentised deviation over sizes of each draw [R]."""
    defined = curve.draws[:, np.isfinite(curve.draws).all(0)]
    deviation = defined - defined.mean(1, keepdims=True)
    error = np.maximum(defined.std(1, ddof=1), 1e-12)
    return error, np.abs(deviation / error[:, None]).max(0)


def _band(curve: Curve, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    error, largest = _studentised(curve)
    reach = np.quantile(largest, 1 - alpha) * error
    return curve.value - reach, curve.value + reach


def _adjusted_p(curve: Curve) -> np.ndarray:
    """Two-sided p [S] of no difference, each adjusted for looking at all sizes."""
    error, largest = _studentised(curve)
    beyond: np.ndarray = (largest[None] >= np.abs(curve.value / error)[:, None]).sum(1)
    return (1 + beyond) / (1 + len(largest))
