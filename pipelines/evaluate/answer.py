"""The answer in words, computed from the results: which model is better than which baseline, on what."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from pipelines.evaluate.results import MACRO
from pipelines.evaluate.tasks import CONTROL, headline

TASK_WORDS = {
    "findings": "findings",
    "lines": "lines and tubes",
    CONTROL: "view",
    "segmentation": "segmentation",
    "reports": "report generation",
}
METRIC_WORDS = {"auroc": "AUROC", "auprc": "AUPRC", "dice": "Dice", "label_f1": "label F1"}


def number(value: float, width: float, signed: bool = False) -> str:
    """A metric with no more digits than an interval of this width supports, with a true minus sign."""
    digits = 3 if width < 0.06 else 2
    if not math.isfinite(value):
        return "–"
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", "−")


def with_interval(row: dict[str, Any]) -> str:
    """`0.87 [0.82, 0.91]`; differences with sign."""
    width, signed = row["high"] - row["low"], bool(row["baseline"])
    low, high = (number(row[key], width, signed) for key in ("low", "high"))
    return f"{number(row['value'], width, signed)} [{low}, {high}]"


def verdict(row: dict[str, Any]) -> str:
    """`better` or `worse` when the whole interval of a paired difference lies on one side of zero."""
    return "better" if row["low"] > 0 else "worse" if row["high"] < 0 else "not shown"


def verdicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The macro difference of every model, baseline and task in the task's headline metric, with its verdict."""
    return [
        {**row, "verdict": verdict(row)}
        for row in rows
        if row["baseline"] and row["label"] == MACRO and row["metric"] == headline(row["task"])
    ]


def sentences(
    rows: list[dict[str, Any]], tasks: Iterable[str], phrases: dict[tuple[str, str], str]
) -> dict[tuple[str, str], str]:
    """One sentence for each comparison; `phrases`: (model, baseline) -> what to call the baseline."""
    by_pair: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in verdicts(rows):
        by_pair[(row["model"], row["baseline"])].append(row)
    return {pair: _of_pair(pair[0], phrase, by_pair[pair], tasks) for pair, phrase in phrases.items()}


def _of_pair(model: str, baseline: str, rows: list[dict[str, Any]], tasks: Iterable[str]) -> str:
    """What matters to patients first: the control says its verdict last, whatever it is."""
    clinical = [row for row in rows if row["task"] != CONTROL]
    clauses = _verdict_clauses(baseline, clinical or rows)
    missing = [TASK_WORDS[task] for task in tasks if task not in {row["task"] for row in rows}]
    if missing:
        clauses.append(f"{conjunction(missing)} could not be scored")
    if clinical:
        said = {"better": "it is better", "worse": "it is worse", "not shown": "a difference is not shown"}
        controls = [row for row in rows if row["task"] == CONTROL]
        clauses += [f"on the control task, view, {said[row['verdict']]} ({with_interval(row)})" for row in controls]
    return f"{model} {'; '.join(clauses)}."


def _verdict_clauses(baseline: str, rows: list[dict[str, Any]]) -> list[str]:
    said: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        said[row["verdict"]].append(f"{TASK_WORDS[row['task']]} ({with_interval(row)})")
    clauses = [f"is {word} than {baseline} on {conjunction(said[word])}" for word in ("better", "worse") if said[word]]
    if said["not shown"]:
        phrase = "a difference is not shown on" if clauses else f"is not shown to differ from {baseline} on"
        clauses.append(f"{phrase} {conjunction(said['not shown'])}")
    return clauses


def without_baseline(rows: list[dict[str, Any]]) -> str:
    """The answer where nothing was compared: each model's own macro of the headline metric."""
    by_model: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if not row["baseline"] and row["label"] == MACRO and row["metric"] == headline(row["task"]):
            words = METRIC_WORDS[row["metric"]]
            by_model[row["model"]].append(f"a macro {words} of {with_interval(row)} on {TASK_WORDS[row['task']]}")
    values = "; ".join(f"{model} reaches {conjunction(said)}" for model, said in by_model.items())
    return f"Nothing was compared, because no baseline was given. {values}."


def conjunction(words: list[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def nested(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """task -> model -> label -> metric -> value, low, high and counts, for `result.json`."""
    out: dict[str, Any] = {}
    for row in rows:
        if row["baseline"]:
            continue
        label = out.setdefault(row["task"], {}).setdefault(row["model"], {}).setdefault(row["label"], {})
        label |= {key: row[key] for key in ("images", "patients", "positives")}
        label[row["metric"]] = {key: row[key] for key in ("value", "low", "high")}
    return out
