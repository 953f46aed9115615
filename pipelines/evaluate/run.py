"""Stage `evaluate`: features once per model, scores from them, and the judgement of the scores."""

from __future__ import annotations

import json
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines import tables
from pipelines.cohort import Cohort
from pipelines.contract import BadInput, RunFolder, write_atomic
from pipelines.evaluate import looks, measured
from pipelines.evaluate.deviation import measure_deviations
from pipelines.evaluate.judge import FACTS, MADE, judge
from pipelines.evaluate.leakage import check_leakage, contaminated
from pipelines.evaluate.models import Contest, Model, open_contest
from pipelines.evaluate.pool import Pool, make_pool
from pipelines.evaluate.scoring import score_all
from pipelines.evaluate.spec import Spec
from pipelines.evaluate.tasks import UNTAUGHT, Images, Question, choose, frontal_images, test_counts
from pipelines.keys import SPLITS
from pipelines.similarity.report import write_panels

FULL_PROTOCOL_SEEDS = 3


@dataclass(frozen=True)
class Bench:
    """What is judged on what."""

    cohort: Cohort
    contest: Contest
    images: Images
    """Of the cohort."""
    pool: Pool
    """What probes learn from and are asked on."""
    scored: list[Question]
    not_scored: list[dict[str, Any]]


def prepare(spec: Spec) -> Bench:
    """Open cohort and models and choose which labels can be scored; BadInput on leakage."""
    cohort = Cohort.open(spec.cohort)
    contest = open_contest(spec)
    check_leakage(cohort, contest.all)
    images = frontal_images(cohort)
    teacher = Cohort.open(spec.teacher) if spec.teacher else None
    pool, asked = make_pool(cohort, images, teacher, spec.tasks)
    scored, not_scored = choose(asked, pool.images, spec.minimum_positives, spec.methods)
    return Bench(cohort, contest, images, pool, scored, not_scored)


def refuse_nothing(bench: Bench, spec: Spec, tasks: Sized) -> None:
    """BadInput when not one label and no other task can be scored."""
    if not bench.scored and not tasks:
        raise BadInput(
            f"No label has {spec.minimum_positives} positive test patients and both classes to learn from; "
            "evaluate on a larger cohort or lower minimum_positives."
        )


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """Evaluate models x tasks on the cohort's test split; writes scores, results and the report."""
    bench = prepare(spec)
    tasks, not_scored = measured.measurable(spec.tasks, bench, spec)
    refuse_nothing(bench, spec, tasks)
    models, store = bench.contest.all, spec.store or run.root
    scores = score_all(spec, run, bench, models)
    not_scored += _without_text(bench, scores, tasks)
    look = looks.count(bench.cohort, models, run, spec.looks)
    parts = [task.measure(bench, models, spec, run, store) for task in tasks.values()]
    found = pa.concat_tables([tables.MEASURES.empty_table(), *parts])
    written = {
        "scores": (scores, tables.SCORES),
        "measures": (found, tables.MEASURES),
        "images": (_scored_images(bench), tables.SCORED_IMAGES),
    }
    for name, (table, schema) in written.items():
        tables.write_table(run.root / f"{name}.parquet", table, schema)
        run.artifact(name, run.root / f"{name}.parquet")
    facts = _facts(spec, bench, bench.not_scored + not_scored) | {"looks": look}
    facts["deviations"] = measure_deviations(models, bench.cohort, spec.device, run, store)
    facts["similarity"] = write_panels(bench.cohort, bench.images, models, spec.similarity, spec.device, run, store)
    write_atomic(run.root / FACTS, json.dumps(facts, ensure_ascii=False, indent=1) + "\n")

    def tick(done: int, total: int) -> None:
        run.check_stop()
        run.progress(done, total, "bootstrap draws")

    result = judge(run.root, tick)
    for name in MADE:
        run.artifact(name, run.root / f"{name}.parquet")
    run.artifact("report", run.root / "report.html")
    run.artifact("report as PDF", run.root / "report.pdf")
    return result


def _without_text(bench: Bench, scores: pa.Table, tasks: Sized) -> list[dict[str, Any]]:
    """What zero-shot alone could have scored and no model has the text tower for; BadInput when that is everything."""
    if not len(scores) and not tasks:
        raise BadInput(
            "Nothing can be learnt from this cohort's train split and no model has a text tower for zero-shot; "
            "name a teacher, give a model with one, or build the set with split = 'divide'."
        )
    found = set(zip(scores["task"].to_pylist(), scores["label"].to_pylist(), strict=True))
    reason = f"{UNTAUGHT}, and no model has a text tower"
    return [
        {"task": q.task, "label": q.label, **test_counts(q, bench.pool.images), "reason": reason}
        for q in bench.scored
        if (q.task, q.label) not in found
    ]


def _scored_images(bench: Bench) -> pa.Table:
    """tables.SCORED_IMAGES of the test split."""
    rows = bench.images.rows[bench.images.of("test")]
    columns = {name: bench.cohort.index[name].take(pa.array(rows)) for name in tables.SCORED_IMAGES.names[1:]}
    return pa.table({"image": rows, **columns}, schema=tables.SCORED_IMAGES)


def _facts(spec: Spec, bench: Bench, not_scored: list[dict[str, Any]]) -> dict[str, Any]:
    """What `result.json` and the report say beside what follows from the tables."""
    cohort, contest, images = bench.cohort, bench.contest, bench.pool.images
    taught = next((c for c, _ in bench.pool.parts if c is not cohort), None)
    splits = {
        split: {"images": len(at), "patients": len(set(images.patient[at]))}
        for split, at in ((split, images.of(split)) for split in SPLITS)
    }
    shown = {"tasks", "methods", "prompts", "attentive", "seeds", "resamples", "minimum_positives"}
    return {
        "protocol": "full" if len(set(spec.seeds)) >= FULL_PROTOCOL_SEEDS else "below",
        "practice": cohort.practice or bool(taught and taught.practice) or any(m.card.practice for m in contest.all),
        "cohort": {
            "digest": cohort.digest,
            "practice": cohort.practice,
            "policies": list(cohort.policies),
            "public_set": cohort.public_set,
            "splits": splits,
            "teacher": taught.digest if taught else None,
        },
        "models": [
            _lineage(m, role, cohort)
            for role, group in (("model", contest.models), ("baseline", contest.baselines))
            for m in group
        ],
        "comparisons": [
            {"model": pair[0], "baseline": pair[1], "words": words} for pair, words in contest.pairs.items()
        ],
        "not_scored": not_scored,
        "settings": spec.model_dump(mode="json", include=shown),
    }


def _lineage(model: Model, role: str, cohort: Cohort) -> dict[str, Any]:
    """What the lineage table and the platform need of a card; the settings of the run stay with the model."""
    card = model.card.model_dump(mode="json", exclude={"name", "spec", "metrics"})
    marks = {"contaminated": contaminated(cohort, model)}
    return {"name": model.name, "role": role, "family": model.family, **marks, **card}
