"""Stage `evaluate`: features once per model, probes on them, scores, statistics, report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import tables
from pipelines.cohort import Cohort
from pipelines.contract import BadInput, RunFolder
from pipelines.evaluate import answer, features, measured, measures, probe, report, results
from pipelines.evaluate.deviation import measure_deviations
from pipelines.evaluate.leakage import check_leakage, contaminated
from pipelines.evaluate.models import Contest, Model, open_contest
from pipelines.evaluate.spec import Spec
from pipelines.evaluate.tasks import Images, Question, frontal_images, questions, why_not
from pipelines.keys import SPLITS

FULL_PROTOCOL_SEEDS = 3


@dataclass(frozen=True)
class Bench:
    """What is judged on what."""

    cohort: Cohort
    contest: Contest
    images: Images
    scored: list[Question]
    not_scored: list[dict[str, Any]]


def prepare(spec: Spec) -> Bench:
    """Open cohort and models and choose which labels can be scored; BadInput on leakage."""
    cohort = Cohort.open(spec.cohort)
    contest = open_contest(spec)
    check_leakage(cohort, contest.all)
    images = frontal_images(cohort)
    asked = questions(cohort, images, spec.tasks)
    reasons = [why_not(q, images, spec.minimum_positives) for q in asked]
    scored = [q for q, r in zip(asked, reasons, strict=True) if not r]
    return Bench(cohort, contest, images, scored, [r for r in reasons if r])


def refuse_nothing(bench: Bench, spec: Spec, tasks: Sized) -> None:
    """BadInput when not one label and no other task can be scored."""
    if not bench.scored and not tasks:
        raise BadInput(
            f"No label has {spec.minimum_positives} positive test patients and both classes to learn from; "
            "evaluate on a larger cohort or lower minimum_positives."
        )


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """Evaluate models x tasks on the cohort's test split; writes scores, results and report.html."""
    bench = prepare(spec)
    tasks, not_scored = measured.measurable(spec.tasks, bench, spec)
    refuse_nothing(bench, spec, tasks)
    pairs, models, store = list(bench.contest.pairs), bench.contest.all, spec.store or run.root
    scores = score_all(spec, run, bench, models)
    parts = [task.measure(bench, models, spec, run, store) for task in tasks.values()]
    found = pa.concat_tables([tables.MEASURES.empty_table(), *parts])
    for name, table, schema in (("scores", scores, tables.SCORES), ("measures", found, tables.MEASURES)):
        tables.write_table(run.root / f"{name}.parquet", table, schema)
        run.artifact(name, run.root / f"{name}.parquet")

    def tick(done: int, total: int) -> None:
        run.check_stop()
        run.progress(done, total, "bootstrap draws")

    rows = results.analyse(scores, pairs, spec.resamples, tick)
    rows += measures.analyse(found, pairs, spec.resamples, tick)
    tables.write_table(run.root / "results.parquet", rows, tables.RESULTS)
    run.artifact("results", run.root / "results.parquet")
    result = _result(spec, bench.cohort, bench.contest, bench.images, rows, bench.not_scored + not_scored)
    result["deviations"] = measure_deviations(models, bench.cohort, spec.device, run, store)
    sections = [
        section
        for name, task in tasks.items()
        for section in task.sections([row for row in rows if row["task"] == name], result, run.root)
    ]
    report.write(run.root / "report.html", rows, result, sections)
    run.artifact("report", run.root / "report.html")
    return result


def score_all(spec: Spec, run: RunFolder, bench: Bench, models: list[Model], split: str = "test") -> pa.Table:
    """The score table of models on a split; a model whose part stands is not computed again.

    Features and parts lie in the store, where other evaluations of the same cohort find them.
    """
    store = spec.store or run.root
    asked = [spec.minimum_positives, sorted(set(spec.seeds)), [(q.task, q.label) for q in bench.scored]]
    digest = hashlib.sha256(json.dumps([bench.cohort.digest, split, asked]).encode()).hexdigest()
    stored = {m.name: features.extract(m, bench.cohort, bench.images.rows, spec.device, run, store) for m in models}
    parts = []
    for model in models:
        path = store / "parts" / f"{model.digest[:16]}-{digest[:16]}.parquet"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = _score(spec, run, model, stored[model.name], bench, split)
            tables.write_table(path, part, tables.SCORES)
        part = tables.read_table(path, tables.SCORES)
        # A part may have been made under another name of the same weights.
        parts.append(part.set_column(0, "model", pa.repeat(model.name, len(part))))
    return pa.concat_tables([tables.SCORES.empty_table(), *parts])


