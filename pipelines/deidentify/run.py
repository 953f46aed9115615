"""Stage `deidentify`: scan, images by partitions, reports, labels, masks, and the tables that tell of all of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.contract import BadInput, RunFolder, read_json, write_atomic
from pipelines.deidentify.aliases import aliases_digest, load_aliases
from pipelines.deidentify.images import Job, clean_part, left_parts, part_table, study_identities
from pipelines.deidentify.labels import LabelReader
from pipelines.deidentify.masks import MaskReader
from pipelines.deidentify.policy import load_policy
from pipelines.deidentify.review.pack import write_pack
from pipelines.deidentify.spec import Spec
from pipelines.deidentify.studies import Studies
from pipelines.deidentify.summary import Outputs, write_outputs
from pipelines.deidentify.texts import scrub_reports
from pipelines.deidentify.vault import resolve_sources
from pipelines.keys import DerivationSecret, load_vault_key
from pipelines.parallel import Pool, Progress
from pipelines.phases import Crew
from pipelines.scan.dicom import configure_pydicom
from pipelines.scan.files import remove_half_written, require_apart
from pipelines.scan.inventory import Source, drop_steps, scan_export
from pipelines.scan.listing import Listing


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """Write the de-identified folder; its digest, counts and policy go into result.json."""
    job = _job(spec, run.root)
    configure_pydicom()
    remove_half_written(run.root)
    _require_same(job)
    with Pool(spec.workers, run, item_seconds=spec.item_seconds) as pool:
        source = Source(job.export, job.root, job.secret, job.vault_key, job.issuer, job.aliases)
        listing = scan_export(source, Crew(pool))
        _require_images(job.root)
        rows = _images(job, listing, pool)
        outputs = _tables(job, listing, rows, pool)
        write_pack(job, listing.parts, pool, run, spec.review)
    remove_half_written(run.root)
    drop_steps(run.root)
    return write_outputs(job, outputs, run)


def _job(spec: Spec, root: Path) -> Job:
    require_apart(spec.export, root)
    secret, vault_key = DerivationSecret.load(spec.secret), load_vault_key(spec.vault_key)
    policy = load_policy(spec.policy)
    load_aliases(spec.aliases)  # a mistake in it is told before anything is read
    return Job(spec.export, root, secret, vault_key, policy, spec.issuer, _opt_out(spec.opt_out), spec.aliases)


def _opt_out(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise BadInput(f"The opt-out list {path.name} cannot be read; give a UTF-8 text file, one ID a line.") from None
    return frozenset(line.strip() for line in lines) - {""}


def _require_same(job: Job) -> None:
    """A resumed folder must be the same de-identification: key files and policy files can change under their names."""
    path = job.root / "parts" / "job.json"
    opt_out = hashlib.sha256("\n".join(sorted(map(job.secret.source_id, job.opt_out))).encode()).hexdigest()
    mine = {
        "site": job.secret.fingerprint,
        "policy": job.policy.digest,
        "opt_out": opt_out,
        "aliases": job.secret.source_id(aliases_digest(job.aliases)),
    }
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(mine) + "\n")
    elif read_json(path) != mine:
        raise BadInput(
            "The secret, policy, opt-out or merged patients changed since this run began; give a new run folder."
        )


def _require_images(root: Path) -> None:
    counts = read_json(root / "inventory" / "summary.json")["counts"]
    if not counts.get("image"):
        raise BadInput("The export holds no readable DICOM image; check that the folder is the right one.")


def _images(job: Job, listing: Listing, pool: Pool) -> list[dict[str, Any]]:
    left = list(left_parts(job, listing.parts))
    finished = [n for n in range(listing.parts) if part_table(job.root, n).exists()]
    done = sum(pq.read_metadata(part_table(job.root, n)).num_rows for n in finished)
    for _ in pool.map(clean_part, left, Progress(pool.run, listing.files, "images", done)):
        pass
    rows: list[dict[str, Any]] = []
    for number in range(listing.parts):
        rows += pq.read_table(part_table(job.root, number)).to_pylist()
    return sorted(rows, key=lambda r: r["source_id"])


def _tables(job: Job, listing: Listing, rows: list[dict[str, Any]], pool: Pool) -> Outputs:
    from pipelines.deidentify.reports.intake import read_reports

    identities, opted_out = study_identities(job.root, listing.parts, job.vault_key)
    studies = Studies(rows, identities, opted_out)
    paths = resolve_sources(job.root, job.vault_key)
    files = {
        kind: [(r["source_id"], paths[r["source_id"]]) for r in rows if r["kind"] == kind and r["state"] == "read"]
        for kind in ("report", "label", "mask")
    }
    reports = read_reports(job.export, [(i, job.export / p) for i, p in files["report"]])
    options, style = job.policy.options, job.policy.reports.style
    texts = scrub_reports(reports, studies, job.secret, style, options.dates == "shift", job.root, pool)
    labels = LabelReader(studies, job.secret)
    label_rows = labels.read([(i, job.export / p) for i, p in files["label"]])
    masks = MaskReader(job.root, studies, job.secret)
    mask_rows = masks.read([(i, p, job.export / p) for i, p in files["mask"]])
    rejected = [*texts.rejected, *labels.rejected, *masks.rejected]
    return Outputs(rows, texts, label_rows, mask_rows, rejected, texts.used | labels.used | masks.used)
