"""Is a model as good for everyone? AUROC by sex, age, view, detector and site, with gaps, of the method that answers.

A gap is the largest minus the smallest AUROC over the groups of one attribute, on the same patient draws. Groups with
too few patients of either class are listed without a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.evaluate import stats
from pipelines.evaluate.results import MACRO
from pipelines.evaluate.tasks import CONTROL, answers

AGES = ((18, "under 18"), (40, "18 to 39"), (60, "40 to 59"), (80, "60 to 79"), (1000, "80 and over"))
ATTRIBUTES = ("sex", "age", "view", "modality", "site")
GAP = "gap"
UNKNOWN = "unknown"


def analyse(
    scores: pa.Table,
    images: pa.Table,
    minimum: int,
    resamples: int,
    tick: Callable[[int, int], None] = lambda *_: None,
) -> list[dict[str, Any]]:
    """Rows of tables.SUBGROUPS. An attribute of which all images have one value is left out; so is the control task.

    The macro of a group is the mean over the labels that every scored group of the attribute has enough patients of,
    so that groups are compared on the same labels.
    """
    of_image = {a: dict(zip(images["image"].to_pylist(), _values(images, a), strict=True)) for a in ATTRIBUTES}
    jobs = [(t, a) for t in pc.unique(scores["task"]).to_pylist() if t != CONTROL for a in ATTRIBUTES]
    rows: list[dict[str, Any]] = []
    for done, (task, attribute) in enumerate(jobs, 1):
        part = scores.filter(pc.field("task") == task)
        part = part.filter(pc.field("method") == answers(pc.unique(part["method"]).to_pylist()))
        group = np.array([of_image[attribute][i] for i in part["image"].to_pylist()], object)
        if len(set(group) - {UNKNOWN}) > 1:
            rows += _of_attribute(part, task, attribute, group, minimum, resamples)
        tick(done, len(jobs))
    return rows


def _values(images: pa.Table, attribute: str) -> list[str]:
    values = images[attribute].to_pylist()
    if attribute == "age":
        return [UNKNOWN if v is None else next(name for below, name in AGES if v < below) for v in values]
    return [str(v)[:8] if v else UNKNOWN for v in values]


def _of_attribute(
    part: pa.Table, task: str, attribute: str, group: np.ndarray, minimum: int, resamples: int
) -> list[dict[str, Any]]:
    names = sorted(set(part["patient"].to_pylist()))
    code = np.searchsorted(names, part["patient"].to_pylist())
    columns = {
        c: part[c].to_numpy(zero_copy_only=False) for c in ("model", "label", "seed", "target", "score", "image")
    }
    groups = _ordered(attribute, set(group))
    labels = list(dict.fromkeys(columns["label"]))
    counts = {
        (g, label): _counts(columns, code, (group == g) & (columns["label"] == label))
        for g in groups
        for label in labels
    }
    enough = {key for key, n in counts.items() if n["smaller"] >= minimum}
    able = [g for g in groups if any((g, label) in enough for label in labels)]
    shared = [label for label in labels if able and all((g, label) in enough for g in able)]
    keep = {"task": task, "attribute": attribute}
    rows = []
    for model in dict.fromkeys(columns["model"]):
        drawn: dict[tuple[str, str], tuple[float, np.ndarray]] = {}
        mine = columns["model"] == model
        rankings = {
            key: _rankings(columns, code, mine & (group == key[0]) & (columns["label"] == key[1])) for key in enough
        }
        draws = _draw(rankings, len(names), resamples)
        for key, of_seed in rankings.items():
            drawn[key] = float(np.mean([r.value()[0] for r in of_seed])), draws[key]
        for g in able:
            if shared:
                both = [drawn[(g, label)] for label in shared]
                drawn[(g, MACRO)] = float(np.mean([v for v, _ in both])), np.mean([d for _, d in both], 0)
        for g in groups:
            total = _counts(columns, code, mine & (group == g))
            rows += [_row(keep, model, g, label, counts[(g, label)], drawn.get((g, label))) for label in labels]
            rows.append(_row(keep, model, g, MACRO, total, drawn.get((g, MACRO))))
        rows += _gaps(keep, model, able, [*labels, MACRO], drawn, rows)
    return rows


def _ordered(attribute: str, found: set[str]) -> list[str]:
    known = [name for _, name in AGES] if attribute == "age" else sorted(found - {UNKNOWN})
    return [name for name in [*known, UNKNOWN] if name in found]


def _counts(columns: dict[str, np.ndarray], code: np.ndarray, of: np.ndarray) -> dict[str, int]:
    positive = of & (columns["target"] == 1)
    by_class = [len(np.unique(code[of & (columns["target"] == value)])) for value in (0, 1)]
    return {
        "images": len(np.unique(columns["image"][of])),
        "patients": len(np.unique(code[of])),
        "positives": len(np.unique(code[positive])),
        "smaller": min(by_class),
    }


def _rankings(columns: dict[str, np.ndarray], code: np.ndarray, of: np.ndarray) -> list[stats.Ranking]:
    """One a seed."""
    places = [np.flatnonzero(of & (columns["seed"] == seed)) for seed in np.unique(columns["seed"])]
    return [stats.Ranking.of(columns["target"][p], columns["score"][p], code[p]) for p in places]


def _draw(
    rankings: dict[tuple[str, str], list[stats.Ranking]], patients: int, resamples: int
) -> dict[tuple[str, str], np.ndarray]:
    """AUROC draws [R] of every group and label, all under the same draws."""
    out = {key: np.empty(resamples) for key in rankings}
    seeds, done = max((len(r) for r in rankings.values()), default=1), 0
    for counts, taken in stats.draw_patients(patients, seeds, resamples):
        for seed in np.unique(taken):
            columns = np.flatnonzero(taken == seed)
            weights = np.ascontiguousarray(counts[:, columns])
            for key, of_seed in rankings.items():
                out[key][done + columns] = of_seed[seed].auroc(weights)
        done += len(taken)
    return out


def _row(
    keep: dict[str, str],
    model: str,
    group: str,
    label: str,
    counts: dict[str, int],
    drawn: tuple[float, np.ndarray] | None,
) -> dict[str, Any]:
    value, low, high = None, None, None
    if drawn is not None:
        value = drawn[0]
        low, high = stats.interval_of_share(value, drawn[1], counts["smaller"])
    names = keep | {"model": model, "group": group, "label": label}
    return names | {"value": value, "low": low, "high": high, **counts}


def _gaps(
    keep: dict[str, str],
    model: str,
    able: list[str],
    labels: list[str],
    drawn: dict[tuple[str, str], tuple[float, np.ndarray]],
    rows: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Best minus worst group: which two is chosen by the values, so the interval tells of these two alone."""
    out = []
    for label in labels:
        found = {g: drawn[(g, label)] for g in able if (g, label) in drawn and g != UNKNOWN}
        if len(found) < 2:
            continue
        best, worst = max(found, key=lambda g: found[g][0]), min(found, key=lambda g: found[g][0])
        pair = [r for r in rows if r["model"] == model and r["label"] == label and r["group"] in (best, worst)]
        pair = [r for r in pair if r["attribute"] == keep["attribute"]]
        counts = {key: sum(r[key] for r in pair) for key in ("images", "patients", "positives")}
        smaller = min(r["smaller"] for r in pair)
        low, high = stats.interval_of_gap(found[best][1] - found[worst][1], smaller)
        names = keep | {"model": model, "group": GAP, "label": label, "between": f"{best} and {worst}"}
        value = found[best][0] - found[worst][0]
        out.append(names | {"value": value, "low": low, "high": high, **counts, "smaller": smaller})
    return out
