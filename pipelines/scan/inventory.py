"""The partitioned inventory: one row a file, in pseudonyms, with duplicates and conflicts decided.

Three steps, each over units that know nothing of one another, so that no list of all files is ever held:

1. readings: some chunks of the listing are read; their rows are spread by new SOPInstanceUID, so that all files which
   claim one UID meet in one bucket, whatever the order in which they were found;
2. verdicts: duplicates and conflicts of a bucket are decided; its rows are spread by accession number;
3. parts: the rows of a bucket are written as parts. A part holds whole studies, so what a study's reports are joined
   to and searched for lies in one place; a file that is no image lies in the part of its source_id.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset

from pipelines.claims import FOLDER
from pipelines.contract import read_json, write_atomic
from pipelines.deidentify.aliases import load_aliases
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.values import Malformed, parse_date
from pipelines.deidentify.vault import SOURCES, seal, unseal
from pipelines.keys import DerivationSecret
from pipelines.parallel import Watch
from pipelines.phases import Crew
from pipelines.scan.dicom import configure_pydicom, per_file, read_object, require_supported, subject, text
from pipelines.scan.files import inside, table_kind
from pipelines.scan.listing import CHUNK_FILES, Listing, chunk_vault, list_export
from pipelines.spread import bucket_of, gather, spread
from pipelines.tables import write_table

INVENTORY = pa.schema(
    [
        ("source_id", pa.string()),
        ("kind", pa.string()),  # image | object | report | label | mask | other
        ("state", pa.string()),  # ok | duplicate | quarantined
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("stamp", pa.string()),  # keyed hash of what the file system says of the file: unchanged while it is the same
        ("instance", pa.string()),  # new UIDs
        ("series", pa.string()),
        ("study", pa.string()),
        ("patient", pa.string()),
        ("accession", pa.string()),
        ("sop_class", pa.string()),
        ("visit", pa.string()),  # keyed hash of patient and study date, null without a date
    ]
)


@dataclass(frozen=True)
class Source:
    """What every process of a scan must know."""

    export: Path
    root: Path
    secret: DerivationSecret
    vault_key: bytes
    issuer: str
    aliases: Path | None = None


@dataclass(frozen=True)
class Share:
    """One unit of a step: reading `number`, or bucket `number`."""

    number: int
    source: Source
    listing: Listing


def scan_export(source: Source, crew: Crew) -> Listing:
    """Write `inventory/part-*.parquet` and `vault/sources/part-*.vault`; resumes after any interruption."""
    root, folder = source.root, source.root / "inventory"
    listed = folder / "listing.json"
    crew.once("listing", lambda: list_export(source.export, root, source.secret, source.vault_key), listed)
    listing = Listing(**read_json(listed))
    if not (folder / "summary.json").exists():
        readings = [Share(n, source, listing) for n in range(listing.readings)]
        buckets = [Share(n, source, listing) for n in range(listing.buckets)]
        crew.perform("scan", read_files, readings, _reading, total=listing.files, weight=_files)
        crew.perform("verdicts", settle_bucket, buckets, _verdicts)
        crew.perform("parts", write_parts, buckets, _counts)
        crew.once("summary", lambda: _summarise(root, listing), folder / "summary.json")
    return listing


def drop_steps(root: Path) -> None:
    """Remove what only served to get here. For the end of a run: till then others may look at it."""
    for intermediate in (FOLDER, "inventory/steps", "vault/chunks", "vault/steps"):
        shutil.rmtree(root / intermediate, ignore_errors=True)


def read_part(root: Path, part: int) -> list[dict[str, Any]]:
    """The rows of one partition, by source_id."""
    rows: list[dict[str, Any]] = pq.read_table(root / "inventory" / f"{part_name(part)}.parquet").to_pylist()
    return rows


def part_name(part: int) -> str:
    return f"part-{part:05d}"


# ---- readings ------------------------------------------------------------------------------------------------------


def read_files(share: Share, watch: Watch) -> None:
    """Read the files of some chunks and spread their rows by new SOPInstanceUID."""
    configure_pydicom()
    source, listing = share.source, share.listing
    paths: dict[str, str] = {}
    for chunk in range(share.number * listing.span, min((share.number + 1) * listing.span, listing.chunks)):
        paths |= unseal(chunk_vault(source.root, chunk), source.vault_key)
    found = list(paths.items())
    rows = [
        _row(source, source_id, relative, fate)
        for (source_id, relative), fate in watch.over(found, lambda f: f[0], lambda f: _size(source.export / f[1]))
    ]
    _spread(share, rows, paths, _reading(share), lambda row: row["instance"] or row["source_id"])


def _files(share: Share) -> int:
    most = share.listing.span * CHUNK_FILES
    return min(most, share.listing.files - share.number * most)


def _reading(share: Share) -> Path:
    return share.source.root / "inventory" / "steps" / f"reading-{share.number:06d}.arrow"


# ---- verdicts ------------------------------------------------------------------------------------------------------


def settle_bucket(share: Share, _: Watch) -> None:
    """Decide the duplicates and conflicts of one bucket and spread its rows by accession number."""
    rows, paths = _gather(share, "reading", share.listing.readings, _reading)
    _spread(share, decide(rows), paths, _verdicts(share), lambda row: row["accession"] or row["source_id"])


def _verdicts(share: Share) -> Path:
    return share.source.root / "inventory" / "steps" / f"verdicts-{share.number:06d}.arrow"


def decide(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one bucket with `duplicate` and `conflict` settled; the smallest source_id of equals wins."""
    ordered = sorted(rows, key=lambda r: (r["instance"] or "", r["source_id"]))
    decided = []
    for instance, group in groupby(ordered, key=lambda r: r["instance"]):
        same = list(group)
        claims = [r for r in same if instance and r["state"] == "ok"]
        if len({r["sha256"] for r in claims}) > 1:
            for row in claims:
                row |= {"state": "quarantined", "reason": "conflict"}
        for row in claims[1:]:
            if row["state"] == "ok":
                row["state"] = "duplicate"
        decided += same
    return sorted(decided, key=lambda r: r["source_id"])


