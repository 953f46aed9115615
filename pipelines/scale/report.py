"""`report.html` of a scaling study: from which N on, by how much, how sure; then the curves and their laws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from pipelines.contract import write_atomic
from pipelines.evaluate import looks
from pipelines.evaluate.answer import METRIC_WORDS, TASK_WORDS, conjunction, number
from pipelines.evaluate.report import stylesheet
from pipelines.evaluate.tasks import TITLES
from pipelines.scale.figures import curve_plot
from pipelines.scale.hours import words

FOLDER = Path(__file__).parent
READ = {
    "segmentation": "Segmentation: a head learns outlines from patch features. Dice is the mean over images that have "
    "the structure, the macro that over structures.",
    "reports": "Report generation: a writer learns from patch features. F1 is that of the findings which the labelling "
    "rules read in both texts, the macro that over findings.",
}
"""Tasks that are no probe, as an evaluation measures them."""


def write(path: Path, result: dict[str, Any]) -> None:
    """Write the report atomically."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((FOLDER / "report.html.j2").read_text(encoding="utf-8"))
    write_atomic(path, template.render(context(result) | {"css": stylesheet()}))


def answer(curves: list[dict[str, Any]]) -> str:
    """The break-even of every encoder and task, in sentences."""
    said = []
    for encoder in dict.fromkeys(c["encoder"] for c in curves):
        own = [c for c in curves if c["encoder"] == encoder]
        reached = [c for c in own if c["break_even"]]
        clauses = [
            f"from {c['break_even']:,} samples on it beats {c['baseline']} on {TASK_WORDS[c['task']]}" for c in reached
        ]
        missing = [TASK_WORDS[c["task"]] for c in own if not c["break_even"]]
        if missing:
            clauses.append(f"break-even is not reached on {conjunction(missing)}")
        said.append(f"{encoder}: {'; '.join(clauses)}.")
    return " ".join(said)


def context(result: dict[str, Any]) -> dict[str, Any]:
    """Everything the template prints, as text."""
    costs = {g["encoder"]: g["doubling_cost"] for g in result["groups"]}
    return {
        "answer": [answer([c for c in result["curves"] if c["encoder"] == g["encoder"]]) for g in result["groups"]],
        "practice": result["practice"],
        "below": _below(result) if result["protocol"] == "below" else "",
        "test": result["cohort"]["splits"]["test"],
        "curves": [_curve(c, costs[c["encoder"]]) for c in result["curves"]],
        "groups": [_group(g) for g in result["groups"]],
        "not_scored": [n | {"task": TITLES[n["task"]]} for n in result["not_scored"]],
        "settings": result["settings"],
        "read": [READ[task] for task in dict.fromkeys(c["task"] for c in result["curves"]) if task in READ],
        "digest": result["cohort"]["digest"],
        "looks": looks.in_words(result["looks"]),
        "left_out": [name for g in result["groups"] for name in g["left_out"]],
    }


def _below(result: dict[str, Any]) -> str:
    runs = min(len(g["seeds"]) for g in result["groups"])
    probes = len(set(result["settings"]["seeds"]))
    return f"{runs} seeds of pretraining and {probes} of the probe; the protocol asks for at least 3 of each."


def _group(group: dict[str, Any]) -> dict[str, str]:
    return {
        "encoder": group["encoder"],
        "sizes": ", ".join(f"{n:,}" for n in group["sizes"]),
        "seeds": ", ".join(map(str, group["seeds"])),
        "budget": f"{group['budget']:,}",
        "baselines": "; ".join(conjunction(names) for names in group["baselines"]),
    }


def _curve(curve: dict[str, Any], cost: dict[str, Any] | None) -> dict[str, Any]:
    title = f"{TITLES[curve['task']]}: {curve['encoder']}"
    verdict = (
        f"Break-even at {curve['break_even']:,} samples against {curve['baseline']}: the paired interval lies above "
        "zero there and at every larger size that was run."
        if curve["break_even"]
        else f"Break-even against {curve['baseline']} is not reached at the sizes that were run."
    )
    return {
        "title": title,
        "verdict": verdict,
        "svg": curve_plot(title, verdict, curve),
        "rows": [_row(p) for p in curve["points"]],
        "metric": METRIC_WORDS[curve["metric"]],
        "level": f"{100 * curve['break_even_level']:.1f}",
        "law": _law(curve["law"], METRIC_WORDS[curve["metric"]], cost),
    }


def _row(point: dict[str, Any]) -> dict[str, str]:
    width = point["difference_high"] - point["difference_low"]
    low, high = (number(point[f"difference_{end}"], width, signed=True) for end in ("low", "high"))
    return {
        "samples": f"{point['samples']:,}",
        "value": _interval(point),
        "difference": f"{number(point['difference'], width, signed=True)} [{low}, {high}]",
        "seeds": ", ".join(number(v, 0.01) for v in point["seeds"]),
    }


def _interval(row: dict[str, float], signed: bool = False) -> str:
    width = row["high"] - row["low"]
    value, low, high = (number(row[key], width, signed) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _law(law: dict[str, Any], metric: str, cost: dict[str, Any] | None) -> dict[str, Any]:
    """The law in words: what can be told, and plainly when nothing can."""
    if not law["forms"]:
        return {"said": f"The curve is not identified: {law['reason']}.", "forms": [], "next": ""}
    said = f"Of the two forms, {law['because']}."
    if not law["identified"]:
        said = f"The curve is not identified: {law['reason']}. {said}"
    names = {"offset": "a N^−b + c", "power": "a N^−b"}
    forms = [
        {
            "name": names[name],
            "preferred": name == law["preferred"],
            "a": f"{f['a']:.3g}",
            "b": f"{f['b']['value']:.2f} [{f['b']['low']:.2f}, {f['b']['high']:.2f}]",
            "c": f"{f['c']['value']:.3f} [{f['c']['low']:.3f}, {f['c']['high']:.3f}]" if name == "offset" else "0",
        }
        for name, f in law["forms"].items()
    ]
    doubling = law["doubling"]
    gain = (
        f"The next doubling, to {doubling['samples']:,} samples, would bring {_interval(doubling, signed=True)} of "
        f"macro {metric} at the same compute"
        + ("." if law["identified"] else "; with a curve that is not identified this is a guess.")
    )
    price = f" It would take {words(cost)}." if cost else " What it would take is not known: no run has told its speed."
    return {"said": said, "forms": forms, "next": gain + price}
