"""Stage `scale`: judge the runs of a scaling study together, fit the law, find the break-even, write the report.

The runs themselves are `pretrain` stages that stand already; whoever plans them (`pipelines.scale.plan`) may add sizes
later, and features and scores that stand in the store are not made again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import tables
from pipelines.contract import BadInput, RunFolder, read_json
from pipelines.evaluate import results
from pipelines.evaluate.models import Model
from pipelines.evaluate.results import MACRO, Measured
from pipelines.evaluate.run import Bench, prepare, refuse_nothing
from pipelines.evaluate.scoring import score_all
from pipelines.evaluate.stats import auroc
from pipelines.scale import report
from pipelines.scale.breakeven import break_evens
from pipelines.scale.curves import TaskCurve, describe, task_curve
from pipelines.scale.groups import Group, group
from pipelines.scale.hours import Speed
from pipelines.scale.spec import Spec

FULL_PROTOCOL_SEEDS = 3


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """See the module. BadInput when the runs cannot be compared."""
    bench = prepare(spec)
    refuse_nothing(bench, spec, ())
    groups = group(bench.contest)
    nothing = [g.encoder for g in groups if not g.baselines]
    if nothing:
        raise BadInput(f"{nothing[0]} has nothing to be compared with; give its open weights as a baseline.")
    scores = score_all(spec, run, bench, bench.contest.all)
    tables.write_table(run.root / "scores.parquet", scores, tables.SCORES)
    run.artifact("scores", run.root / "scores.parquet")
    validation = score_all(
        spec, run, bench, [m for g in groups for models in g.baselines for m in models], "validation"
    )
    measured, rows = _measure(spec, run, scores)
    tables.write_table(run.root / "results.parquet", rows, tables.RESULTS)
    run.artifact("results", run.root / "results.parquet")
    found = [c for g in groups for c in _curves(g, measured, validation, spec.alpha)]
    result = _result(spec, bench, groups, found)
    report.write(run.root / "report.html", result)
    run.artifact("report", run.root / "report.html")
    return result


def _measure(
    spec: Spec, run: RunFolder, scores: pa.Table
) -> tuple[dict[str, dict[str, dict[str, Measured]]], list[dict[str, Any]]]:
    """Task -> model -> label -> value and draws, and the rows of results.parquet."""

    def tick(done: int, total: int) -> None:
        run.check_stop()
        run.progress(done, total, "bootstrap draws")

    measured, rows = {}, []
    for task in pc.unique(scores["task"]).to_pylist():
        part = scores.filter(pc.field("task") == task)
        labels, patients = results.rank(part)
        measured[task] = results.bootstrap(labels, patients, len(pc.unique(part["seed"])), spec.resamples, tick)
        rows += results.values(task, measured[task], results.count(part, labels))
    return measured, rows


def _curves(
    of: Group, measured: dict[str, dict[str, dict[str, Measured]]], validation: pa.Table, alpha: float
) -> list[dict[str, Any]]:
    """Every task of an encoder; tasks share the error rate."""
    curves: dict[str, TaskCurve] = {}
    for state, (task, by_model) in enumerate(measured.items()):
        baseline = max(of.baselines, key=lambda models: _on_validation(validation, task, models))
        curves[task] = task_curve(of, task, by_model, baseline, state)
    reached = break_evens({task: c.difference for task, c in curves.items()}, alpha)
    return [describe(curve, reached[task]) for task, curve in curves.items()]


def _on_validation(scores: pa.Table, task: str, models: list[Model]) -> float:
    """Macro AUROC on validation, by which the baseline to beat is chosen before the test split is looked at."""
    names = pa.array([m.name for m in models])
    part = scores.filter((pc.field("task") == task) & pc.field("model").isin(names))
    groups = part.group_by(["model", "label", "seed"]).aggregate([("target", "list"), ("score", "list")])
    areas = [
        auroc(np.asarray(row["target_list"]), np.asarray(row["score_list"]))
        for row in groups.to_pylist()
        if 0 < sum(row["target_list"]) < len(row["target_list"])
    ]
    return float(np.mean(areas)) if areas else 0.0


def _doubling_cost(of: Group) -> dict[str, Any] | None:
    """What runs at twice the largest N would take, by the speed of the last run; None where no run has told it."""
    speeds = [Speed.read(_told(model)) for row in of.runs for model in row]
    known = [speed for speed in speeds if speed]
    return known[-1].cost(of.runs[-1][0].card.budget, len(of.seeds)) if known else None


def _told(model: Model) -> dict[str, Any] | None:
    """The result of the run that made a model, where the model still lies in its folder."""
    path = model.folder.parent / "result.json"
    return read_json(path) if path.exists() else None


def _result(spec: Spec, bench: Bench, groups: list[Group], curves: list[dict[str, Any]]) -> dict[str, Any]:
    cohort, contest = bench.cohort, bench.contest
    seeds = min(len(g.seeds) for g in groups)
    images = {split: bench.images.of(split) for split in ("train", "validation", "test")}
    return {
        "answer": report.answer(curves),
        "protocol": "full" if min(seeds, len(set(spec.seeds))) >= FULL_PROTOCOL_SEEDS else "below",
        "practice": cohort.practice or any(m.card.practice for m in contest.all),
        "looks": spec.looks,
        "cohort": {
            "digest": cohort.digest,
            "splits": {
                s: {"images": len(at), "patients": len(set(bench.images.patient[at]))} for s, at in images.items()
            },
        },
        "groups": [
            {
                "encoder": g.encoder,
                "sizes": g.sizes,
                "seeds": g.seeds,
                "budget": g.runs[0][0].card.budget,
                "left_out": g.left_out,
                "doubling_cost": _doubling_cost(g),
                "baselines": [[m.name for m in models] for models in g.baselines],
            }
            for g in groups
        ],
        "curves": curves,
        "labels": {q.task: sorted(x.label for x in bench.scored if x.task == q.task) for q in bench.scored},
        "not_scored": bench.not_scored,
        "settings": {"resamples": spec.resamples, "alpha": spec.alpha, "seeds": list(spec.seeds), "macro": MACRO},
    }
