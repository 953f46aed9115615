"""`labels.csv` of an export: findings as a list of positives, lines and tubes as yes, no and uncertain."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.contract import BadInput
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.proof import Needles
from pipelines.deidentify.studies import Studies
from pipelines.deidentify.vocabulary import is_term
from pipelines.keys import DerivationSecret

LINE_COLUMNS = {
    "ett": "ETT",
    "ngt": "NGT",
    "cvc": "CVC",
    "swan_ganz": "Swan-Ganz",
    "chest_tube": "Chest tube",
}
VERSION = "1"
_VALUES = {"Y": 1, "N": 0, "U": -1}
# A label is a term, not a place for free text: letters, a little punctuation, no long numbers.
_NAME = re.compile(r"[^\W\d_][\w ()/&,.'-]{0,63}")
_LONG_NUMBER = re.compile(r"\d{3}")
COMMON = 5


class LabelReader:
    """Turns label rows into the long form of tables.LABELS; what cannot be joined goes to `rejected`."""

    def __init__(self, studies: Studies, secret: DerivationSecret) -> None:
        self.studies, self.secret = studies, secret
        self.table: dict[tuple[str, str], dict[str, Any]] = {}
        self.rejected: list[tuple[str, Quarantine]] = []
        self.used: set[str] = set()

    def add(self, source_id: str, record: dict[str, str], terms: list[str]) -> None:
        """Take one record; `terms` are the labels that its file uses (plain_terms)."""
        try:
            rows = self._rows(record, terms)
        except Quarantine as verdict:
            self.rejected.append((source_id, verdict))
            return
        self.used.add(source_id)
        for row in rows:
            self._add(row, source_id)

    def rows(self) -> list[dict[str, Any]]:
        """All label rows, by accession number and label."""
        return [self.table[key] for key in sorted(self.table)]

    def _rows(self, record: dict[str, str], terms: list[str]) -> list[dict[str, Any]]:
        accession = self.secret.accession(record.get("accession") or "")
        study = self.studies.join(accession)
        patient = next(iter(study.patients))
        values: dict[str, int] = {}
        if positives := _positives(record):
            needles = Needles(self.studies.identities[accession])
            if any(needles.in_text(name) == "value" for name in positives) or not positives <= set(terms):
                raise Quarantine("malformed", "a label is no plain term")
            values = {name: int(name in positives) for name in terms}
        for column, label in LINE_COLUMNS.items():
            answer = (record.get(column) or "").strip().upper()
            if answer and answer not in _VALUES:
                raise Quarantine("malformed", f"column {column} holds neither Y, N nor U")
            if answer:
                values[label] = _VALUES[answer]
        row = {"accession": accession, "patient": patient, "source": "site", "version": VERSION}
        return [{**row, "label": label, "value": value} for label, value in values.items()]

    def _add(self, row: dict[str, Any], source_id: str) -> None:
        """Two rows of one study that disagree leave the label uncertain."""
        table, key = self.table, (row["accession"], row["label"])
        if key in table and table[key]["value"] != row["value"]:
            self.rejected.append((source_id, Quarantine("ambiguous", "two rows of one study disagree")))
            row = {**row, "value": -1}
        table[key] = row


def records(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a label file, one at a time. BadInput when it is none."""
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


def plain_terms(path: Path) -> list[str]:
    """The labels that a file uses, what is no plain term aside.

    A term becomes a label of every study of the file, so a name typed in its place would be told of all of them: a
    word that is not clinical counts only when COMMON studies are given it.
    """
    studies: dict[str, set[str]] = {}
    for record in records(path):
        for name in _positives(record):
            named = studies.setdefault(name, set())
            if len(named) < COMMON:
                named.add(record.get("accession") or "")
    safe = (name for name, named in studies.items() if is_term(name) or len(named) >= COMMON)
    return sorted(name for name in safe if _is_plain(name))


def _is_plain(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not _LONG_NUMBER.search(name)
