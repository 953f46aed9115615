"""The hand-over tables of a de-identified folder and the counts that tell where every file went."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pipelines.contract import RunFolder, write_atomic
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.images import Job
from pipelines.deidentify.texts import Texts
from pipelines.release import folder_digest
from pipelines.tables import LABELS, MANIFEST, MASKS, PATIENTS, REPORTS, write_table


@dataclass
class Outputs:
    """Everything that was made, before it is told."""

    rows: list[dict[str, Any]]
    """One a file of the export, by source_id (images.PART)."""
    texts: Texts
    labels: list[dict[str, Any]]
    masks: list[dict[str, Any]]
    rejected: list[tuple[str, Quarantine]]
    """Rows and messages of tables that could not be used, by the source_id of their file."""
    used: set[str]
    """Table files of which at least one row was used."""


def write_outputs(job: Job, outputs: Outputs, run: RunFolder) -> dict[str, Any]:
    """Write manifest, patients, reports, labels, masks and quarantine; returns what result.json says."""
    root = job.root
    quarantine = _quarantine(outputs)
    _settle_tables(outputs)
    patients = sorted({r["patient"] for r in outputs.rows if r["state"] == "written"})
    splits = [{"patient": p, "split": job.secret.split(p), "order": job.secret.order(p)} for p in patients]
    manifest = [{name: row[name] for name in MANIFEST.names} for row in outputs.rows]
    write_table(root / "manifest.parquet", manifest, MANIFEST)
    write_table(root / "patients.parquet", splits, PATIENTS)
    write_table(root / "reports.parquet", outputs.texts.rows, REPORTS)
    write_table(root / "labels.parquet", outputs.labels, LABELS)
    write_table(root / "masks.parquet", outputs.masks, MASKS)
    _write_quarantine(quarantine, job)
    for name in ("manifest.parquet", "reports.parquet", "labels.parquet", "masks.parquet", "quarantine.csv"):
        run.artifact(name, root / name)
    return {
        "counts": _counts(outputs, quarantine, len(patients)),
        "digest": folder_digest(root),
        "policy": job.policy.digest,
        "policy_name": job.policy.name,
        "site": job.secret.fingerprint,
        "site_name": job.secret.site,
        "epoch": job.secret.epoch,
        "practice": any(r["practice"] for r in outputs.rows),
    }


def _settle_tables(outputs: Outputs) -> None:
    """A table file none of whose rows could be used (a message, a mask) shares their fate in the manifest."""
    fates = {source_id: verdict for source_id, verdict in reversed(outputs.rejected) if source_id not in outputs.used}
    for row in outputs.rows:
        verdict = fates.get(row["source_id"])
        if verdict and row["state"] == "read":
            state = "opted_out" if verdict.reason == "opted_out" else "quarantined"
            row |= {"state": state, "reason": verdict.reason, "detail": verdict.detail or None}


def _quarantine(outputs: Outputs) -> list[tuple[str, str, str]]:
    """(source_id, reason, detail) of files and, where a file holds many, of its rows."""
    files = [(r["source_id"], r["reason"], r["detail"] or "") for r in outputs.rows if r["state"] == "quarantined"]
    rows = [(source_id, v.reason, v.detail) for source_id, v in outputs.rejected if v.reason != "opted_out"]
    return sorted(files + rows)


def _write_quarantine(quarantine: list[tuple[str, str, str]], job: Job) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("source_id", "reason", "detail"))
    writer.writerows(quarantine)
    write_atomic(job.root / "quarantine.csv", buffer.getvalue())


def _counts(outputs: Outputs, quarantine: list[tuple[str, str, str]], patients: int) -> dict[str, Any]:
    states = Counter(r["state"] for r in outputs.rows)
    written = [r for r in outputs.rows if r["state"] == "written"]
    return {
        "files": len(outputs.rows),
        "images_written": len(written),
        "duplicates": states["duplicate"],
        "quarantined": dict(sorted(Counter(reason for _, reason, _ in quarantine).items())),
        "opted_out": states["opted_out"],
        "patients": patients,
        "studies": len({r["study"] for r in written}),
        "reports": len(outputs.texts.rows),
        "labels": len(outputs.labels),
        "masks": len(outputs.masks),
        "boxes": sum(r["boxes"] for r in written),
        "unknown_attributes": sum(r["unknown"] for r in written),
        "malformed_attributes": sum(r["malformed"] for r in written),
        "report_words_to_review": outputs.texts.review,
    }
