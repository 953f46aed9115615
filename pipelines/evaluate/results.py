"""From scores to results: values, paired differences, intervals, p values. Reads nothing but the score table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.evaluate import delong, stats
from pipelines.evaluate.tasks import LINEAR, answers

MACRO = "macro"


@dataclass
class LabelScores:
    """One label of one task: how every model ranked it under every seed, and of how many."""

    rankings: dict[str, list[stats.Ranking]] = field(default_factory=dict)
    images: int = 0
    patients: int = 0
    positives: int = 0
    """Patients with at least one positive image: the bootstrap draws patients."""
    negatives: int = 0
    placements: dict[str, delong.Placements] = field(default_factory=dict)
    """By model, where every patient has one image of this label; empty otherwise."""


@dataclass(frozen=True)
class Measured:
    """Point estimate [M] (mean over seeds) and draws [M, R] of M metrics, of one model on one label or the macro."""

    value: np.ndarray
    draws: np.ndarray


def analyse(
    scores: pa.Table, pairs: list[tuple[str, str]], resamples: int, tick: Callable[[int, int], None] = lambda *_: None
) -> list[dict[str, Any]]:
    """Rows of tables.RESULTS from a table of tables.SCORES.

    `pairs` are (model, baseline). Tasks and labels come in the order of the table, the macro last. p values of labels
    are Holm-adjusted within model, baseline, task and metric; that of the macro stands apart.
    """
    rows: list[dict[str, Any]] = []
    for task in pc.unique(scores["task"]).to_pylist():
        of_task = scores.filter(pc.field("task") == task)
        for method in pc.unique(of_task["method"]).to_pylist():
            rows += _of_method(of_task.filter(pc.field("method") == method), task, method, pairs, resamples, tick)
    return rows


def answering(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that answers and verdicts are made from: of each task those of the method that answers."""
    tasks = {row["task"] for row in rows}
    method = {task: answers(row["method"] for row in rows if row["task"] == task) for task in tasks}
    return [row for row in rows if row["method"] == method[row["task"]]]


