"""The part of an evaluation's report that tells of written reports: values, comparisons, examples, what was not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, StrictUndefined

from pipelines.evaluate import measures
from pipelines.evaluate.answer import verdict, with_interval
from pipelines.evaluate.measured import Section
from pipelines.evaluate.report_words import p_value
from pipelines.evaluate.results import MACRO
from pipelines.evaluate.tasks import TITLES
from pipelines.reporting.metrics import FINDINGS, FIVE, REPORT, text_measures
from pipelines.reporting.wording import compared

TEMPLATE = Path(__file__).parent / "page.html.j2"
SYSTEMS = {"written": "written", "nearest": "nearest image", "template": "normal template"}
SIMPLE = ("nearest", "template")
# Metric, its label in tables.RESULTS and its title; a labeller's come four by four.
LABEL_METRICS = (
    ("", MACRO, "macro, {n} of 14"),
    ("_micro", REPORT, "micro, 14"),
    ("_5", MACRO, "macro, {five} of 5"),
    ("_micro_5", REPORT, "micro, 5"),
)
LABELLERS = {"label_f1": "F1 of findings by rules", "chexbert_f1": "F1 of findings by CheXbert"}
TEXT_METRICS = (("rouge_l", REPORT, "ROUGE-L"), ("bleu_4", REPORT, "BLEU-4, mean of studies"))


def section(
    rows: list[dict[str, Any]], result: dict[str, Any], notes: dict[str, Any], written: pa.Table, measured: pa.Table
) -> Section:
    """From rows of tables.RESULTS, what the task noted, its texts and tables.MEASURES."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    models = [m["name"] for m in result["models"] if m["name"] in notes["training"]]
    context = {
        "tables": _tables(rows, notes, models),
        "beats": _beats(measured, models, result["settings"]["resamples"]),
        "findings": _by_finding(rows, notes, models),
        "models": models,
        "examples": _examples(written, models, notes["settings"]["examples"]),
        "template": notes["template"],
        "studies": notes["studies"],
        "settings": notes["settings"],
        "given": notes["language_model"],
        "steps": {model: ", ".join(str(t["best_step"]) for t in of) for model, of in notes["training"].items()},
        "seeds": min(len(of) for of in notes["training"].values()),
        "minimum": result["settings"]["minimum_positives"],
        "not_run": notes["not_run"],
    }
    return Section(TITLES["reports"], template.render(context))


def _systems(models: list[str]) -> list[tuple[str, str, str]]:
    """(model, system, name); the template is the same for every model and stands once."""
    both = [(m, s, f"{m}, {SYSTEMS[s]}") for m in models for s in ("written", "nearest")]
    return [*both, (models[0], "template", SYSTEMS["template"])]


def _prefix(system: str) -> str:
    return "" if system == "written" else f"{system}:"


def _tables(rows: list[dict[str, Any]], notes: dict[str, Any], models: list[str]) -> list[dict[str, Any]]:
    """A table for each labeller, then one of wording: a line for each system."""
    own = {(r["model"], r["metric"], r["label"]): r for r in rows if not r["baseline"]}

    def line(model: str, system: str, name: str, columns: list[tuple[str, str]], more: list[str]) -> dict[str, Any]:
        found = [own.get((model, _prefix(system) + metric, label)) for metric, label in columns]
        return {"name": name, "cells": [with_interval(r) if r else "–" for r in found] + more}

    out = []
    for kind, title in LABELLERS.items():
        if kind in notes["scored"]:
            columns = [(kind + suffix, label) for suffix, label, _ in LABEL_METRICS]
            heads = [
                head.format(n=len(notes["scored"][kind]), five=len(set(FIVE) & set(notes["scored"][kind])))
                for _, _, head in LABEL_METRICS
            ]
            lines = [line(*system, columns, []) for system in _systems(models)]
            out.append({"title": title, "heads": heads, "lines": lines})
    columns = [(metric, label) for metric, label, _ in TEXT_METRICS]
    lines = [line(*s, columns, [f"{notes['corpus_bleu'][s[0]][s[1]]:.3f}"]) for s in _systems(models)]
    heads = [*(title for _, _, title in TEXT_METRICS), "BLEU-4, corpus"]
    return [*out, {"title": "Wording", "heads": heads, "lines": lines}]


def _beats(measured: pa.Table, models: list[str], resamples: int) -> list[dict[str, str]]:
    """Paired differences of what a model wrote and the two simple systems, under the same draws as all else."""
    metrics = {
        f"{_prefix(system)}{metric}": (system, metric) for system in SYSTEMS for metric in ("label_f1", "rouge_l")
    }
    part = measured.filter(pc.is_in(measured["metric"], pa.array(list(metrics))))
    if not len(part):
        return []
    # Each system becomes a model of its own, so that the one mechanism of paired differences compares them.
    names = [
        f"{metrics[k][0]}\n{m}" for m, k in zip(part["model"].to_pylist(), part["metric"].to_pylist(), strict=True)
    ]
    part = part.set_column(0, "model", pa.array(names))
    part = part.set_column(4, "metric", pa.array([metrics[k][1] for k in part["metric"].to_pylist()]))
    pairs = [(f"written\n{m}", f"{system}\n{m}") for m in models for system in SIMPLE]
    words = {"label_f1": "macro label F1", "rouge_l": "ROUGE-L"}
    return [
        {
            "model": row["model"].split("\n", 1)[1],
            "against": SYSTEMS[row["baseline"].split("\n", 1)[0]],
            "metric": words[row["metric"]],
            "value": with_interval(row),
            "p": p_value(row["p"]),
            "verdict": verdict(row),
        }
        for row in measures.analyse(part, pairs, resamples)
        if row["baseline"] and row["label"] == MACRO
    ]


def _by_finding(rows: list[dict[str, Any]], notes: dict[str, Any], models: list[str]) -> list[dict[str, Any]]:
    own = {(r["model"], r["label"]): r for r in rows if not r["baseline"] and r["metric"] == "label_f1"}
    scored = notes["scored"].get("label_f1", {})
    return [
        {"name": f, "patients": scored[f], "cells": [with_interval(own[m, f]) for m in models]}
        for f in FINDINGS
        if f in scored
    ]


def _examples(written: pa.Table, models: list[str], count: int) -> list[dict[str, Any]]:
    """Studies from the worst to the best that the first model wrote (ROUGE-L), evenly between, of the first seed."""
    seed = min(s for s in written["seed"].to_pylist() if s >= 0)
    rows = [r for r in written.to_pylist() if r["seed"] in (-1, seed)]
    texts = {(r["model"], r["system"], r["image"]): r["text"] for r in rows}
    images = [r["image"] for r in rows if r["system"] == "radiologist"]
    references = [texts["", "radiologist", i] for i in images]
    scores = text_measures(references, [texts[models[0], "written", i] for i in images])[0].numerator
    order = np.argsort(scores, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))]
    out = []
    for place in chosen if count else []:
        reference, image = references[place], images[place]
        lines = []
        for model in models:
            said = texts[model, "written", image]
            lines.append({"name": f"{model}, written", "runs": compared(said, reference)})
        lines.append(
            {"name": f"{models[0]}, nearest image", "runs": compared(texts[models[0], "nearest", image], reference)}
        )
        first = compared(reference, texts[models[0], "written", image])
        out.append({"score": f"{scores[place]:.2f}", "reference": first, "lines": lines})
    return out
