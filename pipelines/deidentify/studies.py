"""The studies that were written, by accession pseudonym: what reports, labels and masks are joined to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pipelines.deidentify.identities import Identities, Quarantine

_LATERAL = {"LL", "RL", "LATERAL", "LAT"}


def identities_to_json(identities: Identities) -> dict[str, list[str]]:
    """Identities as the vault keeps them."""
    return {kind: sorted(map(str, values)) for kind, values in vars(identities).items()}


def identities_from_json(values: dict[str, list[str]]) -> Identities:
    """The inverse of identities_to_json."""
    found = {kind: frozenset(held) for kind, held in values.items() if kind != "dates"}
    return Identities(**found, dates=frozenset(date.fromisoformat(d) for d in values.get("dates", ())))


@dataclass
class Study:
    """One accession number of the export."""

    patients: set[str] = field(default_factory=set)
    studies: set[str] = field(default_factory=set)
    frontal_sizes: set[tuple[int, int]] = field(default_factory=set)
    """(rows, columns) of its frontal images."""


class Studies:
    """Looks an accession number's study up; rows without one are quarantined, not dropped."""

    def __init__(self, rows: list[dict[str, Any]], identities: dict[str, Identities], opted_out: set[str]) -> None:
        self.identities, self.opted_out = identities, opted_out
        self.by_accession: dict[str, Study] = {}
        self.claimed = {row["claimed"] for row in rows}
        for row in rows:
            if row["state"] != "written" or row["kind"] != "image":
                continue
            study = self.by_accession.setdefault(row["accession"], Study())
            study.patients.add(row["patient"])
            study.studies.add(row["study"])
            if (row["view"] or "").upper() not in _LATERAL:
                study.frontal_sizes.add((row["rows"], row["columns"]))

    def join(self, accession: str) -> Study:
        """The study of an accession pseudonym; raises Quarantine when there is none, or two patients share it."""
        if accession in self.opted_out:
            raise Quarantine("opted_out")
        study = self.by_accession.get(accession)
        if study is None:
            known = accession in self.claimed
            raise Quarantine("unmatched", "its images are in quarantine" if known else "no such accession number")
        if len(study.patients) > 1:
            raise Quarantine("ambiguous", "the accession number is shared by two patients")
        return study
