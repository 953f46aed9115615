"""Reports, labels and masks of one part: joined to the part's studies by accession number and made safe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.images import Job, studies_of_part
from pipelines.deidentify.intake import report_from_json, rows_of_part, terms_of, write_fates
from pipelines.deidentify.labelmap import Record
from pipelines.deidentify.labels import LabelReader
from pipelines.deidentify.masks import MaskReader
from pipelines.deidentify.policy import Reports
from pipelines.deidentify.reasons import Quarantine, placed
from pipelines.deidentify.reports.counts import ADDENDUM, SUPERSEDED, WRITTEN, ReportCounts
from pipelines.deidentify.review.risk import report_factors
from pipelines.deidentify.studies import Studies
from pipelines.keys import DerivationSecret
from pipelines.parallel import Watch
from pipelines.scan.listing import Listing
from pipelines.tables import LABELS, MASKS, REPORTS, write_table

if TYPE_CHECKING:
    from pipelines.deidentify.reports.intake.report import SourceReport
    from pipelines.deidentify.reports.scrub import Scrubbed

# What the choice of reports for the review needs to know of each that was written.
TOLD = pa.schema(
    [
        ("accession", pa.string()),
        ("patient", pa.string()),
        ("source_id", pa.string()),
        ("risk", pa.list_(pa.string())),  # why a reviewer should look at it (review.sampling.FACTORS)
        ("words", pa.int32()),  # ordinary ones left that may be names
    ]
)


@dataclass(frozen=True)
class JoinedPart:
    """One part whose images are done."""

    number: int
    job: Job
    listing: Listing


@dataclass(frozen=True)
class Joined:
    """A report with the study it belongs to."""

    source_id: str
    place: str
    accession: str
    patient: str
    study: str
    date: date | None
    text: str
    identities: Identities


def piece(root: Path, part: int, table: str) -> Path:
    """A part's piece of a table: reports, what is told of them (TOLD), labels, masks, or the fates (intake.FATES)."""
    return root / "parts" / f"{table}-{part:05d}.parquet"


def counts_of_part(root: Path, part: int) -> Path:
    """What became of the reports of a part (ReportCounts)."""
    return root / "parts" / f"counts-reports-{part:05d}.json"


def join_part(part: JoinedPart, watch: Watch) -> None:
    """Write a part's reports, labels and masks; the fates, last, say that all of it is on disk."""
    job, rows = part.job, rows_of_part(part.job, part.number)
    studies = studies_of_part(job, part.number)
    texts = _Texts(job, studies)
    texts.scrub([row for row in rows if row["kind"] == "report"], watch)
    labels = LabelReader(studies, job.secret)
    for row in rows:
        if row["kind"] == "label":
            labels.add(row["source_id"], Record(**row["record"]), _terms(job, part.listing, row["source_id"]))
    masks = MaskReader(job.root, studies, job.secret)
    drawn = [row for row in rows if row["kind"] == "mask"]
    for row, fate in watch.over(drawn, lambda r: r["source_id"]):
        if fate:
            masks.rejected.append((row["source_id"], Quarantine(fate)))
        else:
            masks.add_mask(row["source_id"], row["relative"], job.export / row["relative"])
    for row in rows:
        if row["kind"] == "line":
            masks.add_line(row["source_id"], row["line"])
    write_table(piece(job.root, part.number, "reports"), texts.rows, REPORTS)
    write_table(piece(job.root, part.number, "told"), texts.told, TOLD)
    write_table(piece(job.root, part.number, "labels"), labels.rows(), LABELS)
    write_table(piece(job.root, part.number, "masks"), masks.table(), MASKS)
    texts.counts.write(counts_of_part(job.root, part.number))
    rejected, used = texts.rejected + labels.rejected + masks.rejected, texts.used | labels.used | masks.used
    write_fates(piece(job.root, part.number, "fates"), rejected, used, texts.review)


@lru_cache(maxsize=4)
def _terms(job: Job, listing: Listing, source_id: str) -> list[str]:
    return terms_of(job, listing, source_id)


