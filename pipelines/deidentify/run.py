"""Stage `deidentify`: scan, images by partitions, reports, labels, masks, and the tables that tell of all of it.

With `share_of` it joins a run that is at work elsewhere on the same folder: it takes its share of the phases, and what
comes before and after them is the other's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.claims import Presence, forget
from pipelines.contract import BadInput, RunFolder, read_json, write_atomic
from pipelines.deidentify.aliases import aliases_digest, load_aliases
from pipelines.deidentify.images import Job, Part, clean_part, part_table
from pipelines.deidentify.intake import parts_with_tables, take_in
from pipelines.deidentify.policy import load_policy
from pipelines.deidentify.review.pack import write_pack
from pipelines.deidentify.spec import Spec
from pipelines.deidentify.summary import bring_together, drop_spread, write_outputs
from pipelines.deidentify.texts import JoinedPart, join_part, piece
from pipelines.keys import DerivationSecret, load_vault_key
from pipelines.parallel import Pool
from pipelines.phases import Crew
from pipelines.scan.dicom import configure_pydicom
from pipelines.scan.files import remove_half_written, require_apart
from pipelines.scan.inventory import Source, drop_steps, scan_export
from pipelines.scan.listing import Listing


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """Write the de-identified folder; its digest, counts and policy go into result.json."""
    job = _job(spec, spec.share_of or run.root)
    configure_pydicom()
    return _share(spec, job, run) if spec.share_of else _lead(spec, job, run)


def _lead(spec: Spec, job: Job, run: RunFolder) -> dict[str, Any]:
    with closing(Presence.begin(run.root)) as presence:
        if presence.alone():  # else helpers of an attempt that was cut short are still at it
            remove_half_written(run.root)
            forget(run.root)
        _require_same(job)
        presence.enter(run.check_stop)
        with Pool(spec.workers, run, item_seconds=spec.item_seconds) as pool:
            listing = _phases(job, Crew(pool, run.root))
            write_pack(job, listing.parts, pool, run, spec.review)
        presence.wait_alone(run.check_stop)
        remove_half_written(run.root)
        result = write_outputs(job, listing, run)
        _drop_steps(run.root)
    return result


def _share(spec: Spec, job: Job, run: RunFolder) -> dict[str, Any]:
    with closing(Presence.join(job.root, run.check_stop)):
        _require_same(job, mine=False)
        with Pool(spec.workers, run, item_seconds=spec.item_seconds) as pool:
            crew = Crew(pool, job.root)
            _phases(job, crew)
    return {"units": crew.done}


def _phases(job: Job, crew: Crew) -> Listing:
    """What any number of machines may do together."""
    source = Source(job.export, job.root, job.secret, job.vault_key, job.issuer, job.aliases)
    listing = scan_export(source, crew)
    _require_images(job.root)
    take_in(job, listing, crew)
    _clean(job, listing, crew)
    _join(job, listing, crew)
    bring_together(job, listing, crew)
    return listing


def _job(spec: Spec, root: Path) -> Job:
    require_apart(spec.export, root)
    secret, vault_key = DerivationSecret.load(spec.secret), load_vault_key(spec.vault_key)
    policy = load_policy(spec.policy)
    load_aliases(spec.aliases)  # a mistake in it is told before anything is read
    opt_out, columns = _opt_out(spec.opt_out), tuple(sorted(spec.report_columns.items()))
    return Job(spec.export, root, secret, vault_key, policy, spec.issuer, opt_out, spec.aliases, columns)


def _opt_out(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise BadInput(f"The opt-out list {path.name} cannot be read; give a UTF-8 text file, one ID a line.") from None
    return frozenset(line.strip() for line in lines) - {""}


def _require_same(job: Job, *, mine: bool = True) -> None:
    """A resumed or shared folder must be the same de-identification: key and policy files change under their names."""
    path = job.root / "parts" / "job.json"
    opt_out = hashlib.sha256("\n".join(sorted(map(job.secret.source_id, job.opt_out))).encode()).hexdigest()
    mine = {
        "site": job.secret.fingerprint,
        "policy": job.policy.digest,
        "opt_out": opt_out,
        "aliases": job.secret.source_id(aliases_digest(job.aliases)),
    }
    if mine and not path.exists():
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


def _clean(job: Job, listing: Listing, crew: Crew) -> None:
    parts = [Part(n, job) for n in range(listing.parts)]
    crew.perform(
        "images",
        clean_part,
        parts,
        lambda part: part_table(job.root, part.number),
        total=listing.files,
        weight=lambda part: pq.read_metadata(part_table(job.root, part.number)).num_rows,
    )


def _join(job: Job, listing: Listing, crew: Crew) -> None:
    parts = [JoinedPart(n, job, listing) for n in parts_with_tables(job.root, listing)]
    crew.perform("reports", join_part, parts, lambda part: piece(job.root, part.number, "fates"))


def _drop_steps(root: Path) -> None:
    """Remove what only served to get here, the sealed texts of the source above all."""
    drop_steps(root)
    drop_spread(root)
    shutil.rmtree(root / "vault" / "tables", ignore_errors=True)
