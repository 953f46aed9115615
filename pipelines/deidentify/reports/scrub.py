"""Report text without what identifies: known values of the paired header first, then recognisers, then replacement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reports.dates import DateSpan, find_dates
from pipelines.deidentify.reports.folding import compose
from pipelines.deidentify.reports.known import find_known, residue
from pipelines.deidentify.reports.spans import Span, merge
from pipelines.deidentify.reports.surrogates import Surrogates
from pipelines.keys import DerivationSecret

STYLES = ("surrogates", "tags")


@dataclass(frozen=True)
class ScrubItem:
    """A report, the identities of the header it is paired with, and its patient's pseudonym and shift."""

    text: str
    identities: Identities
    patient: str
    shift_days: int


@dataclass(frozen=True)
class Scrubbed:
    text: str
    spans: list[Span] = field(default_factory=list)
    """What was replaced, in the source text."""
    residue: bool = False
    """A strong value of the source can still be read: the report must be quarantined."""
    review: int = 0
    """Words left that are ordinary words and names of this patient's persons as well."""


class ReportScrubber:
    """Scrubs reports in batches. One per process: the language model loads at the first batch."""

    def __init__(self, secret: DerivationSecret, style: str = "surrogates") -> None:
        if style not in STYLES:
            raise ValueError(f"style is one of {', '.join(STYLES)}")
        self._secret, self._style = secret, style

    def scrub(self, items: list[ScrubItem]) -> list[Scrubbed]:
        """Each report scrubbed, in order. What one report becomes does not depend on the others."""
        from pipelines.deidentify.reports.recognisers import analyze

        composed = [compose(item.text) for item in items]
        analyzer, nlp = self._analyzer
        found = analyze(analyzer, nlp, (text for text, _ in composed))
        return [
            self._scrub_one(item, text, starts, spans)
            for item, (text, starts), spans in zip(items, composed, found, strict=True)
        ]

    @cached_property
    def _analyzer(self) -> Any:
        from pipelines.deidentify.reports.recognisers import make_analyzer

        return make_analyzer()

    def _scrub_one(self, item: ScrubItem, text: str, starts: Sequence[int], recognised: list[Span]) -> Scrubbed:
        who = item.identities
        known, review = find_known(text, who)
        dates = find_dates(text, who.dates, max(who.dates, default=None))
        spans = merge([known, [Span("DATE", d.start, d.end) for d in dates], recognised], text)
        surrogates = Surrogates(self._secret, self._style, who)
        moved = {(d.start, d.end): d for d in dates}
        out, kept, at = [], [], 0
        for span in spans:
            kept.append(text[at : span.start])
            out += [text[at : span.start], self._replacement(span, text, moved, surrogates, item.shift_days)]
            at = span.end
        kept.append(text[at:])
        in_source = [Span(s.kind, starts[s.start], starts[s.end]) for s in spans]
        return Scrubbed("".join([*out, text[at:]]), in_source, residue(" \N{BROKEN BAR} ".join(kept), who), review)

    def _replacement(
        self, span: Span, text: str, moved: dict[tuple[int, int], DateSpan], surrogates: Surrogates, days: int
    ) -> str:
        if span.kind != "DATE":
            return surrogates.of(span.kind, text[span.start : span.end])
        found = moved.get((span.start, span.end))
        return found.shifted(days) if found and self._style == "surrogates" else "[DATE]"
