"""The hand-over tables of a de-identified folder and the counts that tell where every file went.

Two steps again: rows of parts are spread by source_id (and patients and studies by pseudonym), then every bucket is
settled and appended to the tables, so that these are sorted and no list of all rows is ever held.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.contract import BadInput, RunFolder, atomic
from pipelines.deidentify.images import PART, Job, part_table
from pipelines.deidentify.intake import FATES, Bucket, counts_of_files, read_fates_of_files
from pipelines.deidentify.reports.counts import ReportCounts
from pipelines.deidentify.reports.language import LANGUAGES
from pipelines.deidentify.texts import counts_of_part, piece
from pipelines.parallel import Watch
from pipelines.phases import Crew
from pipelines.release import folder_digest
from pipelines.scan.listing import Listing
from pipelines.spread import bucket_of, gather, spread
from pipelines.tables import LABELS, MANIFEST, MASKS, PATIENTS, REPORTS, TableWriter, table_writer

KEYS = pa.schema([("key", pa.string())])
PIECES = {"reports": REPORTS, "labels": LABELS, "masks": MASKS}
_NUMBERS = {"boxes": "boxes", "unknown": "unknown_attributes", "malformed": "malformed_attributes"}


@dataclass
class Tally:
    """What result.json says, added up bucket by bucket."""

    files: int = 0
    states: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    """Of what was written."""
    quarantined: Counter[str] = field(default_factory=Counter)
    numbers: Counter[str] = field(default_factory=Counter)
    practice: bool = False


def bring_together(job: Job, listing: Listing, crew: Crew) -> None:
    """The first step; its units are the runs of parts that buckets are."""
    buckets = [Bucket(n, job, listing) for n in range(listing.buckets)]
    crew.perform("manifest", spread_parts, buckets, lambda b: _keys(job.root, b.number))


def spread_parts(bucket: Bucket, _: Watch) -> None:
    """Spread the rows of a bucket's parts, the fates of their tables' rows, and who and what was written."""
    root, count = bucket.job.root, bucket.listing.buckets
    numbers = bucket.listing.parts_of(bucket.number)
    rows = pa.concat_tables([pq.read_table(part_table(root, n)) for n in numbers]).to_pylist()
    pieces = [path for n in numbers if (path := piece(root, n, "fates")).exists()]
    fates = [row for path in pieces for row in pq.read_table(path).to_pylist()]
    written = [row for row in rows if row["state"] == "written"]
    keys = [{"key": key} for key in sorted({row[name] for row in written for name in ("patient", "study")})]
    spread(_rows(root, bucket.number), rows, PART, count, lambda row: bucket_of(row["source_id"], count))
    spread(_fates(root, bucket.number), fates, FATES, count, lambda row: bucket_of(row["source_id"], count))
    spread(_keys(root, bucket.number), keys, KEYS, count, lambda row: bucket_of(row["key"], count))


def write_outputs(job: Job, listing: Listing, run: RunFolder) -> dict[str, Any]:
    """The second step: manifest, patients, reports, labels, masks and quarantine; returns what result.json says."""
    root = job.root
    tally = _write_manifest(job, listing, run)
    counts = _counts(tally)
    counts["patients"], counts["studies"] = _write_patients(job, listing)
    for name, schema in PIECES.items():
        counts[name] = _write_pieces(root, listing, name, schema)
    for name in ("manifest.parquet", "reports.parquet", "labels.parquet", "masks.parquet", "quarantine.csv"):
        run.artifact(name, root / name)
    return {
        "counts": counts,
        "reports": _report_counts(job, listing, run),
        "digest": folder_digest(root),
        "policy": job.policy.digest,
        "policy_name": job.policy.name,
        "policy_options": job.policy.options.model_dump(),
        "site": job.secret.fingerprint,
        "site_name": job.secret.site,
        "epoch": job.secret.epoch,
        "practice": tally.practice,
    }


def _report_counts(job: Job, listing: Listing, run: RunFolder) -> dict[str, Any]:
    """How reports came and where they went, as result.json says it; what a person should know of is warned of."""
    root, counts = job.root, ReportCounts()
    for path in (counts_of_files(root, n) for n in range(listing.buckets + 1)):
        counts.add(ReportCounts.read(path))
    for path in (counts_of_part(root, n) for n in range(listing.parts)):
        if path.exists():
            counts.add(ReportCounts.read(path))
    if counts.unmodelled.total():
        named = ", ".join(f"{n:,} in {LANGUAGES[code]}" for code, n in counts.unmodelled.most_common() if n)
        run.log(
            f"No model here reads the language of {counts.unmodelled.total():,} reports ({named}); only recognisers "
            "that need no language have seen them. Look at them in the review, or name a model in the policy.",
            "warning",
        )
    if absent := [field for field, _ in job.report_columns if not counts.mapped[field]]:
        run.log(
            f"No table of reports has the column that the registration names for {', '.join(absent)}; usual names were "
            "looked for. Correct the name if a table should have it.",
            "warning",
        )
    return counts.told()


def drop_spread(root: Path) -> None:
    """Remove what the first step left."""
    for path in (root / "parts").glob("spread-*"):
        path.unlink()


# ---- manifest and quarantine -------------------------------------------------------------------------------------


def _write_manifest(job: Job, listing: Listing, run: RunFolder) -> Tally:
    tally = Tally()
    with ExitStack() as stack:
        manifest = stack.enter_context(table_writer(job.root / "manifest.parquet", MANIFEST))
        path = stack.enter_context(atomic(job.root / "quarantine.csv"))
        quarantine = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
        table = csv.writer(quarantine, lineterminator="\n")
        table.writerow(("source_id", "reason", "detail"))
        for bucket in range(listing.buckets):
            run.check_stop()
            table.writerows(_settle(job.root, listing, bucket, manifest, tally))
    return tally


def _settle(
    root: Path, listing: Listing, bucket: int, manifest: TableWriter, tally: Tally
) -> list[tuple[str, str, str]]:
    """Append one bucket's rows to the manifest and the tally; returns its lines of the quarantine, sorted."""
    writers = range(listing.buckets)
    rows = gather([_rows(root, n) for n in writers], bucket, PART).sort_by("source_id").to_pylist()
    fates = gather([_fates(root, n) for n in writers], bucket, FATES).to_pylist()
    fates += read_fates_of_files(root, listing, bucket)
    rejected = [fate for fate in fates if fate["reason"]]
    told = [row for row in rows if row["state"] == "quarantined"] + [f for f in rejected if f["reason"] != "opted_out"]
    _settle_tables(rows, fates)
    manifest.add([{name: row[name] for name in MANIFEST.names} for row in rows])
    tally.files += len(rows)
    tally.states.update(row["state"] for row in rows)
    tally.quarantined.update(row["reason"] for row in told)
    tally.numbers["review"] += sum(fate["review"] or 0 for fate in fates)
    for row in rows:
        if row["state"] == "written":
            tally.numbers.update({name: row[name] for name in _NUMBERS})
            tally.kinds[row["kind"]] += 1
    tally.practice |= any(row["practice"] for row in rows)
    return sorted((row["source_id"], row["reason"], row["detail"] or "") for row in told)


