"""Zero-shot: an image is compared with texts that say a label is present and texts that say it is not.

As CheXzero does (Tiu et al., Nature Biomedical Engineering 2022): the softmax of two similarities, here as log-odds.
The vectors of several texts of one side are averaged (CLIP, arXiv 2103.00020). Nothing is learnt from the cohort.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.evaluate.methods import Answer
from pipelines.evaluate.spec import Prompts
from pipelines.evaluate.tasks import Question

DEFAULTS = Path(__file__).with_name("prompts.toml")
SCALE = 100.0  # of cosine similarities in CLIP's softmax; it moves no rank


def prompts(label: str, given: Mapping[str, Prompts]) -> Prompts:
    """The texts of a label: the site's, else the known ones, else its name."""
    if label in given:
        return given[label]
    known = tomllib.loads(DEFAULTS.read_text(encoding="utf-8"))
    return Prompts(**known.get(label, {"positive": [label.lower()], "negative": [f"no {label.lower()}"]}))


def answers(
    encoder: Any,
    vectors: np.ndarray,
    at: np.ndarray,
    questions: list[Question],
    seed: int,
    given: Mapping[str, Prompts],
) -> Iterator[Answer]:
    """Log-odds of the images `at` (places) by their unit `vectors` [len(at), P]; `encoder` embeds the texts."""
    for question in questions:
        texts = prompts(question.label, given)
        known = np.isfinite(question.target[at])
        present, absent = (_mean(encoder, side) for side in (texts.positive, texts.negative))
        odds = SCALE * (vectors[known] @ present - vectors[known] @ absent)
        yield Answer(question, seed, at[known], odds)


def _mean(encoder: Any, texts: tuple[str, ...]) -> np.ndarray:
    mean: np.ndarray = encoder.embed_text(list(texts)).float().cpu().numpy().mean(0)
    unit: np.ndarray = mean / np.maximum(np.linalg.norm(mean), 1e-12)
    return unit
