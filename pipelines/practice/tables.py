"""The tables of an export: reports.csv (half of the studies), labels.csv, lines.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.practice.devices import STRUCTURES
from pipelines.practice.plan import Plan, Study
from pipelines.practice.reports import csv_bytes

REPORT_COLUMNS = ("accession", "patient_id", "name", "ordered", "signed", "text")
LABEL_COLUMNS = ("accession", "labels", "ett", "sex", "age", "view", "ngt", "cvc", "swan_ganz", "chest_tube")


def write_tables(plan: Plan, truths: list[dict[str, Any]], root: Path) -> None:
    """Write the three tables from the plan and the truth of each study."""
    reports, labels, lines = [], [], []
    for study, truth in zip(plan.studies, truths, strict=True):
        person = plan.patients[study.patient].person
        if study.number % 2 == 0:
            row = {"accession": study.accession, "patient_id": person.mrn, "name": f"{person.last}, {person.first}"}
            reports.append(row | {"ordered": study.when, "signed": study.when, "text": truth["report"]["text"]})
        labels.append(_label_row(study, truth["study"]))
        lines += [json.dumps(line) for line in truth["lines"]]
    (root / "reports.csv").write_bytes(csv_bytes(reports, REPORT_COLUMNS))
    (root / "labels.csv").write_bytes(csv_bytes(labels, LABEL_COLUMNS))
    (root / "lines.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _label_row(study: Study, truth: dict[str, Any]) -> dict[str, str]:
    row = {"accession": study.accession, "labels": "|".join(truth["labels"])}
    row |= {"sex": truth["sex"], "age": truth["age"], "view": truth["view"]}
    for structure in STRUCTURES:
        present = "Y" if truth["lines"][structure]["present"] else "N"
        row[structure.replace("-", "_")] = "U" if study.unsure == structure else present
    return row
