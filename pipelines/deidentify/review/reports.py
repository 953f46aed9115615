"""Reports in the review pack: which are looked at, and each before and after, sealed like the pictures.

vault/review/NNNN.vault   the report before, what was taken out of it and what was left in doubt, and the report after
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from pipelines.deidentify.images import Job
from pipelines.deidentify.intake import rows_of_part
from pipelines.deidentify.review.marks import Mark
from pipelines.deidentify.review.sampling import Chosen
from pipelines.deidentify.texts import piece, scrubbed
from pipelines.deidentify.vault import seal, sealed_item, unseal
from pipelines.parallel import Watch
from pipelines.tables import REPORTS

if TYPE_CHECKING:
    from pipelines.deidentify.reports.scrub import Scrubbed


@dataclass(frozen=True)
class ReportUnit:
    """The chosen reports of one part."""

    part: int
    chosen: tuple[Chosen, ...]
    job: Job


def written_reports(root: Path, parts: int) -> Iterator[dict[str, Any]]:
    """Rows of written reports (texts.TOLD), part by part."""
    for part in range(parts):
        path = piece(root, part, "told")
        if path.exists():
            for batch in pq.ParquetFile(path).iter_batches():
                for row in batch.to_pylist():
                    yield row | {"part": part}


def units(job: Job, chosen: list[Chosen]) -> list[ReportUnit]:
    """The chosen reports by part, so that what is sealed of a part is opened once."""
    parts = sorted({c.row["part"] for c in chosen})
    return [ReportUnit(n, tuple(c for c in chosen if c.row["part"] == n), job) for n in parts]


def review_reports(unit: ReportUnit, watch: Watch) -> list[dict[str, Any]]:
    """Scrub the reports of a unit once more and seal what that shows; returns their entries of pack.json.

    What became of a report does not depend on others or on the time, so this is what was done. Done before is done.
    """
    job, entries, left = unit.job, [], {}
    for chosen in unit.chosen:
        sealed = sealed_item(job.root, chosen.number)
        if sealed.exists():
            entries.append(unseal(sealed, job.vault_key)["entry"])
        else:
            left[chosen.row["accession"]] = chosen
    if not left:
        return entries
    rows = [row for row in rows_of_part(job, unit.part) if row["kind"] == "report" and row["accession"] in left]
    after = _after(job, unit.part, list(left))
    for report, result in scrubbed(job, unit.part, rows, watch):
        chosen = left[report.accession]
        entry = _entry(chosen, result)
        text = {"place": report.place, "before": report.text, "after": after[report.accession]}
        seal(
            sealed_item(job.root, chosen.number),
            {"entry": entry, "text": text | {"marks": _marks(result)}},
            job.vault_key,
        )
        entries.append(entry)
        del left[report.accession]
    for chosen in left.values():  # it made a process die or took too long, this time: the officer is told
        entries.append(entry := _entry(chosen, None))
        seal(sealed_item(job.root, chosen.number), {"entry": entry, "text": None}, job.vault_key)
    return entries


def _after(job: Job, part: int, accessions: list[str]) -> dict[str, str]:
    """The texts as they would be released."""
    wanted = [("accession", "in", accessions)]
    rows = pq.read_table(piece(job.root, part, "reports"), schema=REPORTS, filters=wanted).to_pylist()
    return {row["accession"]: row["text"] for row in rows}


def _marks(result: Scrubbed) -> dict[str, list[dict[str, Any]]]:
    """Marks in the text before (what was taken out, what was left in doubt) and in the text after."""
    gone = [Mark(s.start, s.end, s.kind, s.recogniser, s.score) for s in result.spans]
    left = [Mark(s.start, s.end, s.kind, s.recogniser, s.score, left=True) for s in result.doubtful]
    new = [replace(mark, start=a, end=b) for mark, (a, b) in zip(gone, result.replaced, strict=True)]
    return {"before": [asdict(m) for m in gone + left], "after": [asdict(m) for m in new]}


def _entry(chosen: Chosen, result: Scrubbed | None) -> dict[str, Any]:
    """What pack.json says of a report: pseudonyms, codes and counts only."""
    spans = result.spans if result else ()
    row = chosen.row
    return chosen.told("report") | {
        "accession": row["accession"],
        "source_id": row["source_id"],
        "language": result.language if result else "",
        "finds": dict(sorted(Counter(span.recogniser for span in spans).items())),
        "words": row["words"],
    }
