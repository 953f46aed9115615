"""One encoder on one task: the curve over N, its law, its difference to the baseline, and what comes next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.evaluate.models import Model
from pipelines.evaluate.results import Measured
from pipelines.evaluate.stats import interval
from pipelines.evaluate.tasks import headline
from pipelines.scale import law
from pipelines.scale.breakeven import BreakEven, Curve
from pipelines.scale.groups import Group, values


@dataclass(frozen=True)
class TaskCurve:
    """The macro of a task's headline metric, of an encoder at every size, with its draws."""

    encoder: str
    task: str
    sizes: np.ndarray
    value_SK: np.ndarray
    spread_SR: np.ndarray
    """Draws that hold both patients and seeds."""
    baseline: str
    baseline_value: float
    baseline_draws: np.ndarray
    difference: Curve


def task_curve(
    group: Group, task: str, measured: dict[str, dict[str, Measured]], baseline: list[Model], state: int
) -> TaskCurve:
    """The curve of a group on a task against its baseline. `state` seeds the draws of seeds."""
    pairs = [values(row, measured) for row in group.runs]
    value_SK = np.stack([v for v, _ in pairs])
    draws_SKR = np.stack([d for _, d in pairs])
    spread_SR = law.resample_seeds(value_SK, draws_SKR, np.random.default_rng([state, len(group.sizes)]))
    own, own_draws = values(baseline, measured)
    name = baseline[0].name if len(baseline) == 1 else f"{group.encoder} untrained, {len(baseline)} seeds"
    sizes = np.array(group.sizes, float)
    difference = Curve(sizes, value_SK.mean(1) - own.mean(), spread_SR - own_draws.mean(0))
    return TaskCurve(
        group.encoder, task, sizes, value_SK, spread_SR, name, float(own.mean()), own_draws.mean(0), difference
    )


def describe(curve: TaskCurve, reached: BreakEven) -> dict[str, Any]:
    """What `result.json` says of a curve."""
    return {
        "encoder": curve.encoder,
        "task": curve.task,
        "metric": headline(curve.task),
        "baseline": curve.baseline,
        "baseline_value": _share(curve.baseline_value, curve.baseline_draws),
        "points": [_point(curve, reached, i) for i in range(len(curve.sizes))],
        "break_even": reached.samples,
        "break_even_level": reached.level,
        "p_at_largest": reached.p,
        "law": _law(curve),
    }


def _point(curve: TaskCurve, reached: BreakEven, i: int) -> dict[str, Any]:
    return {
        "samples": int(curve.sizes[i]),
        **_share(float(curve.value_SK[i].mean()), curve.spread_SR[i]),
        "seeds": curve.value_SK[i].tolist(),
        "difference": float(curve.difference.value[i]),
        "difference_low": max(float(reached.low[i]), -1.0),
        "difference_high": min(float(reached.high[i]), 1.0),
    }


def _share(value: float, draws: np.ndarray) -> dict[str, float]:
    """A headline metric, all of which lie between 0 and 1, however wide a few seeds make its interval."""
    found = _with_interval(value, draws)
    return found | {"low": max(found["low"], 0.0), "high": min(found["high"], 1.0)}


def _with_interval(value: float, draws: np.ndarray) -> dict[str, float]:
    low, high = interval(draws)
    return {"value": value, "low": low, "high": high}


def _law(curve: TaskCurve) -> dict[str, Any]:
    """Both forms, the preferred one and why, and what the next doubling would bring; no curve from two sizes."""
    if len(curve.sizes) < 3:
        return {"identified": False, "reason": law.too_few(len(curve.sizes)), "forms": {}}
    spread = curve.spread_SR[:, np.isfinite(curve.spread_SR).all(0)]
    fits = {form: law.fit(curve.sizes, 1 - curve.value_SK, 1 - spread, form) for form in law.FORMS}
    form, because = law.prefer(fits)
    reason = law.why_not_identified(curve.sizes, fits[form])
    last = float(curve.sizes[-1])
    gain = fits[form].draws.error(last) - fits[form].draws.error(2 * last)
    at = float((fits[form].law.error(last) - fits[form].law.error(2 * last))[0])
    return {
        "identified": not reason,
        "reason": reason,
        "preferred": form,
        "because": because,
        "forms": {name: _fit(f) for name, f in fits.items()},
        "doubling": {"samples": int(2 * last), **_with_interval(at, gain)},
    }


def _fit(fit: law.Fit) -> dict[str, Any]:
    low, high = fit.interval
    criterion = fit.criterion if np.isfinite(fit.criterion) else None
    return {
        "a": float(fit.law.a[0]),
        "b": {"value": float(fit.law.b[0]), "low": low, "high": high},
        "c": _with_interval(float(fit.law.c[0]), fit.draws.c),
        "criterion": criterion,
    }
