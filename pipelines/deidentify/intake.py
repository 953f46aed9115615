"""The tables beside the images, brought to the parts their studies lie in: reports, labels, masks and polylines.

Two steps, like those of the inventory: each file is read once and its rows are spread by accession number, then those
of a bucket are dealt out to its parts. What is spread is PHI and lies sealed in the vault, until the run ends.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.contract import read_json, write_atomic
from pipelines.deidentify.images import Job
from pipelines.deidentify.joinkeys import keys_of, resolve
from pipelines.deidentify.labelmap import read_records
from pipelines.deidentify.labels import plain_terms
from pipelines.deidentify.masks import accession_of_line, accession_of_mask, lines
from pipelines.deidentify.reasons import Quarantine, placed
from pipelines.deidentify.reports.counts import ReportCounts
from pipelines.deidentify.reports.intake import form_of
from pipelines.deidentify.reports.intake.documents import CDA_CLASS, REPORT_CLASSES, read_document
from pipelines.deidentify.studies import identities_from_json, identities_to_json
from pipelines.deidentify.vault import SOURCES, seal, unseal
from pipelines.parallel import Watch
from pipelines.phases import Crew
from pipelines.scan.inventory import part_name
from pipelines.scan.listing import Listing
from pipelines.spread import bucket_of
from pipelines.tables import write_table

if TYPE_CHECKING:
    from pipelines.deidentify.reports.intake.report import Rejected, SourceReport

# What became of the rows of table files: a row for each that was rejected, and one for each file that was used.
FATES = pa.schema(
    [
        ("source_id", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("used", pa.bool_()),
        ("review", pa.int32()),  # words to be reviewed in the reports of the file
    ]
)
SPOOL_ROWS = 4096
"""Rows held in memory before they are sealed away."""


@dataclass(frozen=True)
class Bucket:
    """One bucket of an export: the table files that lie in it, or the accession numbers.

    The table files whose parts refer to each other (FHIR) are read together, as one bucket more.
    """

    number: int
    job: Job
    listing: Listing


@dataclass(frozen=True)
class _File:
    source_id: str
    kind: str
    relative: str
    size: int
    reason: str = ""
    """Why the scan refused it."""

    @property
    def form(self) -> str:
        """What its reports are counted as; empty for a file of something else."""
        forms = {"report": form_of(self.relative), "object": "DICOM SR", "other": "DICOM CDA"}
        return forms.get(self.kind, "")


def take_in(job: Job, listing: Listing, crew: Crew) -> None:
    """Seal the rows of each part's tables under `vault/tables`."""
    buckets = [Bucket(n, job, listing) for n in range(listing.buckets)]
    readers = [*buckets, Bucket(listing.buckets, job, listing)]
    crew.perform("tables", read_tables, readers, lambda b: fates_of_files(job.root, b.number))
    crew.perform("tables by study", deal, buckets, lambda b: _dealt(job.root, b.number))


def parts_with_tables(root: Path, listing: Listing) -> list[int]:
    """The parts that have something to be joined."""
    return [n for bucket in range(listing.buckets) for n in read_json(_dealt(root, bucket))["parts"]]


def rows_of_part(job: Job, part: int) -> list[dict[str, Any]]:
    """Rows of tables in a part: kind (report, label, mask, line), source_id and what that kind has."""
    rows: list[dict[str, Any]] = unseal(_table_vault(job.root, part), job.vault_key)
    return rows


def terms_of(job: Job, listing: Listing, source_id: str) -> list[str]:
    """The labels that a label file uses anywhere: what a study's row does not name is absent there."""
    terms: list[str] = unseal(_terms(job.root, bucket_of(source_id, listing.buckets)), job.vault_key)[source_id]
    return terms


def fates_of_files(root: Path, bucket: int) -> Path:
    """What in the table files of a bucket could not even be read (FATES)."""
    return root / "parts" / f"tables-{bucket:05d}.parquet"


def counts_of_files(root: Path, bucket: int) -> Path:
    """How the reports in the table files of a bucket came (ReportCounts)."""
    return root / "parts" / f"counts-tables-{bucket:05d}.json"


def read_fates_of_files(root: Path, listing: Listing, bucket: int) -> list[dict[str, Any]]:
    """FATES rows of the table files in a bucket, whoever read them."""
    own = pq.read_table(fates_of_files(root, bucket), schema=FATES).to_pylist()
    together = pq.read_table(fates_of_files(root, listing.buckets), schema=FATES).to_pylist()
    return own + [row for row in together if bucket_of(row["source_id"], listing.buckets) == bucket]


# ---- reading -----------------------------------------------------------------------------------------------------


