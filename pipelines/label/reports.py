"""The reports that a labeller reads: findings and impression, and why some are not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipelines import tables
from pipelines.build.texts import split_sections
from pipelines.deidentify.reports.language import language_of

# A report is a page. What is longer is a file that went astray, and would hold a process up for minutes.
LONGEST = 100_000
PART = 256


@dataclass(frozen=True)
class Report:
    """One de-identified report; `reason` says why its text is not read."""

    accession: str
    patient: str
    text: str
    reason: str | None = None
    foreign: bool = False
    """Not in English, as far as can be told."""


def read_parts(folder: Path) -> list[pa.Table]:
    """The reports of a de-identified folder by accession number, one a study, in parts of PART."""
    table = tables.read_table(folder / "reports.parquet", tables.REPORTS, columns=["accession", "patient", "text"])
    table = table.sort_by("accession")
    return [table.slice(start, PART) for start in range(0, len(table), PART)]


def reports_of(part: pa.Table) -> list[Report]:
    """The reports of a part with what a labeller reads of them."""
    return [_report(**row) for row in part.to_pylist()]


def _report(accession: str, patient: str, text: str | None) -> Report:
    if len(text or "") > LONGEST:
        return Report(accession, patient, "", "too_long")
    sections = split_sections(text or "")
    said = f"{sections.findings}\n{sections.impression}".strip()
    if not any(c.isalpha() for c in said):
        return Report(accession, patient, "", "empty")
    return Report(accession, patient, said, None, language_of(said) not in ("", "en"))
