"""Report text without what identifies: known values of the paired header first, then recognisers, then replacement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reports.dates import DateSpan, find_dates
from pipelines.deidentify.reports.folding import compose
from pipelines.deidentify.reports.house import House
from pipelines.deidentify.reports.known import find_known, residue
from pipelines.deidentify.reports.language import language_of
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
    doubtful: list[Span] = field(default_factory=list)
    """Words left that are ordinary words and names of this patient's persons as well: a person has to look."""
    replaced: list[tuple[int, int]] = field(default_factory=list)
    """Where what stands for each of `spans` is, in `text`."""
    language: str = ""
    """As detected, empty when unclear."""
    unmodelled: bool = False
    """The text's language is known and the model does not speak it: only layers without a language have read it."""

    @property
    def review(self) -> int:
        return len(self.doubtful)


class ReportScrubber:
    """Scrubs reports in batches. One per process: the language model loads at the first batch.

    `model` is the folder of a site's de-identifier; without it spaCy's model is used. `general`: the texts are letters
    and notes of any kind, see general.py.
    """

    def __init__(
        self,
        secret: DerivationSecret,
        style: str = "surrogates",
        house: House | None = None,
        model: Path | None = None,
        general: bool = False,
    ) -> None:
        if style not in STYLES:
            raise ValueError(f"style is one of {', '.join(STYLES)}")
        self._secret, self._style, self._model, self._general = secret, style, model, general
        self._house = house or House()

    def scrub(self, items: list[ScrubItem]) -> list[Scrubbed]:
        """Each report scrubbed, in order. What one report becomes does not depend on the others."""
        items = [replace(i, identities=i.identities | Identities(names=self._staff)) for i in items]
        composed = [compose(item.text) for item in items]
        texts = [text for text, _ in composed]
        known = [find_known(text, item.identities) for text, item in zip(texts, items, strict=True)]
        settled = [[(s.start, s.end) for s in spans] for spans, _ in known]
        languages = [language_of(text) for text in texts]
        spoken = self._recognition.engine.languages
        modelled = [spoken is None or not code or code in spoken for code in languages]
        found = self._recognition.spans(texts, settled, modelled)
        return [
            replace(self._scrub_one(item, *read, *of, recognised), language=code, unmodelled=not knows)
            for item, read, of, recognised, code, knows in zip(
                items, composed, known, found, languages, modelled, strict=True
            )
        ]

    @cached_property
    def _staff(self) -> frozenset[str]:
        return frozenset(self._house.persons)

    @cached_property
    def _recognition(self) -> Any:
        from pipelines.deidentify.reports.engines import SpacyEngine, TransformersEngine
        from pipelines.deidentify.reports.general import GeneralAnalyzer
        from pipelines.deidentify.reports.recognisers import Recognition

        if self._general:
            return GeneralAnalyzer(self._house)
        return Recognition(TransformersEngine(self._model) if self._model else SpacyEngine(), self._house)

    def _scrub_one(
        self,
        item: ScrubItem,
        text: str,
        starts: Sequence[int],
        known: list[Span],
        doubtful: list[Span],
        recognised: list[Span],
    ) -> Scrubbed:
        who = item.identities
        dates = find_dates(text, who.dates, max(who.dates, default=None))
        spans = merge([known, [Span("DATE", d.start, d.end, "dates", 0.95) for d in dates], recognised], text)
        surrogates = Surrogates(self._secret, self._style, who)
        moved = {(d.start, d.end): d for d in dates}
        out, kept, replaced, at, length = [], [], [], 0, 0
        for span in spans:
            kept.append(text[at : span.start])
            new = self._replacement(span, text, moved, surrogates, item.shift_days)
            out += [text[at : span.start], new]
            length += span.start - at + len(new)
            replaced.append((length - len(new), length))
            at = span.end
        kept.append(text[at:])
        left = [d for d in doubtful if not any(s.start <= d.start and d.end <= s.end for s in spans)]
        return Scrubbed(
            "".join([*out, text[at:]]),
            [replace(s, start=starts[s.start], end=starts[s.end]) for s in spans],
            residue(" \N{BROKEN BAR} ".join(kept), who),
            [replace(s, start=starts[s.start], end=starts[s.end]) for s in left],
            replaced,
        )

    def _replacement(
        self, span: Span, text: str, moved: dict[tuple[int, int], DateSpan], surrogates: Surrogates, days: int
    ) -> str:
        if span.kind != "DATE":
            return surrogates.of(span.kind, text[span.start : span.end])
        found = moved.get((span.start, span.end))
        return found.shifted(days) if found and self._style == "surrogates" else "[DATE]"
