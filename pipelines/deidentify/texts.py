"""Reports of an export: joined to their study by accession number, scrubbed in chunks over processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.deidentify.identities import Identities, Quarantine
from pipelines.deidentify.studies import Studies
from pipelines.keys import DerivationSecret
from pipelines.parallel import Pool, Progress, Watch
from pipelines.tables import REPORTS, write_table

if TYPE_CHECKING:
    from pipelines.deidentify.reports.intake import SourceReport

CHUNK = pa.schema([*REPORTS, ("source_id", pa.string()), ("reason", pa.string()), ("review", pa.int32())])
CHUNK_REPORTS = 32


@dataclass(frozen=True)
class Joined:
    """A report with the study it belongs to. PHI: travels between processes through pipes only."""

    source_id: str
    accession: str
    patient: str
    study: str
    date: date | None
    text: str
    identities: Identities


@dataclass(frozen=True)
class Chunk:
    """Reports for one process at a time."""

    path: Path
    secret: DerivationSecret
    style: str
    shift_dates: bool
    reports: tuple[Joined, ...]


@dataclass
class Texts:
    """The scrubbed reports and what could not be used."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[tuple[str, Quarantine]] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    duplicates: int = 0
    review: int = 0


def scrub_reports(
    reports: Iterable[Any],
    studies: Studies,
    secret: DerivationSecret,
    style: str,
    shift_dates: bool,
    root: Path,
    pool: Pool,
) -> Texts:
    """Scrub `reports` (SourceReport or Rejected of reports.intake); finished chunks are taken from disk."""
    texts = Texts()
    joined = _join(reports, studies, secret, texts)
    chunks = []
    for start in range(0, len(joined), CHUNK_REPORTS):
        path = root / "parts" / f"reports-{start // CHUNK_REPORTS:05d}.parquet"
        chunks.append(Chunk(path, secret, style, shift_dates, tuple(joined[start : start + CHUNK_REPORTS])))
    left = [c for c in chunks if not c.path.exists()]
    done = len(joined) - sum(len(c.reports) for c in left)
    for _ in pool.map(scrub_chunk, left, Progress(pool.run, len(joined), "reports", done)):
        pass
    for chunk in chunks:
        for row in pq.read_table(chunk.path).to_pylist():
            texts.review += row["review"]
            if row["reason"]:
                detail = "value in the report" if row["reason"] == "residue" else "the report"
                texts.rejected.append((row["source_id"], Quarantine(row["reason"], detail)))
            else:
                texts.used.add(row["source_id"])
                texts.rows.append({name: row[name] for name in REPORTS.names})
    return texts


def scrub_chunk(chunk: Chunk, watch: Watch) -> None:
    """Scrub one chunk and write it."""
    from pipelines.deidentify.reports.scrub import ScrubItem

    scrubber, rows = _scrubber(chunk.secret, chunk.style), []
    for report, fate in watch.over(chunk.reports, lambda r: r.accession):
        days = chunk.secret.shift_days(report.patient)
        text, reason, review = "", fate, 0
        if reason is None:
            (result,) = scrubber.scrub([ScrubItem(report.text, report.identities, report.patient, days)])
            text, reason, review = result.text, "residue" if result.residue else None, result.review
        moved = report.date + timedelta(days=days) if report.date and chunk.shift_dates else None
        rows.append(
            {
                "accession": report.accession,
                "patient": report.patient,
                "study": report.study,
                "date": moved.isoformat() if moved else None,
                "text": "" if reason else text,
                "source_id": report.source_id,
                "reason": reason,
                "review": review,
            }
        )
    write_table(chunk.path, sorted(rows, key=lambda r: r["accession"]), CHUNK)


def _join(reports: Iterable[Any], studies: Studies, secret: DerivationSecret, texts: Texts) -> list[Joined]:
    from pipelines.deidentify.reports.intake import SourceReport
    from pipelines.deidentify.reports.intake.assemble import assemble

    by_accession: dict[str, list[SourceReport]] = {}
    for report in reports:
        if isinstance(report, SourceReport):
            by_accession.setdefault(secret.accession(report.accession), []).append(report)
        else:
            texts.rejected.append((report.source_id, Quarantine(report.reason, report.detail)))
    joined = []
    for accession, same in sorted(by_accession.items()):
        try:
            study = studies.join(accession)
            made = assemble(same)
        except Quarantine as verdict:
            texts.rejected += [(r.source_id, verdict) for r in same]
            continue
        texts.duplicates += len(made.replaced)
        texts.used.update(r.source_id for r in same if r.source_id != made.report.source_id)
        identities = made.report.identities | studies.identities[accession]
        first = made.report
        patient, uid = min(study.patients), min(study.studies)
        joined.append(Joined(first.source_id, accession, patient, uid, _day(first.date), first.text, identities))
    return joined


def _day(value: Any) -> date | None:
    if isinstance(value, date) or not value:
        return value or None
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None


@lru_cache(maxsize=2)
def _scrubber(secret: DerivationSecret, style: str) -> Any:
    # Late and once for each process: the language model is heavy.
    from pipelines.deidentify.reports.scrub import ReportScrubber

    return ReportScrubber(secret, style)
