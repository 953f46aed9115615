"""Results of tasks that measure images one by one (segmentation, report generation), from a table of tables.MEASURES.

The same draws of patients and seeds as for probes (`results`), but a metric is a ratio of sums: a draw costs two matrix
products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.evaluate import results, stats
from pipelines.evaluate.results import MACRO, Measured

Sums = dict[tuple[str, str], np.ndarray]
"""(model, label) -> numerator and denominator of every seed and patient [2, S, P]."""


def analyse(
    measures: pa.Table, pairs: list[tuple[str, str]], resamples: int, tick: Callable[[int, int], None] = lambda *_: None
) -> list[dict[str, Any]]:
    """Rows of tables.RESULTS from a table of tables.MEASURES.

    `pairs` are (model, baseline). Tasks, metrics and labels come in the order of the table, the macro (mean over
    labels) last. p values of labels are Holm-adjusted within model, baseline, task and metric. A patient counts as
    positive where the metric says something of one of its images (a denominator above 0).
    """
    rows: list[dict[str, Any]] = []
    for task in pc.unique(measures["task"]).to_pylist():
        for metric, (measured, counts) in bootstrap(measures, task, resamples, tick).items():
            rows += results.values(task, measured, counts, (metric,), None)
            for model, baseline in pairs:
                if model in measured and baseline in measured:
                    rows += results.differences(task, model, baseline, measured, counts, (metric,), None)
    return rows


def bootstrap(
    measures: pa.Table, task: str, resamples: int, tick: Callable[[int, int], None] = lambda *_: None
) -> dict[str, tuple[dict[str, dict[str, Measured]], dict[str, dict[str, int]]]]:
    """Metric of a task -> (model -> label -> value [1] and draws [1, R], label -> counts), the macro last; all under
    the same draws."""
    of_task = measures.filter(pc.field("task") == task)
    patients = sorted(pc.unique(of_task["patient"]).to_pylist())
    seeds = sorted(pc.unique(of_task["seed"]).to_pylist())
    of_metric = {m: of_task.filter(pc.field("metric") == m) for m in pc.unique(of_task["metric"]).to_pylist()}
    sums = {metric: _sums(part, patients, seeds) for metric, part in of_metric.items()}
    draws = _draw(sums, len(patients), len(seeds), resamples, tick)
    return {metric: (_measured(sums[metric], draws[metric]), _counts(part)) for metric, part in of_metric.items()}


def _sums(part: pa.Table, patients: list[str], seeds: list[int]) -> Sums:
    """Sums over the images of a patient; patients coded by sorted pseudonym, so that no order of rows matters."""
    columns = {name: np.asarray(part[name].to_pylist(), object) for name in ("model", "label")}
    at_patient = np.searchsorted(patients, part["patient"].to_pylist())
    at_seed = np.searchsorted(seeds, part["seed"].to_numpy())
    values = np.stack([part["numerator"].to_numpy(), part["denominator"].to_numpy()])
    out: Sums = {}
    for key in dict.fromkeys(zip(columns["model"], columns["label"], strict=True)):
        at = np.flatnonzero((columns["model"] == key[0]) & (columns["label"] == key[1]))
        total = out[key] = np.zeros((2, len(seeds), len(patients)))
        for side in (0, 1):
            np.add.at(total[side], (at_seed[at], at_patient[at]), values[side, at])
    return out


def _draw(
    sums: dict[str, Sums], patients: int, seeds: int, resamples: int, tick: Callable[[int, int], None]
) -> dict[str, dict[tuple[str, str], np.ndarray]]:
    """Metric -> (model, label) -> draws [R]; every model, label and metric under the same draws."""
    out = {metric: {key: np.empty(resamples) for key in of} for metric, of in sums.items()}
    done = 0
    for counts, taken in stats.draw_patients(patients, seeds, resamples):
        for seed in np.unique(taken):
            columns = np.flatnonzero(taken == seed)
            weights = counts[:, columns]
            for metric, of in sums.items():
                for key, total in of.items():
                    out[metric][key][done + columns] = _ratio(total[:, seed] @ weights)
        done += len(taken)
        tick(done, resamples)
    return out


def _ratio(sums: np.ndarray) -> np.ndarray:
    """Numerators over denominators [2, ...] -> [...]; nan where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[1] > 0, sums[0] / sums[1], np.nan)


def _measured(sums: Sums, draws: dict[tuple[str, str], np.ndarray]) -> dict[str, dict[str, Measured]]:
    """Model -> label -> value [1] and draws [1, R], the macro last."""
    out: dict[str, dict[str, Measured]] = {}
    for (model, label), total in sums.items():
        value = results.mean_of_defined(_ratio(total.sum(-1)))
        out.setdefault(model, {})[label] = Measured(value[None], draws[(model, label)][None])
    for by_label in out.values():
        labels = list(by_label.values())
        value, drawn = (
            results.mean_of_defined(np.stack(x)) for x in ([m.value for m in labels], [m.draws for m in labels])
        )
        by_label[MACRO] = Measured(value, drawn)
    return out


def _counts(part: pa.Table) -> dict[str, dict[str, int]]:
    """Images, patients and positives of every label and of all together."""

    def count(rows: pa.Table) -> dict[str, int]:
        said = rows.filter(pc.field("denominator") > 0)
        columns = {"images": rows["image"], "patients": rows["patient"], "positives": said["patient"]}
        counts = {name: len(pc.unique(column)) for name, column in columns.items()}
        return counts | {"smaller": counts["positives"]}

    labels = pc.unique(part["label"]).to_pylist()
    return {label: count(part.filter(pc.field("label") == label)) for label in labels} | {MACRO: count(part)}