def _settle_tables(rows: list[dict[str, Any]], fates: list[dict[str, Any]]) -> None:
    """A table file none of whose rows could be used (a message, a mask) shares their fate in the manifest."""
    by_file = {row["source_id"]: row for row in rows}
    fates.sort(key=lambda fate: (fate["source_id"], fate["reason"] or "", fate["detail"] or ""))
    for source_id, group in groupby(fates, key=lambda fate: fate["source_id"]):
        own, row = list(group), by_file[source_id]
        rejected = [fate for fate in own if fate["reason"]]
        if row["state"] != "read" or not rejected or any(fate["used"] for fate in own):
            continue
        if row["kind"] == "label" and all(fate["reason"] != "opted_out" for fate in rejected):
            raise BadInput("No row of labels.csv names an accession number of this export; check the label file.")
        state = "opted_out" if rejected[0]["reason"] == "opted_out" else "quarantined"
        row |= {"state": state, "reason": rejected[0]["reason"], "detail": rejected[0]["detail"]}


def _counts(tally: Tally) -> dict[str, Any]:
    return {
        "files": tally.files,
        "images_written": tally.kinds["image"],
        "objects_written": tally.kinds["object"],
        "duplicates": tally.states["duplicate"],
        "quarantined": dict(sorted(tally.quarantined.items())),
        "opted_out": tally.states["opted_out"],
        **{told: tally.numbers[name] for name, told in _NUMBERS.items()},
        "report_words_to_review": tally.numbers["review"],
    }


# ---- the other tables --------------------------------------------------------------------------------------------


def _write_patients(job: Job, listing: Listing) -> tuple[int, int]:
    """How many patients and studies there are."""
    studies = 0
    with table_writer(job.root / "patients.parquet", PATIENTS) as table:
        for bucket in range(listing.buckets):
            found = gather([_keys(job.root, n) for n in range(listing.buckets)], bucket, KEYS)
            keys = sorted(pc.unique(found["key"]).to_pylist())
            patients = [key for key in keys if key.startswith("P")]
            studies += len(keys) - len(patients)
            table.add([{"patient": p, "split": job.secret.split(p), "order": job.secret.order(p)} for p in patients])
    return table.rows, studies


def _write_pieces(root: Path, listing: Listing, name: str, schema: pa.Schema) -> int:
    """Parts follow one another as accession numbers do, so the pieces in a row are sorted."""
    with table_writer(root / f"{name}.parquet", schema) as table:
        for path in _pieces(root, listing, name):
            table.add(pq.read_table(path, schema=schema))
    return table.rows


def _pieces(root: Path, listing: Listing, name: str) -> Iterator[Path]:
    return (path for part in range(listing.parts) if (path := piece(root, part, name)).exists())


def _rows(root: Path, bucket: int) -> Path:
    return root / "parts" / f"spread-rows-{bucket:05d}.arrow"


def _fates(root: Path, bucket: int) -> Path:
    return root / "parts" / f"spread-fates-{bucket:05d}.arrow"


def _keys(root: Path, bucket: int) -> Path:
    return root / "parts" / f"spread-keys-{bucket:05d}.arrow"
