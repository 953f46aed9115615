"""The score table: every model, method, label and seed on the images of a split. What stands is not computed again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines import tables
from pipelines.contract import RunFolder
from pipelines.evaluate import features, methods
from pipelines.evaluate.methods import Answer, Lesson
from pipelines.evaluate.models import Model
from pipelines.evaluate.pool import Stacked
from pipelines.evaluate.spec import Spec
from pipelines.evaluate.tasks import ZERO_SHOT

if TYPE_CHECKING:
    from pipelines.evaluate.run import Bench

IMAGE_ONLY = ("rad-dino", "dinov2", "dinov3")
"""Families that need not be opened to know that they have no text tower."""


def score_all(spec: Spec, run: RunFolder, bench: Bench, models: list[Model], split: str = "test") -> pa.Table:
    """The score table of models on a split, in the order of methods, models, labels, seeds.

    Features and parts lie in the store, where other evaluations of the same cohort find them.
    """
    store = spec.store or run.root
    parts = [tables.SCORES.empty_table()]
    for name in methods.expand(spec.methods):
        asked = bench.scored if name == ZERO_SHOT else [q for q in bench.scored if q.taught]
        if asked:
            parts += [_part(spec, run, replace(bench, scored=asked), model, name, split, store) for model in models]
    return pa.concat_tables(parts)


def _part(spec: Spec, run: RunFolder, bench: Bench, model: Model, method: str, split: str, store: Path) -> pa.Table:
    """Scores of one model by one method, from the store where they stand."""
    asked: list[Any] = [spec.minimum_positives, sorted(set(spec.seeds)), [(q.task, q.label) for q in bench.scored]]
    if method == methods.ATTENTIVE:
        asked.append(spec.attentive.model_dump())
    if method == ZERO_SHOT:
        asked.append({label: texts.model_dump() for label, texts in sorted(spec.prompts.items())})
    digest = hashlib.sha256(json.dumps([bench.pool.digest, split, asked]).encode()).hexdigest()
    path = store / "parts" / f"{method}-{model.digest[:16]}-{digest[:16]}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if method == ZERO_SHOT:
            given = _zero_shot(spec, run, bench, model, split, store)
        else:
            given = _learnt(spec, run, bench, model, method, split, store)
        tables.write_table(path, _table(model, method, bench, given), tables.SCORES)
    part = tables.read_table(path, tables.SCORES)
    # A part may have been made under another name of the same weights.
    return part.set_column(0, "model", pa.repeat(model.name, len(part)))


def _learnt(
    spec: Spec, run: RunFolder, bench: Bench, model: Model, method: str, split: str, store: Path
) -> Iterator[Answer]:
    """Answers of a method that learns from the train split."""
    seeds, what = sorted(set(spec.seeds)), f"{method} on {model.name}"
    pool, images = bench.pool, bench.pool.images
    stored = _one(pool.features(model, spec.device, run, store))
    lesson = Lesson(stored, images, bench.scored, seeds, split, spec.minimum_positives)
    if method != methods.ATTENTIVE:
        return _told(run, methods.of(method)(lesson), len(seeds) * len(bench.scored), what)
    from pipelines.evaluate import attentive

    most = {"train": spec.attentive.images, "validation": attentive.JUDGED}
    learnt = [attentive.whole_patients(images.patient, images.of(s), n) for s, n in most.items()]
    places = np.unique(np.concatenate([*learnt, images.of(split)]))
    patches = Stacked(pool.features(model, spec.device, run, store, places, "patches"))
    found = attentive.Material(patches, places)
    return attentive.answers(lesson, found, spec.attentive, features.choose_device(spec.device), run, what)


def _zero_shot(spec: Spec, run: RunFolder, bench: Bench, model: Model, split: str, store: Path) -> Iterator[Answer]:
    """Nothing for an encoder without a text tower."""
    from pipelines.evaluate import zeroshot

    if model.family in IMAGE_ONLY:
        return
    encoder: Any = features.load(model, spec.device)
    if not encoder.text:
        return
    at = bench.pool.images.of(split)
    vectors = _one(bench.pool.features(model, spec.device, run, store, at, "joint"))
    yield from zeroshot.answers(encoder, vectors, at, bench.scored, min(spec.seeds), spec.prompts)


def _one(parts: list[np.ndarray]) -> np.ndarray:
    """Features of all images; those of one cohort stay where they lie on disk."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _told(run: RunFolder, answers: Iterable[Answer], total: int, what: str) -> Iterator[Answer]:
    for done, given in enumerate(answers, 1):
        run.check_stop()
        run.progress(done, total, what)
        yield given


def _table(model: Model, method: str, bench: Bench, answers: Iterable[Answer]) -> pa.Table:
    """tables.SCORES of one model and method, by task, label and seed, so that the table reads as the report does."""
    place = {(q.task, q.label): number for number, q in enumerate(bench.scored)}
    ordered = sorted(answers, key=lambda a: (place[(a.question.task, a.question.label)], a.seed))
    parts = [tables.SCORES.empty_table()]
    for given in ordered:
        n, at = len(given.at), given.at
        columns = {
            "model": pa.repeat(model.name, n),
            "task": pa.repeat(given.question.task, n),
            "method": pa.repeat(method, n),
            "label": pa.repeat(given.question.label, n),
            "seed": pa.repeat(pa.scalar(given.seed, pa.int32()), n),
            "image": bench.pool.images.rows[at],
            "patient": pa.array(bench.pool.images.patient[at].tolist(), pa.string()),
            "target": given.question.target[at].astype(np.int8),
            "score": given.odds.astype(np.float32),
        }
        parts.append(pa.table(columns, schema=tables.SCORES))
    return pa.concat_tables(parts)
