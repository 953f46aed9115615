"""Which study a report belongs to where no accession number says so: by StudyInstanceUID, or by patient and day.

A UID names a study for certain, so it also helps where the accession number is another system's. Patient and day are
taken only where a report gives nothing else, and only when the export holds one study of the patient on that day.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pyarrow.dataset

from pipelines.deidentify.aliases import load_aliases
from pipelines.deidentify.images import Job
from pipelines.deidentify.reasons import Quarantine
from pipelines.scan.inventory import INVENTORY, part_name
from pipelines.scan.listing import Listing

if TYPE_CHECKING:
    from pipelines.deidentify.reports.intake.report import SourceReport

Keys = tuple[tuple[str, str], ...]
"""(column of the inventory, value) to look a study up by, the surest first."""


def keys_of(report: SourceReport, job: Job) -> Keys:
    """How the report's study may be found; one key where the accession number is all there is."""
    keys = [("accession", job.secret.accession(report.accession))] if report.accession else []
    if report.study_uid:
        keys.append(("study", job.secret.uid(report.study_uid)))
    if not keys and report.patient_id and report.date:
        aliases = load_aliases(job.aliases)
        for issuer in dict.fromkeys((report.issuer or job.issuer, job.issuer)):
            patient = job.secret.patient(*aliases.current(issuer, report.patient_id))
            keys.append(("visit", job.secret.visit(patient, report.date)))
    return tuple(keys)


def resolve(root: Path, listing: Listing, wanted: list[Keys]) -> list[str | Quarantine]:
    """The accession pseudonym of each of `wanted`, or why there is none. Reads the inventory once a column."""
    found = {column: _studies(root, listing, column, wanted) for column in ("accession", "study", "visit")}
    return [_one(keys, found) for keys in wanted]


def _one(keys: Keys, found: dict[str, dict[str, set[str]]]) -> str | Quarantine:
    for column, value in keys:
        studies = found[column].get(value, set())
        if len(studies) > 1:
            return Quarantine("ambiguous", "several studies of the patient on that day")
        if studies:
            return next(iter(studies))
    # An accession number that is not in the export keeps its own way: why it is not there is known where it would lie.
    if keys and keys[0][0] == "accession":
        return keys[0][1]
    return Quarantine("unmatched", "no such study, or none of the patient on that day")


def _studies(root: Path, listing: Listing, column: str, wanted: list[Keys]) -> dict[str, set[str]]:
    values = sorted({value for keys in wanted for name, value in keys if name == column})
    if not values:
        return {}
    files = [root / "inventory" / f"{part_name(n)}.parquet" for n in range(listing.parts)]
    table = pyarrow.dataset.dataset(files, schema=INVENTORY).to_table(
        columns={"key": pc.field(column), "accession": pc.field("accession")},
        filter=pc.field(column).isin(values) & pc.field("accession").is_valid(),
    )
    found: dict[str, set[str]] = {}
    for key, accession in zip(table["key"].to_pylist(), table["accession"].to_pylist(), strict=True):
        found.setdefault(key, set()).add(accession)
    return found
