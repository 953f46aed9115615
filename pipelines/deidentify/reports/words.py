"""Word lists of `data/*.txt`: words between spaces, lines that begin with # are remarks."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pipelines.deidentify.vocabulary import clinical_words

_ENDINGS = (("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("ly", ""))
_DATA = Path(__file__).parent / "data"


@cache
def word_list(name: str) -> tuple[str, ...]:
    """The words of `data/NAME.txt`, in their order."""
    lines = (_DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(word for line in lines if not line.startswith("#") for word in line.split())


def ordinary(word: str) -> bool:
    """Whether a folded word stands in reports for something else than a person."""
    return word in _everyday() or word in clinical_words()


def in_vocabulary(word: str) -> bool:
    """Whether a folded word, or what it is a form of, is one that reports use: what is not may be misspelt."""
    return (
        ordinary(word)
        or word in _radiology()
        or any(
            word.endswith(end) and (ordinary(stem := word[: -len(end)] + put) or stem in _radiology())
            for end, put in _ENDINGS
            if len(word) > len(end) + 2
        )
    )


@cache
def _radiology() -> frozenset[str]:
    return frozenset(word_list("radiology_words"))


@cache
def _everyday() -> frozenset[str]:
    return frozenset(word_list("ordinary_names"))
