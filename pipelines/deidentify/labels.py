"""`labels.csv` of an export: findings as a list of positives, lines and tubes as yes, no and uncertain."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.contract import BadInput
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.proof import Needles
from pipelines.deidentify.studies import Studies
from pipelines.keys import DerivationSecret

LINE_COLUMNS = {
    "ett": "ETT",
    "ngt": "NGT",
    "cvc": "CVC",
    "swan_ganz": "Swan-Ganz",
    "chest_tube": "Chest tube",
}
_VALUES = {"Y": 1, "N": 0, "U": -1}
# A label is a term, not a place for free text: letters, a little punctuation, no long numbers.
_NAME = re.compile(r"[^\W\d_][\w ()/&,.'-]{0,63}")
_LONG_NUMBER = re.compile(r"\d{3}")


class LabelReader:
    """Turns label rows into the long form of tables.LABELS; what cannot be joined goes to `rejected`."""

    def __init__(self, studies: Studies, secret: DerivationSecret) -> None:
        self.studies, self.secret = studies, secret
        self.rejected: list[tuple[str, Quarantine]] = []
        self.used: set[str] = set()

    def read(self, files: Iterable[tuple[str, Path]]) -> list[dict[str, Any]]:
        """All label rows of (source_id, path) files, sorted. BadInput when no row fits a study of the export."""
        table: dict[tuple[str, str], dict[str, Any]] = {}
        for source_id, path in files:
            records = list(_records(path))
            names = sorted({n for r in records for n in _positives(r)} & set(_permitted(records)))
            matched = 0
            for record in records:
                try:
                    rows = self._rows(record, names)
                except Quarantine as verdict:
                    self.rejected.append((source_id, verdict))
                    matched += verdict.reason == "opted_out"
                    continue
                matched += 1
                self.used.add(source_id)
                for row in rows:
                    self._add(table, row, source_id)
            if records and not matched:
                raise BadInput("No row of labels.csv names an accession number of this export; check the label file.")
        return [table[key] for key in sorted(table)]

    def _rows(self, record: dict[str, str], names: list[str]) -> list[dict[str, Any]]:
        accession = self.secret.accession(record.get("accession") or "")
        study = self.studies.join(accession)
        patient = next(iter(study.patients))
        values: dict[str, int] = {}
        if positives := _positives(record):
            needles = Needles(self.studies.identities[accession])
            if any(needles.in_text(name) == "value" for name in positives) or not positives <= set(names):
                raise Quarantine("malformed", "a label is no plain term")
            values = {name: int(name in positives) for name in names}
        for column, label in LINE_COLUMNS.items():
            answer = (record.get(column) or "").strip().upper()
            if answer and answer not in _VALUES:
                raise Quarantine("malformed", f"column {column} holds neither Y, N nor U")
            if answer:
                values[label] = _VALUES[answer]
        row = {"accession": accession, "patient": patient, "source": "labels.csv"}
        return [{**row, "label": label, "value": value} for label, value in values.items()]

    def _add(self, table: dict[tuple[str, str], dict[str, Any]], row: dict[str, Any], source_id: str) -> None:
        """Two rows of one study that disagree leave the label uncertain."""
        key = (row["accession"], row["label"])
        if key in table and table[key]["value"] != row["value"]:
            self.rejected.append((source_id, Quarantine("ambiguous", "two rows of one study disagree")))
            row = {**row, "value": -1}
        table[key] = row


def _records(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as f:
            reader = csv.DictReader(f)
            if "accession" not in (reader.fieldnames or ()):
                raise BadInput("labels.csv has no column 'accession'; name its columns in the first line.")
            yield from reader
    except (UnicodeDecodeError, csv.Error):
        raise BadInput("labels.csv is not a CSV file in UTF-8; save it as one.") from None


def _positives(record: dict[str, str]) -> set[str]:
    return {name.strip() for name in (record.get("labels") or "").split("|")} - {""}


def _permitted(records: list[dict[str, str]]) -> Iterator[str]:
    for record in records:
        for name in _positives(record):
            if _NAME.fullmatch(name) and not _LONG_NUMBER.search(name):
                yield name