def _score(spec: Spec, run: RunFolder, model: Model, stored: np.ndarray, bench: Bench, split: str) -> pa.Table:
    """Probe scores of one model: every label under every seed, on the images of a split whose label is known."""
    images, scored = bench.images, bench.scored
    train, validation, test = images.of("train"), images.of("validation"), images.of(split)
    columns: dict[tuple[int, str, str], pa.Table] = {}
    seeds = sorted(set(spec.seeds))
    for seed in seeds:
        chosen = train[probe.subsample(images.patient[train], seed)]
        x_train, x_validation, x_test = probe.standardise(stored[chosen], stored[validation], stored[test])
        for question in scored:
            run.check_stop()
            learn = probe.Part(x_train, question.target[chosen], images.patient[chosen])
            choose = probe.Part(x_validation, question.target[validation], images.patient[validation])
            known = np.isfinite(question.target[test])
            odds, _ = probe.probe(learn, choose, x_test[known], spec.minimum_positives)
            at = test[known]
            columns[(seed, question.task, question.label)] = _table(model, question, seed, images, at, odds)
            run.progress(len(columns), len(scored) * len(seeds), f"probes on {model.name}")
    # Sorted by task and label first, so that the table reads as the report does.
    ordered = [columns[(seed, q.task, q.label)] for q in scored for seed in seeds]
    return pa.concat_tables([tables.SCORES.empty_table(), *ordered])


def _table(model: Model, question: Question, seed: int, images: Images, at: np.ndarray, odds: np.ndarray) -> pa.Table:
    n = len(at)
    columns = {
        "model": pa.repeat(model.name, n),
        "task": pa.repeat(question.task, n),
        "label": pa.repeat(question.label, n),
        "seed": pa.repeat(pa.scalar(seed, pa.int32()), n),
        "image": images.rows[at],
        "patient": pa.array(images.patient[at].tolist(), pa.string()),
        "target": question.target[at].astype(np.int8),
        "score": odds.astype(np.float32),
    }
    return pa.table(columns, schema=tables.SCORES)


def _result(
    spec: Spec,
    cohort: Cohort,
    contest: Contest,
    images: Images,
    rows: list[dict[str, Any]],
    not_scored: list[dict[str, Any]],
) -> dict[str, Any]:
    """What `result.json` and the report say."""
    splits = {
        split: {"images": len(at), "patients": len(set(images.patient[at]))}
        for split, at in ((split, images.of(split)) for split in SPLITS)
    }
    settings = spec.model_dump(mode="json", include={"tasks", "seeds", "resamples", "minimum_positives"})
    said = answer.sentences(rows, spec.tasks, contest.pairs)
    return {
        "answer": " ".join(said.values()) or answer.without_baseline(rows),
        "protocol": "full" if len(set(spec.seeds)) >= FULL_PROTOCOL_SEEDS else "below",
        "practice": cohort.practice or any(m.card.practice for m in contest.all),
        "looks": spec.looks,
        "cohort": {
            "digest": cohort.digest,
            "practice": cohort.practice,
            "policies": list(cohort.policies),
            "public_set": cohort.public_set,
            "splits": splits,
        },
        "models": [
            _lineage(m, role, cohort)
            for role, group in (("model", contest.models), ("baseline", contest.baselines))
            for m in group
        ],
        "comparisons": [
            {"model": pair[0], "baseline": pair[1], "words": words, "sentence": said[pair]}
            for pair, words in contest.pairs.items()
        ],
        "tasks": answer.nested(rows),
        "differences": [row for row in rows if row["baseline"]],
        "verdicts": answer.verdicts(rows),
        "not_scored": not_scored,
        "settings": settings,
    }


def _lineage(model: Model, role: str, cohort: Cohort) -> dict[str, Any]:
    """What the lineage table and the platform need of a card; the settings of the run stay with the model."""
    card = model.card.model_dump(mode="json", exclude={"name", "spec", "metrics"})
    marks = {"contaminated": contaminated(cohort, model)}
    return {"name": model.name, "role": role, "family": model.family, **marks, **card}
