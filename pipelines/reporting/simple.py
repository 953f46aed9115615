"""What a written report must beat: the most typical normal report, and the report of the most similar train image."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from pipelines.reporting.studies import Study


def template(findings: list[str], normal: list[bool]) -> str:
    """The findings that are most like all other normal ones (cosine of word and word-pair TF-IDF); of all if none is.

    Of equally typical ones the first in the alphabet.
    """
    chosen = sorted(text for text, n in zip(findings, normal, strict=True) if n) or sorted(findings)
    vectors = TfidfVectorizer(ngram_range=(1, 2)).fit_transform(chosen)
    typical = vectors @ np.asarray(vectors.mean(0)).T
    return chosen[int(np.argmax(np.round(typical, 9)))]


def retrieve(features: np.ndarray, train: list[Study], wanted: list[Study]) -> list[str]:
    """For each wanted study the findings of the train study with the most similar image.

    `features` float32 [images, D] by place; cosine after each feature is standardised on the train images.
    """
    library = features[[s.place for s in train]].astype(np.float64)
    mean, spread = library.mean(0), library.std(0) + 1e-6
    library = _unit((library - mean) / spread)
    out = []
    for begin in range(0, len(wanted), 256):
        asked = _unit((features[[s.place for s in wanted[begin : begin + 256]]] - mean) / spread)
        out += [train[i].findings for i in (asked @ library.T).argmax(1)]
    return out


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
