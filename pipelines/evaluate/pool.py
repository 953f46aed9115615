"""The images that probes learn from and are asked on: of one cohort, or of a teacher and of an external set.

A set that is all test teaches nothing. With a teacher, probes learn from its train and validation images, of the house,
and are asked on the test images of the set: the external validation of a paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipelines.cohort import Cohort
from pipelines.contract import BadInput, RunFolder
from pipelines.evaluate import features
from pipelines.evaluate.features import Kind
from pipelines.evaluate.models import Model
from pipelines.evaluate.tasks import Images, Question, frontal_images, questions


class Stacked:
    """Patch tokens of several files as one, an image at a time, so that none is read whole."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self.ends[-1]), *parts[0].shape[1:])

    def __getitem__(self, row: int) -> np.ndarray:
        part = int(np.searchsorted(self.ends, row, side="right"))
        found: np.ndarray = self.parts[part][row - (self.ends[part - 1] if part else 0)]
        return found


@dataclass(frozen=True)
class Pool:
    """Images with the cohorts they are of. `images.rows` are rows of each image's own cohort."""

    images: Images
    parts: tuple[tuple[Cohort, np.ndarray], ...]
    """Cohorts with their places, which follow each other."""

    @property
    def digest(self) -> str:
        """Of the one cohort, or of both."""
        return " taught ".join(cohort.digest for cohort, _ in self.parts)

    def features(
        self, model: Model, device: str, run: RunFolder, store: Path, places: np.ndarray | None = None,
        kind: Kind = "pooled",
    ) -> list[np.ndarray]:  # fmt: skip
        """Features of `places` (rising; all unless given), a file for each cohort that has some."""
        out = []
        for cohort, own in self.parts:
            chosen = own if places is None else np.intersect1d(own, places)
            if len(chosen):
                out.append(features.extract(model, cohort, self.images.rows[chosen], device, run, store, kind))
        return out


def make_pool(
    cohort: Cohort, images: Images, teacher: Cohort | None, tasks: tuple[str, ...]
) -> tuple[Pool, list[Question]]:
    """The pool and the labels asked of it, by the labels of `cohort`. BadInput where a patient would teach and be
    asked."""
    asked = questions(cohort, images, tasks)
    if teacher is None:
        return Pool(images, ((cohort, np.arange(len(images.rows))),)), asked
    theirs = frontal_images(teacher)
    learnt, test = np.flatnonzero(theirs.split != "test"), images.of("test")
    both = set(theirs.patient[learnt]) & set(images.patient[test])
    if both:
        raise BadInput(f"{len(both):,} patients would teach the probes and be asked about; give another teacher.")
    joined = Images(
        *(
            np.concatenate([getattr(theirs, name)[learnt], getattr(images, name)[test]])
            for name in ("rows", "split", "patient", "view")
        )
    )
    taught = {(q.task, q.label): q.target[learnt] for q in questions(teacher, theirs, tasks)}
    unknown = np.full(len(learnt), np.nan, np.float32)
    asked = [replace(q, target=np.concatenate([taught.get((q.task, q.label), unknown), q.target[test]])) for q in asked]
    places = np.arange(len(joined.rows))
    return Pool(joined, ((teacher, places[: len(learnt)]), (cohort, places[len(learnt) :]))), asked