def scrubbed(job: Job, part: int, rows: list[dict[str, Any]], watch: Watch) -> Iterator[tuple[Joined, Scrubbed]]:
    """The reports in these rows of a part with what scrubbing them gives, as when the part was joined."""
    return _Texts(job, studies_of_part(job, part)).scrubbed(rows, watch)


class _Texts:
    """The scrubbed reports of a part and what could not be used."""

    def __init__(self, job: Job, studies: Studies) -> None:
        self.job, self.studies = job, studies
        self.rows: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.rejected: list[tuple[str, Quarantine]] = []
        self.used: set[str] = set()
        self.review: dict[str, int] = {}
        self.counts = ReportCounts()

    def scrub(self, reports: list[dict[str, Any]], watch: Watch) -> None:
        """Scrub the reports that can be joined, by accession number."""
        for report, result in self.scrubbed(reports, watch):
            self._take(report, result)
        for rows in (self.rows, self.told):
            rows.sort(key=lambda row: row["accession"])

    def scrubbed(self, reports: list[dict[str, Any]], watch: Watch) -> Iterator[tuple[Joined, Scrubbed]]:
        """Each report that can be joined, and what scrubbing it gives."""
        for report, fate in watch.over(self._join(reports), lambda r: r.accession):
            if fate:
                self._reject(report, Quarantine(fate, "the report"))
                continue
            from pipelines.deidentify.reports.scrub import ScrubItem  # late: the first report loads what is heavy

            days = self.job.secret.shift_days(report.patient)
            scrubber = _scrubber(self.job.secret, self.job.policy.reports)
            (result,) = scrubber.scrub([ScrubItem(report.text, report.identities, report.patient, days)])
            yield report, result

    def _take(self, report: Joined, result: Scrubbed) -> None:
        self.counts.scrubbed(result.spans, result.language, result.unmodelled)
        self.review[report.source_id] = self.review.get(report.source_id, 0) + result.review
        if result.residue:
            self._reject(report, Quarantine("residue", "value in the report"))
            return
        shifted = report.date and self.job.policy.options.dates == "shift"
        row = {"accession": report.accession, "patient": report.patient, "study": report.study, "text": result.text}
        days = self.job.secret.shift_days(report.patient)
        row["date"] = (report.date + timedelta(days=days)).isoformat() if report.date and shifted else None
        self.rows.append(row)
        about = {"risk": report_factors(report.text, result), "words": result.review}
        self.told.append(
            {"accession": report.accession, "patient": report.patient, "source_id": report.source_id} | about
        )
        self.used.add(report.source_id)
        self.counts.fates[WRITTEN] += 1

    def _reject(self, report: Joined | SourceReport, verdict: Quarantine) -> None:
        self.rejected.append((report.source_id, placed(verdict, report.place)))
        self.counts.fates[verdict.reason] += 1

    def _join(self, rows: list[dict[str, Any]]) -> list[Joined]:
        from pipelines.deidentify.reports.intake.assemble import assemble

        joined = []
        for accession, group in groupby(sorted(rows, key=lambda r: r["accession"]), key=lambda r: r["accession"]):
            same = [report_from_json(row) for row in group]
            try:
                study = self.studies.join(accession)
                made = assemble(same)
            except Quarantine as verdict:
                for report in same:
                    self._reject(report, verdict)
                continue
            first = made.report
            self.counts.fates.update({ADDENDUM: len(made.used) - 1, SUPERSEDED: len(made.replaced)})
            self.used.update(r.source_id for r in same if r.source_id != first.source_id)
            identities = first.identities | self.studies.identities[accession]
            patient, uid = min(study.patients), min(study.studies)
            joined.append(
                Joined(first.source_id, first.place, accession, patient, uid, first.date, first.text, identities)
            )
        return joined


@lru_cache(maxsize=2)
def _scrubber(secret: DerivationSecret, how: Reports) -> Any:
    # Late and once for each process: the language model is heavy.
    from pipelines.deidentify.reports.scrub import ReportScrubber

    return ReportScrubber(secret, how.style, how.house, Path(how.model) if how.model else None, how.general)
