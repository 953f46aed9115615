"""Parts of the work: reports a process labels at a time, each a file that is whole or not there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import tables
from pipelines.label.phrases import load_phrases
from pipelines.label.reports import Report, reports_of

# Labels, and for each study one row without a label that says whether it was read.
PART = pa.schema([*tables.LABELS, ("reason", pa.string())])


@dataclass(frozen=True)
class RulesPart:
    """Reports for one process at a time."""

    path: Path
    phrases: Path | None
    reports: pa.Table


def label_by_rules(part: RulesPart) -> int:
    """Label a part by rules, write it and return how many reports it holds. A part that is there is left as it is."""
    if not part.path.exists():
        labeller, reports = _labeller(part.phrases), reports_of(part.reports)
        found = labeller.label("" if r.reason or r.foreign else r.text for r in reports)
        # The phrases are English. In another language their silence would be taken for a clear chest.
        said = ("language" if r.foreign else labels for r, labels in zip(reports, found, strict=True))
        version = f"{labeller.phrases.version}-{labeller.phrases.digest}"
        tables.write_table(part.path, list(part_rows(reports, said, "rules", version)), PART)
    return len(part.reports)


def part_rows(reports: Iterable[Report], said: Iterable[Any], source: str, version: str) -> Iterable[dict[str, Any]]:
    """Rows of PART. `said` gives for each report its labels, or a reason why there are none."""
    for report, labels in zip(reports, said, strict=True):
        row: dict[str, Any] = {"accession": report.accession, "patient": report.patient}
        row |= {"source": source, "version": version}
        reason = report.reason or (labels if isinstance(labels, str) else None)
        yield row | {"reason": reason}
        if reason is None:
            for label in labels:
                yield row | {"label": label.name, "value": label.value, "position": label.position}


def read_part(path: Path) -> tuple[pa.Table, pa.Table]:
    """tables.LABELS and tables.LABELLED of a part."""
    table = pq.read_table(path, schema=PART)
    study = table["label"].is_null()
    return table.filter(table["label"].is_valid()).select(tables.LABELS.names), table.filter(study).select(
        tables.LABELLED.names
    )


@lru_cache(maxsize=1)
def _labeller(phrases: Path | None) -> Any:
    # Late and once for each process: spaCy takes its time.
    from pipelines.label.rules import RuleLabeller

    return RuleLabeller(load_phrases(phrases))
