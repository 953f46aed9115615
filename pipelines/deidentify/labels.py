"""`labels.csv` of an export, joined to its studies: what is listed is present, columns say yes, no or uncertain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.labelmap import Record, is_plain, read_records
from pipelines.deidentify.proof import Needles
from pipelines.deidentify.studies import Studies
from pipelines.deidentify.vocabulary import is_term
from pipelines.keys import DerivationSecret

COMMON = 5


class LabelReader:
    """Turns label rows into the long form of tables.LABELS; what cannot be joined goes to `rejected`."""

    def __init__(self, studies: Studies, secret: DerivationSecret) -> None:
        self.studies, self.secret = studies, secret
        self.table: dict[tuple[str, str], dict[str, Any]] = {}
        self.rejected: list[tuple[str, Quarantine]] = []
        self.used: set[str] = set()

    def add(self, source_id: str, record: Record, terms: list[str]) -> None:
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

    def _rows(self, record: Record, terms: list[str]) -> list[dict[str, Any]]:
        accession = self.secret.accession(record.accession)
        study = self.studies.join(accession)
        patient = next(iter(study.patients))
        values: dict[str, int] = {}
        if positives := set(record.positives):
            needles = Needles(self.studies.identities[accession])
            if any(needles.in_text(name) == "value" for name in positives) or not positives <= set(terms):
                raise Quarantine("malformed", "a label is no plain term")
            values = {name: int(name in positives) for name in terms}
        if record.wrong:
            raise Quarantine("malformed", f"column {record.wrong} says neither present, absent nor uncertain")
        values |= record.values
        row = {"accession": accession, "patient": patient, "source": "site", "version": record.version}
        return [{**row, "label": label, "value": value} for label, value in values.items()]

    def _add(self, row: dict[str, Any], source_id: str) -> None:
        """Two rows of one study that disagree leave the label uncertain."""
        table, key = self.table, (row["accession"], row["label"])
        if key in table and table[key]["value"] != row["value"]:
            self.rejected.append((source_id, Quarantine("ambiguous", "two rows of one study disagree")))
            row = {**row, "value": -1}
        table[key] = row


def plain_terms(path: Path) -> list[str]:
    """The labels that a file uses, what is no plain term aside.

    A term becomes a label of every study of the file, so a name typed in its place would be told of all of them: a
    word that is not clinical counts only when COMMON studies are given it.
    """
    studies: dict[str, set[str]] = {}
    for record in read_records(path):
        for name in record.positives:
            named = studies.setdefault(name, set())
            if len(named) < COMMON:
                named.add(record.accession)
    safe = (name for name, named in studies.items() if is_term(name) or len(named) >= COMMON)
    return sorted(name for name in safe if is_plain(name))
