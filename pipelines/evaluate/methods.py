"""How a label is read from frozen features: linear probe, k nearest neighbours, few-shot probes; attentive, zero-shot.

The linear probe answers; the others say what an encoder is worth with less teaching. Each gives log-odds of every image
of a split whose label is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.evaluate import probe
from pipelines.evaluate.tasks import LINEAR, Images, Question

NEIGHBOURS, ATTENTIVE = "knn", "attentive"
SHARES = (1, 5, 10, 50)
"""Per cent of the train patients of the few-shot probes; the linear probe is the end of the curve."""
FEW_SHOT = {f"few-shot-{share}": share for share in SHARES}
NEAREST = 20  # neighbours that vote, and the temperature of their votes: as in DINO (arXiv 2104.14294)
TEMPERATURE = 0.07
KEPT = 200  # nearest train images kept of each test image, of which some do not know the label
BLOCK = 512  # test images at once


@dataclass(frozen=True)
class Lesson:
    """What a method learns from and what it is asked."""

    features: np.ndarray
    """float32 [images, D] of one model."""
    images: Images
    questions: list[Question]
    seeds: list[int]
    split: str
    minimum: int
    """Patients of either class that validation must have for a choice to rest on it."""


@dataclass(frozen=True)
class Answer:
    """Log-odds of the images `at` (places) for one question under one seed."""

    question: Question
    seed: int
    at: np.ndarray
    odds: np.ndarray


Method = Callable[[Lesson], Iterator[Answer]]


def expand(asked: tuple[str, ...]) -> list[str]:
    """Names as they stand in tables.SCORES: few-shot becomes one a share."""
    return [name for method in asked for name in (FEW_SHOT if method == "few-shot" else [method])]


def probes(lesson: Lesson, share: int | None = None) -> Iterator[Answer]:
    """Linear probes on a seed's share of the train patients; with `share`, also of validation's, as labels cost."""
    images = lesson.images
    train, validation, asked = (images.of(split) for split in ("train", "validation", lesson.split))
    for seed in lesson.seeds:
        chosen, choose = train[probe.subsample(images.patient[train], seed)], validation
        if share is not None:
            chosen = train[probe.subsample(images.patient[train], seed, share / 100)]
            if len(validation):
                choose = validation[probe.subsample(images.patient[validation], seed, share / 100)]
        x_train, x_choose, x_asked = probe.standardise(*(lesson.features[at] for at in (chosen, choose, asked)))
        for question in lesson.questions:
            learn = probe.Part(x_train, question.target[chosen], images.patient[chosen])
            held = probe.Part(x_choose, question.target[choose], images.patient[choose])
            known = np.isfinite(question.target[asked])
            odds, _ = probe.probe(learn, held, x_asked[known], lesson.minimum, folds=share is None)
            yield Answer(question, seed, asked[known], odds)


def neighbours(lesson: Lesson) -> Iterator[Answer]:
    """Weighted votes of the nearest train images by cosine similarity of standardised features."""
    images = lesson.images
    train, asked = images.of("train"), images.of(lesson.split)
    for seed in lesson.seeds:
        chosen = train[probe.subsample(images.patient[train], seed)]
        x_train, x_asked = (_unit(x) for x in probe.standardise(lesson.features[chosen], lesson.features[asked]))
        near, similarity = nearest(x_train, x_asked)
        for question in lesson.questions:
            known = np.isfinite(question.target[asked])
            yield Answer(question, seed, asked[known], vote(question.target[chosen], near[known], similarity[known]))


def nearest(train: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and cosine similarities [asked, K] of the K = KEPT nearest rows of `train`, the nearest first."""
    kept = min(KEPT, len(train))
    places, found = np.empty((len(asked), kept), np.int64), np.empty((len(asked), kept), np.float32)
    for begin in range(0, len(asked), BLOCK):
        similarity = asked[begin : begin + BLOCK] @ train.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :kept]
        places[begin : begin + BLOCK] = order
        found[begin : begin + BLOCK] = np.take_along_axis(similarity, order, 1)
    return places, found


def vote(target: np.ndarray, near: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Log-odds [asked] of the share of positive votes among the NEAREST that know the label, one prior vote added.

    The prior vote, of the prevalence in train, keeps the odds finite and stands for an image with no neighbour.
    """
    prevalence = np.clip(np.nanmean(target) if np.isfinite(target).any() else 0.5, 1e-6, 1 - 1e-6)
    values = target[near]
    known = np.isfinite(values)
    known &= np.cumsum(known, 1) <= NEAREST
    weight = np.where(known, np.exp((similarity - similarity[:, :1]) / TEMPERATURE), 0.0)
    positive = (weight * np.where(known, values, 0.0)).sum(1)
    share = (positive + prevalence) / (weight.sum(1) + 1)
    odds: np.ndarray = np.log(share / (1 - share))
    return odds


def _unit(x: np.ndarray) -> np.ndarray:
    unit: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit.astype(np.float32)


def of(name: str) -> Method:
    """The method of a name in tables.SCORES, of those that read pooled features: `attentive` and `zeroshot` stand in
    modules of their own."""
    if name in FEW_SHOT:
        return lambda lesson: probes(lesson, FEW_SHOT[name])
    return {LINEAR: probes, NEIGHBOURS: neighbours}[name]
