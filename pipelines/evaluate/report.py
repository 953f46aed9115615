"""`report.html`: the answer first, then tables and figures, lineage, method and limits; one file, nothing from outside.

It is drawn from the rows of results.parquet and subgroups.parquet and from `result.json`, all of which follow from
scores.parquet. `report.pdf` is the same page for printing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from pipelines.contract import write_atomic
from pipelines.evaluate import figures, pdf, report_parts, report_words, results
from pipelines.evaluate.answer import METRIC_WORDS, conjunction, with_interval
from pipelines.evaluate.figures import Group, Line
from pipelines.evaluate.measured import Section
from pipelines.evaluate.results import MACRO
from pipelines.evaluate.stats import SPECIFICITY
from pipelines.evaluate.tasks import PROBED, TITLES, headline

FOLDER = Path(__file__).parent
HEADLINE = "auroc"  # of probes
METRIC_TITLES = {
    "auroc": "AUROC [95 % interval]",
    "auprc": "AUPRC [95 % interval]",
    "sensitivity": f"Sensitivity at a specificity of {SPECIFICITY:.0%} [95 % interval]",
    "brier": "Brier score, smaller is better [95 % interval]",
}
FEW_POSITIVES = 30


Rows = list[dict[str, Any]]


def write(root: Path, rows: Rows, groups: Rows, result: dict[str, Any], sections: Sequence[Section] = ()) -> None:
    """Write report.html and report.pdf atomically."""
    page = render(rows, groups, result, sections)
    write_atomic(root / "report.html", page)
    pdf.write(root / "report.pdf", page)


def render(rows: Rows, groups: Rows, result: dict[str, Any], sections: Sequence[Section] = ()) -> str:
    """HTML from rows of tables.RESULTS and tables.SUBGROUPS, `result.json` and the parts of measured tasks."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((FOLDER / "report.html.j2").read_text(encoding="utf-8"))
    models = {m["name"]: m for m in result["models"]}
    parts = {
        "methods": report_parts.methods(rows, models),
        "calibration": report_parts.calibration(result["calibration"], models),
        "subgroups": report_parts.subgroups(groups, models),
        "not_split": report_parts.not_split(groups),
        "attentive": "attentive" in result["settings"]["methods"],
        "css": stylesheet(),
        "sections": sections,
    }
    return template.render(context(results.answering(rows), result) | parts)


def stylesheet() -> Markup:
    """The style of every report, without its comments."""
    text = (FOLDER / "report.css").read_text(encoding="utf-8")
    return Markup(re.sub(r"/\*.*?\*/\n?", "", text, flags=re.S))  # noqa: S704 - our own file, beside this one


def context(rows: list[dict[str, Any]], result: dict[str, Any]) -> dict[str, Any]:
    """Everything the template prints, as text."""
    models = {m["name"]: m for m in result["models"]}
    words = {(c["model"], c["baseline"]): c["words"] for c in result["comparisons"]}
    tasks = [task for task in dict.fromkeys(row["task"] for row in rows) if task in PROBED]
    probed = [row for row in rows if row["task"] in PROBED]
    few = sorted({r["label"] for r in _labels(probed) if r["positives"] < FEW_POSITIVES})
    return {
        "title": conjunction([m["name"] for m in result["models"] if m["role"] == "model"]),
        "answer": [_unbroken(s) for s in [c["sentence"] for c in result["comparisons"]] or [result["answer"]]],
        "practice": report_words.practice(result) if result["practice"] else "",
        "below": report_words.below(result) if result["protocol"] == "below" else "",
        "sure": report_words.sure(result),
        "small": report_words.small(len(few), len({r["label"] for r in _labels(probed)}), FEW_POSITIVES),
        "differences": [_comparison(pair, phrase, rows, result["verdicts"]) for pair, phrase in words.items()],
        "overview": _overview(rows, tasks, models) if tasks else None,
        "tasks": [_task(task, rows, result, models, words) for task in tasks],
        "not_scored": [n | {"task": TITLES[n["task"]]} for n in result["not_scored"]],
        "models": [report_words.lineage(m, models) | {"colour": figures.by_colour(m)} for m in models.values()],
        "lineage_notes": report_words.lineage_notes(list(models.values())),
        "method": report_words.method(result),
        "grouped": report_words.subgroups(result),
        "limits": report_words.limits(result),
        "cohort": report_words.cohort(result),
    }


def _labels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r for r in rows if r["label"] != MACRO]


def _unbroken(text: str) -> str:
    """Keeps a value and its interval on one line."""
    return re.sub(r"([\d.]+) \[(\S+), (\S+)\]", "\\1\u00a0[\\2,\u00a0\\3]", text)


def _pick(rows: list[dict[str, Any]], **wanted: Any) -> Iterator[dict[str, Any]]:
    return (row for row in rows if all(row[key] == value for key, value in wanted.items()))


def _comparison(
    pair: tuple[str, str], words: str, rows: list[dict[str, Any]], verdicts: list[dict[str, Any]]
) -> dict[str, Any]:
    """The macro differences of one comparison, a line for each task."""
    same = {"model": pair[0], "baseline": pair[1]}
    lines = [
        {
            "task": TITLES[row["task"]],
            "metric": METRIC_WORDS[row["metric"]],
            "value": with_interval(row),
            "p": report_words.p_value(row["p"]),
            "verdict": row["verdict"],
            "labels": len(_labels(list(_pick(rows, **same, task=row["task"], metric=headline(row["task"]))))),
            "images": f"{row['images']:,}",
            "patients": f"{row['patients']:,}",
        }
        for row in _pick(verdicts, **same)
    ]
    return {"title": f"{pair[0]} against {words}", "rows": lines}