def _of_method(
    part: pa.Table,
    task: str,
    method: str,
    pairs: list[tuple[str, str]],
    resamples: int,
    tick: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    labels, patients = rank(part)
    measured = bootstrap(labels, patients, len(pc.unique(part["seed"])), resamples, tick)
    counts = count(part, labels)
    rows = values(task, measured, counts, method=method)
    for model, baseline in pairs:
        if model in measured and baseline in measured:
            of_pair = differences(task, model, baseline, measured, counts, method=method)
            _add_delong(of_pair, labels, model, baseline)
            rows += of_pair
    return rows


def _add_delong(rows: list[dict[str, Any]], labels: dict[str, LabelScores], model: str, baseline: str) -> None:
    """DeLong's p beside the bootstrap's, Holm-adjusted alike, on labels where every patient has one image."""
    both = [label for label, s in labels.items() if model in s.placements and baseline in s.placements]
    p = [delong.paired_p(labels[label].placements[model], labels[label].placements[baseline]) for label in both]
    adjusted = dict(zip(both, stats.holm(np.array(p)).tolist(), strict=True))
    for row in rows:
        if row["metric"] == "auroc":
            row["p_delong"] = adjusted.get(row["label"])


def rank(part: pa.Table) -> tuple[dict[str, LabelScores], int]:
    """Labels of a task with their rankings, and how many patients the bootstrap draws from."""
    patient = part["patient"].combine_chunks().dictionary_encode()
    # Coded by sorted pseudonym, so that the draws do not depend on the order of rows.
    names = patient.dictionary.to_pylist()
    code = np.argsort(np.argsort(names))[patient.indices.to_numpy()]
    target, score, seed = (part[c].to_numpy() for c in ("target", "score", "seed"))
    group = {c: part[c].combine_chunks().dictionary_encode() for c in ("model", "label")}
    labels: dict[str, LabelScores] = {}
    for i, label in enumerate(group["label"].dictionary.to_pylist()):
        of_label = group["label"].indices.to_numpy() == i
        entry = labels[label] = LabelScores()
        for j, model in enumerate(group["model"].dictionary.to_pylist()):
            of_model = of_label & (group["model"].indices.to_numpy() == j)
            places = [np.flatnonzero(of_model & (seed == s)) for s in np.unique(seed[of_model])]
            entry.rankings[model] = [stats.Ranking.of(target[p], score[p], code[p]) for p in places]
            entry.images, entry.patients = len(places[0]), len(np.unique(code[places[0]]))
            positive = target[places[0]] == 1
            entry.positives, entry.negatives = (len(np.unique(code[places[0]][c])) for c in (positive, ~positive))
            if entry.patients == entry.images:
                by_patient = [p[np.argsort(code[p])] for p in places]
                entry.placements[model] = delong.mean([delong.placements(target[p], score[p]) for p in by_patient])
    return labels, len(names)


def bootstrap(
    labels: dict[str, LabelScores], patients: int, seeds: int, resamples: int, tick: Callable[[int, int], None]
) -> dict[str, dict[str, Measured]]:
    """Model -> label -> value and draws; every model and label under the same draws of patients and seed."""
    models = list(dict.fromkeys(m for label in labels.values() for m in label.rankings))
    draws = {m: {name: np.empty((len(stats.METRICS), resamples)) for name in labels} for m in models}
    done = 0
    for counts, taken in stats.draw_patients(patients, seeds, resamples):
        for seed in np.unique(taken):
            columns = np.flatnonzero(taken == seed)
            weights = np.ascontiguousarray(counts[:, columns])
            for name, label in labels.items():
                for model, rankings in label.rankings.items():
                    draws[model][name][:, done + columns] = rankings[seed].measure(weights)
        done += len(taken)
        tick(done, resamples)
    out: dict[str, dict[str, Measured]] = {}
    for model in models:
        own = {n: np.mean([r.value() for r in label.rankings[model]], 0) for n, label in labels.items()}
        out[model] = {name: Measured(own[name], draws[model][name]) for name in labels}
        out[model][MACRO] = Measured(
            np.mean(list(own.values()), 0), mean_of_defined(np.stack(list(draws[model].values())))
        )
    return out


def mean_of_defined(draws: np.ndarray) -> np.ndarray:
    """Mean over labels [L, ...] -> [...] of those that are defined, such as those a draw left both classes of; nan
    where none is."""
    defined = np.isfinite(draws)
    count = defined.sum(0)
    return np.where(count > 0, np.where(defined, draws, 0).sum(0) / np.maximum(count, 1), np.nan)


def values(
    task: str,
    measured: dict[str, dict[str, Measured]],
    counts: dict[str, dict[str, int]],
    metrics: tuple[str, ...] = stats.METRICS,
    method: str | None = LINEAR,
) -> list[dict[str, Any]]:
    """The models' own values, as rows of tables.RESULTS."""
    return [
        _row(model, None, task, method, label, metric, m.value[i], m.draws[i], None, counts[label])
        for model, by_label in measured.items()
        for label, m in by_label.items()
        for i, metric in enumerate(metrics)
    ]


def differences(
    task: str,
    model: str,
    baseline: str,
    measured: dict[str, dict[str, Measured]],
    counts: dict[str, dict[str, int]],
    metrics: tuple[str, ...] = stats.METRICS,
    method: str | None = LINEAR,
) -> list[dict[str, Any]]:
    """Paired differences of a model and its baseline on the labels that both were measured on."""
    rows = []
    for i, metric in enumerate(metrics):
        theirs = measured[baseline]
        ours = {label: m for label, m in measured[model].items() if label in theirs}
        draws = {label: ours[label].draws[i] - theirs[label].draws[i] for label in ours}
        p = {label: stats.two_sided_p(d, counts[label]["smaller"]) for label, d in draws.items()}
        labels = [label for label in ours if label != MACRO]
        p |= dict(zip(labels, stats.holm(np.array([p[label] for label in labels])).tolist(), strict=True))
        for label in ours:
            value = ours[label].value[i] - theirs[label].value[i]
            rows.append(
                _row(model, baseline, task, method, label, metric, value, draws[label], p[label], counts[label])
            )
    return rows


def _row(
    model: str,
    baseline: str | None,
    task: str,
    method: str | None,
    label: str,
    metric: str,
    value: float,
    draws: np.ndarray,
    p: float | None,
    counts: dict[str, int],
) -> dict[str, Any]:
    smaller = counts["smaller"]
    if metric not in stats.METRICS:
        low, high = stats.interval(draws, patients=smaller)
    elif baseline is None:
        low, high = stats.interval_of_share(value, draws, smaller)
    else:
        low, high = stats.interval_of_gap(draws, smaller)
    names = {"model": model, "baseline": baseline, "task": task, "method": method, "label": label, "metric": metric}
    said = {"value": float(value), "low": low, "high": high, "p": p, "p_delong": None}
    return names | said | {key: counts[key] for key in ("images", "patients", "positives")}


def count(part: pa.Table, labels: dict[str, LabelScores]) -> dict[str, dict[str, int]]:
    """Images, patients and positives of every label of a task and of its macro.

    `smaller` is the number of patients in the smaller class: what an interval can rest on.
    """
    return {name: _counts(label) for name, label in labels.items()} | {MACRO: _macro_counts(part)}


def _counts(label: LabelScores) -> dict[str, int]:
    smaller = min(label.positives, label.negatives)
    return {"images": label.images, "patients": label.patients, "positives": label.positives, "smaller": smaller}


def _macro_counts(part: pa.Table) -> dict[str, int]:
    """Images and patients scored on any label, and patients positive on any."""
    by_class = [len(pc.unique(part.filter(pc.field("target") == value)["patient"])) for value in (0, 1)]
    counts = {name: len(pc.unique(part[column])) for name, column in (("images", "image"), ("patients", "patient"))}
    return counts | {"positives": by_class[1], "smaller": min(by_class)}
