"""Whether an evaluation allows a model to become the champion of a task: not shown to be worse than the one before.

Non-inferiority: the whole 95 % paired interval of the task's headline metric, macro over labels, must lie above minus
the margin. A difference that is not shown is no proof of equality, therefore the interval decides and not its p-value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ruling:
    """`reason` is a sentence for people. `difference` holds value, low and high of model minus champion."""

    allowed: bool
    reason: str
    difference: dict[str, float] | None = None


def rule(result: dict[str, Any], task: str, model: str, champion: str | None, margin: float) -> Ruling:
    """What `result.json` of an evaluation says of `model` against `champion`, both by the SHA-256 of their weights."""
    names = {m["weights_sha256"]: m["name"] for m in result["models"]}
    if model == champion:
        return Ruling(False, "This model is the champion already.")
    if model not in names:
        return Ruling(False, "The evaluation is of other models; choose one that it compares.")
    if names[model] not in result["tasks"].get(task, {}):
        return Ruling(False, "The evaluation could not score this task; it says why under 'Not scored'.")
    if result.get("answered_by", {}).get(task) == "zero-shot":
        return Ruling(
            False, "Zero-shot alone answered this task; evaluate on a cohort whose train split teaches its labels."
        )
    if result["protocol"] != "full":
        return Ruling(False, "The evaluation is below protocol; evaluate with at least 3 seeds.")
    if champion is None:
        return Ruling(True, "The first champion of this task: there was none to be compared with.")
    row = next(
        (
            v
            for v in result["verdicts"]
            if (v["task"], v["model"], v["baseline"]) == (task, names[model], names.get(champion))
        ),
        None,
    )
    if row is None:
        return Ruling(
            False, "The evaluation does not compare it with the champion; evaluate it with that as a baseline."
        )
    difference = {key: float(row[key]) for key in ("value", "low", "high")}
    said = f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}] in {row['metric']}"
    if difference["low"] > 0:
        return Ruling(True, f"Better than the champion: {said}.", difference)
    if difference["low"] > -margin:
        return Ruling(True, f"Not worse than the champion by {margin:g}: {said}.", difference)
    return Ruling(
        False, f"It may be worse than the champion by more than {margin:g}: {said}; the champion stays.", difference
    )
