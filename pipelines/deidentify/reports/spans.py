"""Places in a text that identify, and how finds of several layers become one list of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

KINDS = ("NAME", "ID", "DATE", "PHONE", "ADDRESS", "HOSPITAL", "AGE", "EMAIL", "URL")
GENERAL_KINDS = (*KINDS, "PLACE", "ORGANIZATION", "GROUP", "TITLE", "CARD", "ACCOUNT", "IP", "ZIP",
                 "SSN", "LICENSE")  # fmt: skip
"""With those of general text, see general.py. GROUP is a nationality, religion or political group."""


@dataclass(frozen=True)
class Span:
    """`kind` is one of KINDS (or GENERAL_KINDS); offsets count characters of the source text."""

    kind: str
    start: int
    end: int
    recogniser: str = ""
    """Which layer found it: a name in docs, counts and the review data."""
    score: float = 1.0
    """How sure that layer is, 0 to 1; 1 for a value of the paired header."""


def merge(layers: Iterable[Iterable[Span]], text: str) -> list[Span]:
    """Spans without overlaps, in order, covering all that any layer found.

    An earlier layer decides the kind, within a layer the longer span; what another span covers beyond that stays
    covered under its own kind.
    """
    taken: list[Span] = []
    for layer in layers:
        for span in sorted(layer, key=lambda s: (s.start - s.end, s.start)):
            for start, end in _free(span, taken):
                piece = text[start:end]
                left = len(piece) - len(piece.lstrip(" ,.;:\n\t"))
                right = len(piece.rstrip(" ,;:\n\t"))
                if any(c.isalnum() for c in piece):
                    taken.append(replace(span, start=start + left, end=start + right))
    return sorted(taken, key=lambda s: s.start)


def _free(span: Span, taken: list[Span]) -> list[tuple[int, int]]:
    """The parts of a span that no taken span covers."""
    parts, at = [], span.start
    for other in sorted((t for t in taken if t.start < span.end and span.start < t.end), key=lambda t: t.start):
        if other.start > at:
            parts.append((at, other.start))
        at = max(at, other.end)
    if at < span.end:
        parts.append((at, span.end))
    return parts
