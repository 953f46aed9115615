"""Stage `scale`: judge the runs of a scaling study together, fit the law, find the break-even, write the report.

The runs themselves are `pretrain` stages that stand already; whoever plans them (`pipelines.scale.plan`) may add sizes
later, and features and scores that stand in the store are not made again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import tables
from pipelines.contract import BadInput, RunFolder, read_json
from pipelines.evaluate import looks, measured, measures, results
from pipelines.evaluate.models import Model
from pipelines.evaluate.results import MACRO, Measured
from pipelines.evaluate.run import Bench, prepare, refuse_nothing
from pipelines.evaluate.scoring import score_all
from pipelines.evaluate.stats import auroc
from pipelines.evaluate.tasks import headline
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
    # Masks of every model of a study as DICOM SEG would be many files that nobody opens.
    spec = spec.model_copy(update={"segmentation": spec.segmentation.model_copy(update={"dicom": 0})})
    tasks, not_scored = measured.measurable(spec.tasks, bench, spec)
    refuse_nothing(bench, spec, tasks)
    groups = group(bench.contest)
    nothing = [g.encoder for g in groups if not g.baselines]
    if nothing:
        raise BadInput(f"{nothing[0]} has nothing to be compared with; give its open weights as a baseline.")
    store = spec.store or run.root
    scores = score_all(spec, run, bench, bench.contest.all)
    look = looks.count(bench.cohort, bench.contest.all, run, spec.looks)
    parts = [task.measure(bench, bench.contest.all, spec, run, store) for task in tasks.values()]
    found = pa.concat_tables([tables.MEASURES.empty_table(), *parts])
    baselines = list({m.name: m for g in groups for models in g.baselines for m in models}.values())
    validation = _on_validation(score_all(spec, run, bench, baselines, "validation"))
    validation |= {name: task.on_validation(bench, baselines, spec, run, store) for name, task in tasks.items()}
    drawn, rows = _measure(spec, run, scores, found)
    written = {
        "scores": (scores, tables.SCORES), "measures": (found, tables.MEASURES), "results": (rows, tables.RESULTS),
    }  # fmt: skip
    for name, (table, schema) in written.items():
        tables.write_table(run.root / f"{name}.parquet", table, schema)
        run.artifact(name, run.root / f"{name}.parquet")
    curves = [c for g in groups for c in _curves(g, drawn, validation, spec.alpha)]
    not_scored += [_without_headline(task, bench) for task in tasks if task not in drawn]
    result = _result(spec, bench, groups, curves) | {"not_scored": bench.not_scored + not_scored, "looks": look}
    report.write(run.root / "report.html", result)
    run.artifact("report", run.root / "report.html")
    return result


def _without_headline(task: str, bench: Bench) -> dict[str, Any]:
    """Why a task that was measured has no curve, as where no labeller reads the language of the reports."""
    counts = {"images": len(bench.images.of("test")), "positives": 0, "negatives": 0}
    return {"task": task, "label": measured.ALL, **counts, "reason": f"{headline(task)} could not be measured"}


def _measure(
    spec: Spec, run: RunFolder, scores: pa.Table, found: pa.Table
) -> tuple[dict[str, dict[str, dict[str, Measured]]], list[dict[str, Any]]]:
    """Task -> model -> label -> value and draws of the headline metric, and the rows of results.parquet."""

    def tick(done: int, total: int) -> None:
        run.check_stop()
        run.progress(done, total, "bootstrap draws")

    drawn, rows = {}, []
    for task in pc.unique(scores["task"]).to_pylist():
        part = scores.filter(pc.field("task") == task)
        labels, patients = results.rank(part)
        drawn[task] = results.bootstrap(labels, patients, len(pc.unique(part["seed"])), spec.resamples, tick)
        rows += results.values(task, drawn[task], results.count(part, labels))
    for task in pc.unique(found["task"]).to_pylist():
        by_metric = measures.bootstrap(found, task, spec.resamples, tick)
        for metric, (by_model, counts) in by_metric.items():
            rows += results.values(task, by_model, counts, (metric,), None)
        if headline(task) in by_metric:
            drawn[task] = by_metric[headline(task)][0]
    return drawn, rows


def _curves(
    of: Group, drawn: dict[str, dict[str, dict[str, Measured]]], validation: dict[str, dict[str, float]], alpha: float
) -> list[dict[str, Any]]:
    """Every task of an encoder; tasks share the error rate."""
    curves: dict[str, TaskCurve] = {}
    for state, (task, by_model) in enumerate(drawn.items()):
        own = validation.get(task, {})
        baseline = max(of.baselines, key=lambda models: _mean(own.get(m.name, 0.0) for m in models))
        curves[task] = task_curve(of, task, by_model, baseline, state)
    reached = break_evens({task: c.difference for task, c in curves.items()}, alpha)
    return [describe(curve, reached[task]) for task, curve in curves.items()]


def _on_validation(scores: pa.Table) -> dict[str, dict[str, float]]:
    """Task -> model -> macro AUROC on validation, by which the baseline to beat is chosen before the test split is
    looked at."""
    groups = scores.group_by(["task", "model", "label", "seed"]).aggregate([("target", "list"), ("score", "list")])
    areas: dict[str, dict[str, list[float]]] = {}
    for row in groups.to_pylist():
        if 0 < sum(row["target_list"]) < len(row["target_list"]):
            area = auroc(np.asarray(row["target_list"]), np.asarray(row["score_list"]))
            areas.setdefault(row["task"], {}).setdefault(row["model"], []).append(area)
    return {task: {model: _mean(a) for model, a in of.items()} for task, of in areas.items()}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


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
        "settings": {"resamples": spec.resamples, "alpha": spec.alpha, "seeds": list(spec.seeds), "macro": MACRO},
    }
