"""A report before and after as a person reads it: which characters were taken out, by whom, and how sure that was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Piece = tuple[str, "Mark | None"]


@dataclass(frozen=True)
class Mark:
    """A place in a text. `kind` and `recogniser` as in reports.spans.Span; `score` 0 to 1."""

    start: int
    end: int
    kind: str
    recogniser: str
    score: float
    left: bool = False
    """The words stayed: they are ordinary ones, and a name of the report's persons as well."""


@dataclass(frozen=True)
class Reading:
    """A sealed report ready to be shown: both texts cut at their marks, and what was taken out, row by row."""

    before: list[Piece]
    after: list[Piece]
    rows: list[tuple[str, str, Mark]]
    """(before, after, mark)"""


def reading(text: dict[str, Any]) -> Reading:
    """Of the value `text` in the vault (review.reports)."""
    before, after = text["before"], text["after"]
    old, new = ([Mark(**mark) for mark in text["marks"][side]] for side in ("before", "after"))
    gone = zip((mark for mark in old if not mark.left), new, strict=True)
    rows = [(before[a.start : a.end], after[b.start : b.end], a) for a, b in gone]
    return Reading(list(pieces(before, old)), list(pieces(after, new)), rows)


def pieces(text: str, marks: Sequence[Mark]) -> Iterator[Piece]:
    """The text in its order, cut at the marks; of marks that overlap the later one has what is left of it."""
    at = 0
    for mark in sorted(marks, key=lambda m: m.start):
        if mark.end <= at:
            continue
        if mark.start > at:
            yield text[at : mark.start], None
        yield text[max(mark.start, at) : mark.end], mark
        at = mark.end
    if at < len(text):
        yield text[at:], None