@dataclass
class _Spool:
    """Rows on their way to the buckets of their accession numbers."""

    bucket: Bucket
    waiting: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    sealed: int = 0

    def __post_init__(self) -> None:
        for left in _steps(self.bucket.job.root).glob(f"*/{self.bucket.number:05d}-*.vault"):
            left.unlink()  # of an attempt that was cut short

    def add(self, accession: str, row: dict[str, Any]) -> None:
        """`accession` is the pseudonym."""
        self.waiting.append((bucket_of(accession, self.bucket.listing.buckets), {"accession": accession, **row}))
        if len(self.waiting) >= SPOOL_ROWS:
            self.flush()

    def flush(self) -> None:
        apart: dict[int, list[dict[str, Any]]] = {}
        for number, row in self.waiting:
            apart.setdefault(number, []).append(row)
        for number, rows in apart.items():
            name = f"{self.bucket.number:05d}-{self.sealed:06d}.vault"
            seal(_steps(self.bucket.job.root) / f"{number:05d}" / name, rows, self.bucket.job.vault_key)
        self.waiting, self.sealed = [], self.sealed + 1


@dataclass
class _Elsewhere:
    """Rows whose accession number is absent or not all they say of their study: looked up together."""

    bucket: Bucket
    spool: _Spool
    waiting: list[dict[str, Any]] = field(default_factory=list)
    fates: list[tuple[str, Quarantine]] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    """Reports among them, by reason."""

    def add(self, row: dict[str, Any]) -> None:
        self.waiting.append(row)
        if len(self.waiting) >= SPOOL_ROWS:
            self.close()

    def close(self) -> list[tuple[str, Quarantine]]:
        """Spool what was found; what belongs to no study so far."""
        keys = [row.get("keys", ()) for row in self.waiting]
        found = resolve(self.bucket.job.root, self.bucket.listing, keys) if keys else []
        for row, study in zip(self.waiting, found, strict=True):
            del row["accession"]
            if isinstance(study, Quarantine):
                place = row["report"]["place"] if row["kind"] == "report" else ""
                self.fates.append((row["source_id"], placed(study, place)))
                self.lost[study.reason] += row["kind"] == "report"
            else:
                self.spool.add(study, row)
        self.waiting = []
        return self.fates


def read_tables(bucket: Bucket, watch: Watch) -> None:
    """Read the table files of one bucket and spread their rows; what cannot be read is written down last."""
    job, spool, fates = bucket.job, _Spool(bucket), []
    elsewhere, counts = _Elsewhere(bucket, spool), ReportCounts()
    terms: dict[str, list[str]] = {}
    groups, refused = _groups(bucket)
    for file in refused:
        counts.lost(file.form, file.reason)
    for files, fate in watch.over(groups, lambda g: g[0].source_id, lambda g: sum(f.size for f in g)):
        form = files[0].form
        if fate:
            fates += [(file.source_id, Quarantine(fate)) for file in files]
            for file in files:
                counts.lost(file.form, fate)
            continue
        if files[0].kind == "label" and not _is_mapping(files[0]):
            terms[files[0].source_id] = plain_terms(job.export / files[0].relative)
        for at, (source_id, row) in enumerate(_rows(files, job)):
            if isinstance(row, Quarantine):
                fates.append((source_id, row))
                counts.lost(form, row.reason)
                continue
            if row["kind"] == "report":
                counts.came(form, row["report"]["encoding"], row["report"]["mapped"])
            if len(row.get("keys", ())) > 1 or not row["accession"]:
                elsewhere.add({"source_id": source_id, "at": at, **row})
            else:
                accession = job.secret.accession(row.pop("accession"))
                spool.add(accession, {"source_id": source_id, "at": at, **row})
    fates += elsewhere.close()
    counts.fates.update(elsewhere.lost)
    spool.flush()
    seal(_terms(job.root, bucket.number), terms, job.vault_key)
    counts.write(counts_of_files(job.root, bucket.number))
    write_fates(fates_of_files(job.root, bucket.number), fates, set(), {})


def _groups(bucket: Bucket) -> tuple[list[list[_File]], list[_File]]:
    """The files of a bucket, those that refer to each other in one group; and those that the scan has refused."""
    found = list(_files(bucket))
    files, refused = [f for f in found if not f.reason], [f for f in found if f.reason]
    return ([files] if files and _refers(files[0]) else [[file] for file in files]), refused


def _files(bucket: Bucket) -> Iterator[_File]:
    job = bucket.job
    together = bucket.number == bucket.listing.buckets
    parts = range(bucket.listing.parts) if together else bucket.listing.parts_of(bucket.number)
    for part in parts:
        wanted = pq.read_table(
            job.root / "inventory" / f"{part_name(part)}.parquet",
            columns=["source_id", "kind", "size", "state", "reason"],
            filters=_WANTED,
        ).to_pylist()
        if wanted:
            paths = unseal(job.root / "vault" / SOURCES / f"{part_name(part)}.vault", job.vault_key)
            for row in wanted:
                reason = row["reason"] if row["kind"] == "report" and row["state"] != "ok" else ""
                file = _File(row["source_id"], row["kind"], paths[row["source_id"]], row["size"], reason)
                if _refers(file) == together:
                    yield file


# Tables, and the documents whose text is a report; an encapsulated one stays in quarantine as a file. Reports that the
# scan has refused, empty ones above all, are counted among the reports.
_WANTED = [
    [("state", "=", "ok"), ("kind", "in", ["label", "mask"])],
    [("kind", "=", "report")],
    [("state", "=", "ok"), ("kind", "=", "object"), ("sop_class", "in", sorted(REPORT_CLASSES))],
    [("reason", "=", "document"), ("sop_class", "=", CDA_CLASS)],
]


