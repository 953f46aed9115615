"""How the reports of an export came and where each of them went. Counts only: nothing here names anybody."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pipelines.contract import read_json, write_atomic
from pipelines.deidentify.reports.spans import Span

WRITTEN, ADDENDUM, SUPERSEDED = "written", "addendum", "superseded"
"""Fates beside the reason codes: written as the report of its study, joined to one as an addendum, given way to one."""


@dataclass
class ReportCounts:
    """Every input (a row, message, resource or document) has one form and, in the end, one fate."""

    forms: Counter[str] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
    """Character sets, of the inputs whose text was read."""
    mapped: Counter[str] = field(default_factory=Counter)
    """Inputs with a column of the site's own name, by field."""
    fates: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    """Of scrubbed reports; `unclear` for a text too short or mixed to tell."""
    unmodelled: Counter[str] = field(default_factory=Counter)
    """Languages of reports that no model has read."""
    finds: Counter[str] = field(default_factory=Counter)
    """What was taken out, by recogniser."""
    found_in: Counter[str] = field(default_factory=Counter)
    """Reports in which a recogniser found anything."""
    kinds: Counter[str] = field(default_factory=Counter)

    def came(self, form: str, encoding: str = "", mapped: Iterable[str] = ()) -> None:
        """An input was met; `encoding` where its text could be read."""
        self.forms[form] += 1
        self.mapped.update(mapped)
        if encoding:
            self.encodings[encoding] += 1

    def lost(self, form: str, reason: str) -> None:
        """An input was met that is no usable report; nothing without a form."""
        if form:
            self.forms[form] += 1
            self.fates[reason] += 1

    def scrubbed(self, spans: Collection[Span], language: str, unmodelled: bool) -> None:
        """A report went through the recognisers, which took `spans` out (scrub.Scrubbed)."""
        finds = Counter(span.recogniser for span in spans)
        self.languages[language or "unclear"] += 1
        self.unmodelled[language] += unmodelled
        self.finds.update(finds)
        self.found_in.update(finds.keys())
        self.kinds.update(span.kind for span in spans)

    def add(self, other: ReportCounts) -> None:
        for name in _NAMES:
            getattr(self, name).update(getattr(other, name))

    def told(self) -> dict[str, Any]:
        """As result.json says it: sorted, with the number of inputs."""
        counts = {name: {k: n for k, n in sorted(getattr(self, name).items()) if n} for name in _NAMES}
        return {"read": self.forms.total(), **counts}

    def write(self, path: Path) -> None:
        write_atomic(path, json.dumps({name: getattr(self, name) for name in _NAMES}) + "\n")

    @classmethod
    def read(cls, path: Path) -> ReportCounts:
        return cls(**{name: Counter(counts) for name, counts in read_json(path).items()})


_NAMES = tuple(f.name for f in fields(ReportCounts))
