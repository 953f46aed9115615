"""The report's part on segmentation: measures by structure and model, differences, overlays, how it was measured."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from pipelines.contract import read_json
from pipelines.evaluate.answer import conjunction, number, with_interval
from pipelines.evaluate.measured import Section
from pipelines.evaluate.report_words import p_value
from pipelines.evaluate.results import MACRO
from pipelines.segmentation.outputs import FOLDER

TEMPLATE = Path(__file__).with_name("report.html.j2")
HEADS = {"upernet": "UPerNet head", "linear": "linear head"}
WORDS = {
    "dice": "Dice",
    "iou": "IoU",
    "cldice": "clDice",
    "centreline_recall": "Line found",
    "centreline_precision": "Line right",
    "tip_found": "Tip found",
    "tip_distance": "Tip off by",
    "empty_kept": "Empty kept",
}
CASES = {"typical": "the test image of median Dice", "worst": "the test image of least Dice"}
Rows = list[dict[str, Any]]


def sections(rows: Rows, result: dict[str, Any], root: Path) -> list[Section]:
    """One section, from this task's rows of tables.RESULTS and what `outputs` left."""
    facts = read_json(root / FOLDER / "facts.json")
    models = [m["name"] for m in result["models"]]
    shares = [f"{s['label']} {100 * s['inside']:.0f} %" for s in facts["structures"] if math.isfinite(s["inside"])]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        structures=conjunction([s["label"] for s in facts["structures"]]),
        tables=[_table(rows, models, head, "" if i == 0 else f"{head}_") for i, head in enumerate(facts["heads"])],
        differences=_differences(rows),
        cases=[_case(case, root / FOLDER) for case in facts["cases"]],
        inside=", ".join(shares),
        lines=any(s["line"] for s in facts["structures"]),
        words=WORDS,
        facts=facts,
    )
    return [Section("Segmentation", html)]


def _table(rows: Rows, models: list[str], head: str, prefix: str) -> dict[str, Any]:
    """Measures of one head: a row for each structure and model, the mean last."""
    values = {(r["label"], r["model"], r["metric"]): r for r in rows if not r["baseline"]}
    metrics = [m for m in WORDS if any(key[2] == prefix + m for key in values)]
    labels = [label for label in dict.fromkeys(key[0] for key in values) if label != MACRO]
    body = []
    for label in [*labels, MACRO] if len(labels) > 1 else labels:
        for i, model in enumerate(models):
            own = {m: values.get((label, model, prefix + m)) for m in metrics}
            dice = own.get("dice")
            body.append(
                {
                    "label": "" if i else "Mean" if label == MACRO else label,
                    "macro": label == MACRO,
                    "model": model,
                    "cells": [_cell(row, metric) for metric, row in own.items()],
                    "count": f"{dice['images']:,} / {dice['patients']:,}" if dice else "",
                }
            )
    return {"head": HEADS[head], "metrics": [WORDS[m] for m in metrics], "rows": body}


def _cell(row: dict[str, Any] | None, metric: str) -> str:
    """Dice and clDice with their interval, the others as a value."""
    if row is None or not math.isfinite(row["value"]):
        return "–"
    if metric == "tip_distance":
        return f"{row['value']:.0f} mm"
    return with_interval(row) if metric in ("dice", "cldice") else number(row["value"], 1)


def _differences(rows: Rows) -> Rows:
    """Differences in Dice of the first head to each baseline, by structure."""
    return [
        {name: r[name] for name in ("label", "model", "baseline")} | {"value": with_interval(r), "p": p_value(r["p"])}
        for r in rows
        if r["baseline"] and r["metric"] == "dice" and r["label"] != MACRO
    ]


def _case(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One test image with a picture for each model."""
    pictures = [
        {
            "model": file["model"],
            "dice": f"{file['dice']:.2f}",
            "data": base64.b64encode((folder / file["path"]).read_bytes()).decode(),
        }
        for file in case["files"]
    ]
    return {"words": f"{case['label']}: {CASES[case['word']]}", "pictures": pictures}
