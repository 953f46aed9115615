"""Memory of everything that holds tables of an export, from the inventory to the manifest, as the export grows.

Rows are made up, one a file, and go through the stage's own steps, each export in a process of its own; images are not
opened. What grows with the export would show as a ratio well below one.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from pipelines.contract import RunFolder
from pipelines.deidentify import images, intake, summary
from pipelines.deidentify.policy import load_policy
from pipelines.scan import inventory
from pipelines.scan.listing import CHUNK_FILES, Listing, cut
from pipelines.tables import write_table
from pipelines.watch import Watch
from tests.benchmarks.deid_scale import SECRET, VAULT_KEY, measure, peak
from tests.benchmarks.record import record

EXPORTS = (100_000, 1_000_000)


def scanned(number: int) -> tuple[dict, str]:
    """The inventory's row of a file and its path: four images a study, every thousandth file not DICOM."""
    path = f"DICOM/{number // 1000:06d}/study {number // 4}/IM{number:08d}"
    row = dict.fromkeys(inventory.INVENTORY.names) | {"source_id": SECRET.source_id(path), "kind": "image"}
    row |= {"state": "ok", "size": 8_000_000, "sha256": hashlib.sha256(path.encode()).hexdigest()}
    if number % 1000 == 999:
        return row | {"kind": "other", "state": "quarantined", "reason": "not_dicom"}, path
    uids = {"instance": f"1.2.{number}", "series": f"1.3.{number // 2}", "study": f"1.4.{number // 4}"}
    row |= {name: SECRET.uid(uid) for name, uid in uids.items()}
    row |= {"patient": SECRET.patient("", str(number // 20)), "accession": SECRET.accession(str(number // 4))}
    return row, path


def take_stock(source: inventory.Source, listing: Listing) -> None:
    """The inventory, its readings made up."""
    for number in range(listing.readings):
        share, most = inventory.Share(number, source, listing), listing.span * CHUNK_FILES
        made = [scanned(n) for n in range(number * most, min((number + 1) * most, listing.files))]
        rows, paths = [row for row, _ in made], {row["source_id"]: path for row, path in made}
        key = lambda row: row["instance"] or row["source_id"]  # noqa: E731
        inventory._spread(share, rows, paths, inventory._reading(share), key)
    for step in (inventory.settle_bucket, inventory.write_parts):
        for number in range(listing.buckets):
            step(inventory.Share(number, source, listing), Watch())


def write_part(job: images.Job, number: int) -> None:
    """A part's table as it is when its images are written, without the images."""
    rows = []
    for entry in inventory.read_part(job.root, number):
        row = images._manifest_row(entry, job.policy)
        if entry["state"] == "ok":
            row |= {name: entry[name] for name in ("patient", "accession", "study", "series", "instance")}
            row |= {"state": "written", "output": f"dicom/{entry['instance']}.dcm", "boxes": 0, "unknown": 0}
            row |= {"malformed": 0, "practice": False, "sha256": entry["sha256"]}
        rows.append(row)
    write_table(images.part_table(job.root, number), rows, images.PART)


def write_tables(files: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        root, listing = Path(home), cut(files)
        (root / "parts").mkdir()
        (root / "inventory").mkdir()
        job = images.Job(root, root, SECRET, VAULT_KEY, load_policy("longitudinal-research"), "", frozenset())
        take_stock(inventory.Source(root, root, SECRET, VAULT_KEY, ""), listing)
        for number in range(listing.parts):
            write_part(job, number)
        for number in range(listing.buckets + 1):
            intake.write_fates(intake.fates_of_files(root, number), [], set(), {})
        for number in range(listing.buckets):
            summary.spread_parts(intake.Bucket(number, job, listing), Watch())
        counts = summary.write_outputs(job, listing, RunFolder(root))["counts"]
        if counts["files"] != files:
            raise SystemExit(f"The manifest has {counts['files']} rows; nothing to compare.")
        print(json.dumps({"peak": peak()}))


def main() -> None:
    peaks = {}
    for files in EXPORTS:
        peaks[files] = measure(__file__, files)["peak"]
    small, large = EXPORTS
    record(
        f"peak memory of inventory and manifest, {large:,} files",
        f"{peaks[large] / 1e6:.0f} MB",
        f"{small:,} files {peaks[small] / 1e6:.0f} MB",
        peaks[small] / peaks[large],
    )


if __name__ == "__main__":
    write_tables(int(sys.argv[1])) if sys.argv[1:] else main()