def _row(source: Source, source_id: str, relative: str, fate: str | None) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(INVENTORY.names) | {"source_id": source_id, "kind": "other", "state": "ok"}
    try:
        if fate:
            raise Quarantine(fate)
        with per_file():
            _inspect(row, source, relative)
    except Quarantine as verdict:
        row |= {"state": "quarantined", "reason": verdict.reason, "detail": verdict.detail or None}
    return row


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _inspect(row: dict[str, Any], source: Source, relative: str) -> None:
    path = source.export / relative
    if not inside(source.export, path):
        raise Quarantine("not_dicom", "a link that leads out of the export, or no ordinary file")
    with path.open("rb") as file:
        row["stamp"] = stamp(file, source.secret)
        row |= {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size": file.tell()}
        if kind := table_kind(relative):
            row["kind"] = kind
            if not row["size"]:
                raise Quarantine("empty")
            return
        _object(row, read_object(file), source)


def stamp(file: BinaryIO, secret: DerivationSecret) -> str:
    """Keyed hash of an open file's size, inode and times: equal stamps spare another look at all of its bytes.

    Keyed, because the times of a file may be those of an examination.
    """
    told = os.fstat(file.fileno())
    times = told.st_size, told.st_ino, told.st_mtime_ns, told.st_ctime_ns
    return f"{secret.surrogate('stamp', '-'.join(map(str, times))):016x}"


def _object(row: dict[str, Any], ds: Dataset, source: Source) -> None:
    if (sop_class := text(ds, "SOPClassUID")) in UID_dictionary:  # a private one may say whose machine it was
        row["sop_class"] = sop_class
    row["kind"] = require_supported(ds)
    who = subject(ds, source.secret, source.issuer, load_aliases(source.aliases))
    row |= {
        "instance": source.secret.uid(text(ds, "SOPInstanceUID")),
        "series": source.secret.uid(text(ds, "SeriesInstanceUID")),
        "study": source.secret.uid(text(ds, "StudyInstanceUID")),
        "patient": who.patient,
        "accession": who.accession,
        "visit": source.secret.visit(who.patient, day) if (day := _day(text(ds, "StudyDate"))) else None,
    }


def _day(value: str) -> date | None:
    try:
        return parse_date(value)
    except Malformed:
        return None


# ---- parts ---------------------------------------------------------------------------------------------------------


def write_parts(share: Share, _: Watch) -> None:
    """Write one bucket as parts, each with the paths of its files; the counts of all are written last."""
    source, listing = share.source, share.listing
    rows, paths = _gather(share, "verdicts", listing.buckets, _verdicts)
    parts: dict[int, list[dict[str, Any]]] = {number: [] for number in listing.parts_of(share.number)}
    for row in rows:
        parts[bucket_of(row["accession"] or row["source_id"], listing.parts)].append(row)
    for number, held in parts.items():
        held.sort(key=lambda row: row["source_id"])
        seal(source.root / "vault" / SOURCES / f"{part_name(number)}.vault",
             {row["source_id"]: paths[row["source_id"]] for row in held}, source.vault_key)  # fmt: skip
        write_table(source.root / "inventory" / f"{part_name(number)}.parquet", held, INVENTORY)
    counts = Counter(row["reason"] or (row["kind"] if row["state"] == "ok" else row["state"]) for row in rows)
    write_atomic(_counts(share), json.dumps(counts) + "\n")


def _counts(share: Share) -> Path:
    return share.source.root / "inventory" / "steps" / f"counts-{share.number:06d}.json"


def _summarise(root: Path, listing: Listing) -> None:
    counts: Counter[str] = Counter()
    for path in (root / "inventory" / "steps").glob("counts-*.json"):
        counts.update(read_json(path))
    summary = {"files": listing.files, "counts": dict(sorted(counts.items()))}
    write_atomic(root / "inventory" / "summary.json", json.dumps(summary) + "\n")


# ---- between steps -------------------------------------------------------------------------------------------------


def _spread(
    share: Share, rows: list[dict[str, Any]], paths: dict[str, str], out: Path, key: Callable[[dict[str, Any]], str]
) -> None:
    """Rows into `out`, their paths into one sealed file for each bucket that has any."""
    source, buckets = share.source, share.listing.buckets
    apart: dict[int, dict[str, str]] = {}
    for row in rows:
        apart.setdefault(bucket_of(key(row), buckets), {})[row["source_id"]] = paths[row["source_id"]]
    for bucket, held in apart.items():
        seal(_paths(source.root, out.stem, bucket), held, source.vault_key)
    spread(out, rows, INVENTORY, buckets, lambda row: bucket_of(key(row), buckets))


def _gather(
    share: Share, step: str, writers: int, made: Callable[[Share], Path]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rows of one bucket by all writers of a step, and their paths."""
    source = share.source
    files = [made(replace(share, number=n)) for n in range(writers)]
    paths: dict[str, str] = {}
    for path in sorted(_paths(source.root, step, share.number).parent.glob(f"{step}-*.vault")):
        paths |= unseal(path, source.vault_key)
    return gather(files, share.number, INVENTORY).to_pylist(), paths


def _paths(root: Path, writer: str, bucket: int) -> Path:
    return root / "vault" / "steps" / f"{bucket:05d}" / f"{writer}.vault"