def _overview(rows: list[dict[str, Any]], tasks: list[str], models: dict[str, Any]) -> dict[str, str]:
    """Macro AUROC of every model on every task."""
    groups, said = [], []
    for task in tasks:
        found = list(_pick(rows, task=task, label=MACRO, metric=HEADLINE, baseline=None))
        groups.append(Group(TITLES[task], [_point(r, r["model"], models[r["model"]]) for r in found]))
        said.append(f"{TITLES[task]}: " + "; ".join(f"{r['model']} {with_interval(r)}" for r in found) + ".")
    caption = "Macro AUROC with 95 % intervals: the mean over the labels of a task. Baselines are hollow."
    plot = figures.Plot(
        "Macro AUROC by task and model",
        f"{caption} {' '.join(said)}",
        axis="macro AUROC",
        mark=0.5,
        mark_words="chance",
        reach=(0.5, 0.6),
        bounds=(0.0, 1.0),
        heads=("macro AUROC",),
    )
    return {"svg": figures.interval_plot(plot, groups), "caption": caption}


def _point(row: dict[str, Any], name: str, model: dict[str, Any], strong: bool = False) -> Line:
    words = [with_interval(row)] + ([report_words.p_value(row["p"])] if row["baseline"] else [])
    return Line(
        name,
        row["value"],
        row["low"],
        row["high"],
        words,
        figures.by_colour(model),
        hollow=model["role"] == "baseline",
        strong=strong,
    )


def _task(
    task: str,
    rows: list[dict[str, Any]],
    result: dict[str, Any],
    models: dict[str, Any],
    words: dict[tuple[str, str], str],
) -> dict[str, Any]:
    of_task = list(_pick(rows, task=task))
    compared = [pair for pair in words if any(_pick(of_task, model=pair[0], baseline=pair[1]))]
    plots = [_forest(task, of_task, pair, words[pair], models[pair[0]]) for pair in compared]
    tables = [_table(of_task, metric, models) for metric in METRIC_TITLES]
    few = any(r["positives"] < FEW_POSITIVES for r in _labels(of_task))
    footnote = f"† fewer than {FEW_POSITIVES} positive test patients." if few else ""
    return {
        "title": TITLES[task],
        "about": report_words.about(task, result),
        "plots": plots,
        "tables": tables,
        "footnote": footnote,
    }


def _forest(
    task: str, rows: list[dict[str, Any]], pair: tuple[str, str], words: str, model: dict[str, Any]
) -> dict[str, str]:
    """Paired AUROC differences of one comparison, label by label, the macro below."""
    found = list(_pick(rows, model=pair[0], baseline=pair[1], metric=HEADLINE))
    labels = _labels(found)
    lines = [_point(r, _dagger(r), model) for r in labels]
    macro = [r for r in found if r["label"] == MACRO]
    groups = [Group("", lines)]
    if len(labels) > 1:
        groups.append(Group("", [_point(r, "Macro", model, strong=True) for r in macro]))
    clear = [r["label"] for r in labels if r["low"] > 0 or r["high"] < 0]
    adjusted = [r["label"] for r in labels if r["p"] < 0.05]
    caption = (
        f"AUROC of {pair[0]} minus that of {words}, 95 % paired intervals; right of zero favours {pair[0]}. "
        f"{report_words.forest(macro[0], len(labels), clear, adjusted)}"
    )
    said = " ".join(f"{line.name}: {line.words[0]}." for group in groups for line in group.lines)
    plot = figures.Plot(
        f"{TITLES[task]}: {pair[0]} against {words}",
        f"{caption} {said}",
        axis="difference in AUROC",
        mark=0.0,
        mark_words="no difference",
        reach=(-0.05, 0.05),
        bounds=(-1.0, 1.0),
        heads=("difference", "p"),
        signed=True,
    )
    title = f"{pair[0]} against {words}"
    return {"svg": figures.interval_plot(plot, groups), "caption": caption, "title": title}


def _dagger(row: dict[str, Any]) -> str:
    name = "AP against PA" if row["task"] == "view" else row["label"]
    return f"{name} †" if row["positives"] < FEW_POSITIVES else name


def _table(rows: list[dict[str, Any]], metric: str, models: dict[str, Any]) -> dict[str, Any]:
    """Values of one metric: a line for each label, a column for each model."""
    names = [name for name in models if any(True for _ in _pick(rows, model=name, metric=metric, baseline=None))]
    labels = list(dict.fromkeys(r["label"] for r in rows))
    if len(labels) == 2:  # one label: the macro would say the same twice
        labels.remove(MACRO)
    lines = []
    for label in labels:
        found = {r["model"]: r for r in _pick(rows, label=label, metric=metric, baseline=None)}
        first = found[names[0]]
        lines.append(
            {
                "label": "Macro" if label == MACRO else _dagger(first),
                "macro": label == MACRO,
                "cells": [with_interval(found[name]) for name in names],
                "images": f"{first['images']:,}",
                "patients": f"{first['patients']:,}",
                "positives": f"{first['positives']:,}" if label != MACRO else "",
            }
        )
    return {"title": METRIC_TITLES[metric], "models": names, "rows": lines}
