"""Parts of the report behind the headline: ways of reading features, calibration, subgroups."""

from __future__ import annotations

from typing import Any

from pipelines.evaluate import figures
from pipelines.evaluate.answer import with_interval
from pipelines.evaluate.line_plot import Axes, Series, line_plot
from pipelines.evaluate.methods import ATTENTIVE, FEW_SHOT, NEAREST, NEIGHBOURS
from pipelines.evaluate.results import MACRO
from pipelines.evaluate.subgroups import ATTRIBUTES, GAP
from pipelines.evaluate.tasks import LINEAR, TITLES, ZERO_SHOT

METHOD_WORDS = {
    LINEAR: "Linear probe, all train patients of a seed",
    NEIGHBOURS: f"{NEAREST} nearest neighbours",
    **{name: f"Linear probe, {share} % of train patients" for name, share in FEW_SHOT.items()},
    ATTENTIVE: "Attentive probe, on patch tokens",
    ZERO_SHOT: "Zero-shot, by text alone",
}
ATTRIBUTE_WORDS = {
    "sex": "Sex",
    "age": "Age in years",
    "view": "View",
    "modality": "Detector (CR or DX)",
    "site": "Site",
}


def methods(rows: list[dict[str, Any]], models: dict[str, Any]) -> list[dict[str, Any]]:
    """A part for each task that more than one method read: a table of macro AUROC and the few-shot curve."""
    macro = [r for r in rows if r["label"] == MACRO and r["metric"] == "auroc" and not r["baseline"] and r["method"]]
    parts = []
    for task in dict.fromkeys(r["task"] for r in macro):
        of_task = [r for r in macro if r["task"] == task]
        found = [m for m in METHOD_WORDS if any(r["method"] == m for r in of_task)]
        if len(found) < 2:
            continue
        values = {(r["method"], r["model"]): r for r in of_task}
        lines = []
        for method in found:
            first = next(r for r in of_task if r["method"] == method)
            cells = [with_interval(values[(method, m)]) if (method, m) in values else "no text tower" for m in models]
            counts = {key: f"{first[key]:,}" for key in ("images", "patients", "positives")}
            lines.append({"method": METHOD_WORDS[method], "cells": cells, **counts})
        parts.append(
            {"title": TITLES[task], "models": list(models), "rows": lines, "plot": _curve(task, values, models)}
        )
    return parts


def _curve(task: str, values: dict[tuple[str, str], dict[str, Any]], models: dict[str, Any]) -> dict[str, str] | None:
    """Macro AUROC over the share of train patients; None without few-shot probes."""
    shares = {**{name: float(share) for name, share in FEW_SHOT.items()}, LINEAR: 100.0}
    series = []
    for name, model in models.items():
        points = [(shares[m], values[(m, name)]) for m in shares if (m, name) in values]
        if len(points) > 1:
            drawn = [(x, r["value"], r["low"], r["high"]) for x, r in sorted(points, key=lambda p: p[0])]
            series.append(Series(name, figures.by_colour(model), model["role"] == "baseline", drawn))
    if not series:
        return None
    caption = (
        "Macro AUROC of linear probes that learn from a share of the train patients, with 95 % intervals. A label of "
        "which a share holds one class only counts as chance."
    )
    ticks = {x: f"{x:g} %" for x in sorted(shares.values())}
    axes = Axes(f"{TITLES[task]}: few-shot curve", caption, ticks, "share of train patients; macro AUROC", True)
    return {"svg": line_plot(axes, series), "caption": caption}


def calibration(found: list[dict[str, Any]], models: dict[str, Any]) -> list[dict[str, Any]]:
    """A part for each task: expected calibration error by label and model, and the reliability of all labels."""
    parts = []
    for task in dict.fromkeys(f["task"] for f in found):
        of_task = {f["model"]: f for f in found if f["task"] == task}
        names = [name for name in models if name in of_task]
        labels = list(of_task[names[0]]["labels"])
        lines = [
            {"label": n, "cells": [f"{of_task[m]['labels'][n]:.3f}" for m in names], "macro": False} for n in labels
        ]
        if len(labels) > 1:
            lines.append({"label": "Mean", "cells": [f"{of_task[m]['mean']:.3f}" for m in names], "macro": True})
        nan = float("nan")
        series = [
            Series(
                m,
                figures.by_colour(models[m]),
                models[m]["role"] == "baseline",
                [(x, y, nan, nan) for x, y in zip(of_task[m]["predicted"], of_task[m]["observed"], strict=True)],
            )
            for m in names
        ]
        caption = (
            "Mean predicted probability against the share of positives, in ten bins of equal numbers of images over "
            "all labels and seeds. On the dashed line probabilities are true."
        )
        ticks = {v / 5: f"{v / 5:.1f}" for v in range(6)}
        axes = Axes(
            f"{TITLES[task]}: reliability", caption, ticks, "predicted probability; share of positives", diagonal=True
        )
        plot = {"svg": line_plot(axes, series), "caption": caption}
        parts.append({"title": TITLES[task], "models": names, "rows": lines, "plot": plot})
    return parts


def subgroups(groups: list[dict[str, Any]], models: dict[str, Any]) -> list[dict[str, Any]]:
    """A part for each task and attribute: macro AUROC of every group and the gap."""
    parts = []
    macro = [g for g in groups if g["label"] == MACRO]
    for task, attribute in dict.fromkeys((g["task"], g["attribute"]) for g in macro):
        of_part = [g for g in macro if g["task"] == task and g["attribute"] == attribute]
        names = [name for name in models if any(g["model"] == name for g in of_part)]
        lines = []
        for group in dict.fromkeys(g["group"] for g in of_part):
            found = {g["model"]: g for g in of_part if g["group"] == group}
            first = next(iter(found.values()))
            counts = {key: f"{first[key]:,}" if group != GAP else "" for key in ("images", "patients", "positives")}
            name = "Gap, best minus worst" if group == GAP else group
            cells = [_group(found[m], group == GAP) if m in found else "–" for m in names]
            lines.append({"group": name, "gap": group == GAP, "cells": cells, **counts})
        parts.append({"title": f"{TITLES[task]}: {ATTRIBUTE_WORDS[attribute]}", "models": names, "rows": lines})
    return parts


def _group(row: dict[str, Any], gap: bool) -> str:
    if row["value"] is None:
        return "too few patients"
    shown = with_interval(row | {"baseline": gap or None})
    return f"{shown} ({row['between']})" if gap else shown


def not_split(groups: list[dict[str, Any]]) -> str:
    """Which attributes no subgroup could be made of."""
    found = {g["attribute"] for g in groups}
    missing = [ATTRIBUTE_WORDS[a].lower() for a in ATTRIBUTES if a not in found]
    said = "The scanner's maker and model do not stand in the cohort's index, so no subgroup is made of them."
    return f"{said} One value only, or none: {', '.join(missing)}." if missing else said
