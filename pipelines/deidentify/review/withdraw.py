"""Withdrawing an instance or report that leaks: out of the folder, into the quarantine, with what only it carried.

Every step is found from the state of the folder, so that a withdrawal that was cut off is simply done again. The
manifest is rewritten first: from then on no digest matches an earlier release.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.contract import BadInput, atomic, read_json, write_atomic
from pipelines.deidentify.reports.counts import WRITTEN
from pipelines.deidentify.review.verdicts import kind_of_item
from pipelines.release import folder_digest
from pipelines.tables import LABELS, MANIFEST, MASKS, PATIENTS, REPORTS, read_table, write_table

REASON = "review"
_CLEARED = [n for n in MANIFEST.names if n not in ("source_id", "kind", "state", "reason", "policy")]


def withdraw(folder: Path, items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Withdraw what these entries of pack.json are about; returns the new result of the folder.

    A study left without an image loses its report, labels and masks; a patient left without a study leaves the splits.
    """
    entries = list(items)
    texts = [e for e in entries if kind_of_item(e) == "report"]
    instances = [e for e in entries if kind_of_item(e) == "instance"]
    _manifest(folder, {e["instance"] for e in instances})
    for entry in instances:
        output = (folder / entry["output"]).resolve()
        if not output.is_relative_to(folder.resolve()):
            raise BadInput("The review pack names a file outside the folder; de-identify the export again.")
        output.unlink(missing_ok=True)
        for picture in (folder / "preview").glob(f"{entry['number']:04d}-*.png"):
            picture.unlink()
    _quarantine(folder, {(e["source_id"], REASON, f"the report of {e['accession']}") for e in texts})
    _drop(folder, "reports", REPORTS, "accession", pa.array([e["accession"] for e in texts], pa.string()))
    _orphans(folder)
    result = read_json(folder / "result.json")
    result |= {"digest": folder_digest(folder), "counts": result["counts"] | _counts(folder)}
    if "reports" in result:
        fates, left = result["reports"]["fates"], result["counts"]["reports"]
        result["reports"]["fates"] = fates | {
            WRITTEN: left,
            REASON: fates.get(WRITTEN, 0) + fates.get(REASON, 0) - left,
        }
    write_atomic(folder / "result.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return result


def _manifest(folder: Path, instances: set[str]) -> None:
    """Rows of these instances become quarantined ones; the table goes through memory by row groups."""
    path = folder / "manifest.parquet"
    wanted = pa.array(sorted(instances), pa.string())
    with atomic(path) as temporary, pq.ParquetWriter(temporary, MANIFEST, compression="zstd") as writer:
        source = pq.ParquetFile(path)
        for number in range(source.num_row_groups):
            group = source.read_row_group(number).cast(MANIFEST)
            hit = pc.fill_null(pc.is_in(group["instance"], wanted), False)
            columns = {name: group[name] for name in MANIFEST.names}
            columns["state"] = pc.if_else(hit, "quarantined", group["state"])
            columns["reason"] = pc.if_else(hit, REASON, group["reason"])
            for name in _CLEARED:
                columns[name] = pc.if_else(hit, pa.scalar(None, group[name].type), group[name])
            writer.write_table(pa.table(columns, schema=MANIFEST))


def _drop(folder: Path, name: str, schema: pa.Schema, column: str, values: pa.Array, keep: bool = False) -> None:
    """Rewrite a table without the rows of these values, or with no others."""
    path = folder / f"{name}.parquet"
    table = read_table(path, schema)
    hit = pc.is_in(table[column], values)
    left = table.filter(hit if keep else pc.invert(hit))
    if len(left) < len(table):
        write_table(path, left, schema)


def _quarantine(folder: Path, reports: set[tuple[str, str, str]]) -> None:
    """Add to quarantine.csv these reports, and what the manifest says was withdrawn and is not listed."""
    path = folder / "quarantine.csv"
    manifest = pq.read_table(path.with_name("manifest.parquet"), filters=[("reason", "==", REASON)])
    with path.open(newline="", encoding="utf-8") as f:
        rows = {(r["source_id"], r["reason"], r["detail"]) for r in csv.DictReader(f)}
    rows |= reports | {(source_id, REASON, "") for source_id in manifest["source_id"].to_pylist()}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("source_id", "reason", "detail"))
    writer.writerows(sorted(rows))
    write_atomic(path, buffer.getvalue())


def _orphans(folder: Path) -> None:
    kept = pq.read_table(
        folder / "manifest.parquet", columns=["accession", "patient"], filters=[("state", "==", "written")]
    )
    accessions, patients = pc.unique(kept["accession"]), pc.unique(kept["patient"])
    masks = read_table(folder / "masks.parquet", MASKS)
    for output in masks.filter(pc.invert(pc.is_in(masks["accession"], accessions)))["output"].to_pylist():
        (folder / output).unlink(missing_ok=True)
    for name, schema, column, values in (
        ("reports", REPORTS, "accession", accessions),
        ("labels", LABELS, "accession", accessions),
        ("masks", MASKS, "accession", accessions),
        ("patients", PATIENTS, "patient", patients),
    ):
        _drop(folder, name, schema, column, values, keep=True)


def _counts(folder: Path) -> dict[str, Any]:
    columns = ["kind", "patient", "study", "boxes"]
    written = pq.read_table(folder / "manifest.parquet", columns=columns, filters=[("state", "==", "written")])
    with (folder / "quarantine.csv").open(newline="", encoding="utf-8") as f:
        reasons = Counter(r["reason"] for r in csv.DictReader(f))
    tables = {n: pq.read_metadata(folder / f"{n}.parquet").num_rows for n in ("reports", "labels", "masks")}
    return tables | {
        "images_written": pc.sum(pc.equal(written["kind"], "image")).as_py() or 0,
        "objects_written": pc.sum(pc.equal(written["kind"], "object")).as_py() or 0,
        "quarantined": dict(sorted(reasons.items())),
        "patients": len(pc.unique(written["patient"])),
        "studies": len(pc.unique(written["study"])),
        "boxes": pc.sum(written["boxes"]).as_py() or 0,
    }