def _is_mapping(file: _File) -> bool:
    """Whether a file says how the label table is written, and is read with it."""
    return file.relative.lower().endswith(".toml")


def _refers(file: _File) -> bool:
    """Whether a file's resources refer to those of others."""
    return file.kind == "report" and file.relative.lower().endswith((".ndjson", ".json"))


def _rows(files: list[_File], job: Job) -> Iterator[tuple[str, dict[str, Any] | Quarantine]]:
    """(source_id, row with its original accession number, or why there is none) of a group of files."""
    file = files[0]
    match file.kind:
        case "report":
            yield from _reports(files, job)
        case "object" | "other":
            yield from _said(read_document(file.source_id, job.export / file.relative), job)
        case "label" if not _is_mapping(file):
            for record in read_records(job.export / file.relative):
                row = {"kind": "label", "accession": record.accession, "record": asdict(record)}
                yield file.source_id, row
        case "mask" if file.relative.lower().endswith(".png"):
            accession = accession_of_mask(file.relative)
            yield file.source_id, {"kind": "mask", "accession": accession, "relative": file.relative}
        case "mask":
            try:
                for line in lines(job.export / file.relative):
                    yield file.source_id, {"kind": "line", "accession": accession_of_line(line), "line": line}
            except Quarantine as verdict:
                yield file.source_id, verdict


def _reports(files: list[_File], job: Job) -> Iterator[tuple[str, dict[str, Any] | Quarantine]]:
    from pipelines.deidentify.reports.intake import read_reports

    found = [(file.source_id, job.export / file.relative) for file in files]
    yield from _said(read_reports(job.export, found, dict(job.report_columns)), job)


def _said(reports: Iterable[SourceReport | Rejected], job: Job) -> Iterator[tuple[str, dict[str, Any] | Quarantine]]:
    from pipelines.deidentify.reports.intake import SourceReport

    for report in reports:
        if isinstance(report, SourceReport):
            row = {"kind": "report", "accession": report.accession, "report": _report_to_json(report)}
            yield report.source_id, row | {"keys": keys_of(report, job)}
        else:
            yield report.source_id, Quarantine(report.reason, report.detail)


def _report_to_json(report: SourceReport) -> dict[str, Any]:
    values = {f.name: getattr(report, f.name) for f in fields(report)}
    day, known = report.date.isoformat() if report.date else None, identities_to_json(report.identities)
    return values | {"date": day, "identities": known, "status": str(report.status.value)}


def report_from_json(row: dict[str, Any]) -> SourceReport:
    """The report in a row of a part's tables."""
    from pipelines.deidentify.reports.intake.report import SourceReport, Status

    values = row["report"]
    day = date.fromisoformat(values["date"]) if values["date"] else None
    known = identities_from_json(values["identities"])
    return SourceReport(**{**values, "date": day, "identities": known, "status": Status(values["status"])})


def write_fates(path: Path, rejected: list[tuple[str, Quarantine]], used: set[str], review: dict[str, int]) -> None:
    """Write rejected rows and, by file, whether any row was used and the words to be reviewed; sorted."""
    rows = [{"source_id": i, "reason": v.reason, "detail": v.detail or None} for i, v in rejected]
    rows += [{"source_id": i, "used": i in used, "review": review.get(i, 0)} for i in used | review.keys()]
    blank: dict[str, Any] = dict.fromkeys(FATES.names)
    rows = sorted((blank | row for row in rows), key=lambda r: tuple(str(r[name]) for name in FATES.names))
    write_table(path, rows, FATES)


# ---- dealing -----------------------------------------------------------------------------------------------------


def deal(bucket: Bucket, _: Watch) -> None:
    """Seal what was spread to one bucket for each of its parts; which parts have any is written last."""
    job = bucket.job
    parts: dict[int, list[dict[str, Any]]] = {}
    for path in sorted((_steps(job.root) / f"{bucket.number:05d}").glob("*.vault")):
        for row in unseal(path, job.vault_key):
            parts.setdefault(bucket_of(row["accession"], bucket.listing.parts), []).append(row)
    for number, rows in parts.items():
        rows.sort(key=lambda row: (row["kind"], row["source_id"], row["at"]))
        seal(_table_vault(job.root, number), rows, job.vault_key)
    write_atomic(_dealt(job.root, bucket.number), json.dumps({"parts": sorted(parts)}) + "\n")


def _steps(root: Path) -> Path:
    return root / "vault" / "tables" / "steps"


def _table_vault(root: Path, part: int) -> Path:
    return root / "vault" / "tables" / f"{part_name(part)}.vault"


def _terms(root: Path, bucket: int) -> Path:
    return root / "vault" / "tables" / f"terms-{bucket:05d}.vault"


def _dealt(root: Path, bucket: int) -> Path:
    return root / "parts" / f"dealt-{bucket:05d}.json"
