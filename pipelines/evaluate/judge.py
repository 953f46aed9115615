"""From the Parquet files of an evaluation to its results, `result.json` and report: no model and no image is opened.

    python -m pipelines.evaluate FOLDER

does it again for a folder that stands. What the tables do not say (whose weights, which cohort) lies in `facts.json`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines import tables
from pipelines.contract import read_json
from pipelines.evaluate import answer, calibration, measured, measures, report, results, subgroups
from pipelines.evaluate.measured import Section
from pipelines.similarity import report as similarity

FACTS = "facts.json"
MADE = ("results", "subgroups")


def judge(root: Path, tick: Callable[[int, int], None] = lambda *_: None) -> dict[str, Any]:
    """Write results.parquet, subgroups.parquet and the report of a run folder; returns what `result.json` says."""
    facts = read_json(root / FACTS)
    scores = tables.read_table(root / "scores.parquet", tables.SCORES)
    found = tables.read_table(root / "measures.parquet", tables.MEASURES)
    images = tables.read_table(root / "images.parquet", tables.SCORED_IMAGES)
    pairs = [(c["model"], c["baseline"]) for c in facts["comparisons"]]
    resamples = facts["settings"]["resamples"]
    rows = results.analyse(scores, pairs, resamples, tick) + measures.analyse(found, pairs, resamples, tick)
    groups = subgroups.analyse(scores, images, facts["settings"]["minimum_positives"], resamples, tick)
    tables.write_table(root / "results.parquet", rows, tables.RESULTS)
    tables.write_table(root / "subgroups.parquet", groups, tables.SUBGROUPS)
    answering = results.answering(rows)
    result = _result(facts, answering) | {"calibration": calibration.by_model(scores)}
    report.write(root, rows, groups, result, _sections(answering, result, root))
    return result


def _sections(rows: list[dict[str, Any]], result: dict[str, Any], root: Path) -> list[Section]:
    """The parts of the report that measured tasks tell, and what tips of tubes look alike to."""
    names = [task for task in result["settings"]["tasks"] if task in measured.MODULES and task in result["tasks"]]
    told = [
        section
        for name in names
        for section in measured.open_task(name).sections([r for r in rows if r["task"] == name], result, root)
    ]
    return told + similarity.sections(result.get("similarity", []), root)


def _result(facts: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The facts with the answer, made from the rows that answer."""
    words = {(c["model"], c["baseline"]): c["words"] for c in facts["comparisons"]}
    said = answer.sentences(rows, facts["settings"]["tasks"], words)
    return {
        "answer": " ".join(said.values()) or answer.without_baseline(rows),
        **facts,
        "comparisons": [c | {"sentence": said[(c["model"], c["baseline"])]} for c in facts["comparisons"]],
        "tasks": answer.nested(rows),
        "answered_by": {row["task"]: row["method"] for row in rows},
        "differences": [row for row in rows if row["baseline"]],
        "verdicts": answer.verdicts(rows),
    }
