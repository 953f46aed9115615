"""The partitioned inventory: one row a file, in pseudonyms, with duplicates and conflicts decided.

Partitions cut the keyed hash: a DICOM object lies in the one of its new SOPInstanceUID, so that all files which claim
one UID meet in one partition, whatever the order in which they were found; any other file in the one of its source_id.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.contract import read_json, write_atomic
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.vault import SOURCES, seal, unseal
from pipelines.keys import DerivationSecret
from pipelines.parallel import Pool, Progress, Watch
from pipelines.scan.dicom import configure_pydicom, per_file, read_object, require_image, subject, text
from pipelines.scan.files import inside, list_files, table_kind
from pipelines.tables import write_table

INVENTORY = pa.schema(
    [
        ("source_id", pa.string()),
        ("kind", pa.string()),  # image | report | label | mask | other
        ("state", pa.string()),  # ok | duplicate | quarantined
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("instance", pa.string()),  # new UIDs
        ("series", pa.string()),
        ("study", pa.string()),
        ("patient", pa.string()),
        ("accession", pa.string()),
        ("sop_class", pa.string()),
    ]
)
CHUNK_FILES = 256
PART_FILES = 16
MOST_PARTS = 65536


@dataclass(frozen=True)
class Listing:
    """How an export was cut. Fixed when scanning begins, so that a resumed scan means the same files."""

    files: int
    chunks: int
    parts: int


@dataclass(frozen=True)
class Chunk:
    """A run of the sorted listing, to be read by one process."""

    number: int
    export: Path
    root: Path
    secret: DerivationSecret
    vault_key: bytes
    issuer: str


def scan_export(
    export: Path, root: Path, secret: DerivationSecret, vault_key: bytes, issuer: str, pool: Pool
) -> Listing:
    """Write `root/inventory/part-*.parquet` and `root/vault/sources/part-*.vault`; resumes after any interruption."""
    listing = _listing(export, root, secret, vault_key)
    folder = root / "inventory"
    if (folder / "summary.json").exists():
        _drop_chunks(root)
        return listing
    chunks = [Chunk(n, export, root, secret, vault_key, issuer) for n in range(listing.chunks)]
    left = [c for c in chunks if not _chunk_table(root, c.number).exists()]
    done = min(listing.files, (len(chunks) - len(left)) * CHUNK_FILES)
    for _ in pool.map(scan_chunk, left, Progress(pool.run, listing.files, "scan", done)):
        pass
    _partition(root, listing, vault_key)
    return listing


def read_part(root: Path, part: int) -> list[dict[str, Any]]:
    """The rows of one partition, by source_id."""
    rows: list[dict[str, Any]] = pq.read_table(root / "inventory" / f"{part_name(part)}.parquet").to_pylist()
    return rows


def part_name(part: int) -> str:
    return f"part-{part:05d}"


def part_of(row: dict[str, Any], parts: int) -> int:
    """The partition of a row: the leading bits of its new instance UID, else of its source_id."""
    number = int(row["instance"].removeprefix("2.25.")) if row["instance"] else int(row["source_id"], 16)
    return number * parts >> 128


def scan_chunk(chunk: Chunk, watch: Watch) -> None:
    """Read the files of one chunk and write its rows."""
    configure_pydicom()
    rows = []
    found = unseal(_chunk_vault(chunk.root, chunk.number), chunk.vault_key).items()
    for (source_id, relative), fate in watch.over(list(found), lambda f: f[0], lambda f: _size(chunk.export / f[1])):
        rows.append(_row(chunk, source_id, relative, fate))
    write_table(_chunk_table(chunk.root, chunk.number), rows, INVENTORY)


def decide(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one partition with `duplicate` and `conflict` settled; the smallest source_id of equals wins."""
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


def _row(chunk: Chunk, source_id: str, relative: str, fate: str | None) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(INVENTORY.names) | {"source_id": source_id, "kind": "other", "state": "ok"}
    try:
        if fate:
            raise Quarantine(fate)
        with per_file():
            _inspect(row, chunk, relative)
    except Quarantine as verdict:
        row |= {"state": "quarantined", "reason": verdict.reason, "detail": verdict.detail or None}
    return row


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _inspect(row: dict[str, Any], chunk: Chunk, relative: str) -> None:
    path = chunk.export / relative
    if not inside(chunk.export, path):
        raise Quarantine("not_dicom", "a link that leads out of the export, or no ordinary file")
    raw = path.read_bytes()
    row |= {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    if kind := table_kind(relative):
        row["kind"] = kind
        if not raw:
            raise Quarantine("empty")
        return
    ds = read_object(raw)
    require_image(ds)
    row["kind"] = "image"
    who = subject(ds, chunk.secret, chunk.issuer)
    row |= {
        "instance": chunk.secret.uid(text(ds, "SOPInstanceUID")),
        "series": chunk.secret.uid(text(ds, "SeriesInstanceUID")),
        "study": chunk.secret.uid(text(ds, "StudyInstanceUID")),
        "patient": who.patient,
        "accession": who.accession,
        "sop_class": text(ds, "SOPClassUID"),
    }


def _listing(export: Path, root: Path, secret: DerivationSecret, vault_key: bytes) -> Listing:
    path = root / "inventory" / "listing.json"
    if path.exists():
        return Listing(**read_json(path))
    files = list_files(export)
    chunks = [files[i : i + CHUNK_FILES] for i in range(0, len(files), CHUNK_FILES)]
    parts = min(MOST_PARTS, 1 << max(0, (len(files) - 1) // PART_FILES).bit_length())
    for number, paths in enumerate(chunks):
        seal(_chunk_vault(root, number), {secret.source_id(p): p for p in paths}, vault_key)
    listing = Listing(len(files), len(chunks), parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "chunks").mkdir(exist_ok=True)
    write_atomic(path, json.dumps(listing.__dict__) + "\n")
    return listing


def _partition(root: Path, listing: Listing, vault_key: bytes) -> None:
    """Turn chunks into partitions; `summary.json`, written last, says that they are whole."""
    sources: dict[str, str] = {}
    parts: list[list[dict[str, Any]]] = [[] for _ in range(listing.parts)]
    for number in range(listing.chunks):
        sources.update(unseal(_chunk_vault(root, number), vault_key))
        for row in pq.read_table(_chunk_table(root, number)).to_pylist():
            parts[part_of(row, listing.parts)].append(row)
    counts: dict[str, int] = {}
    for number, rows in enumerate(parts):
        rows = decide(rows)
        write_table(root / "inventory" / f"{part_name(number)}.parquet", rows, INVENTORY)
        paths = {r["source_id"]: sources[r["source_id"]] for r in rows}
        seal(root / "vault" / SOURCES / f"{part_name(number)}.vault", paths, vault_key)
        for row in rows:
            key = row["reason"] or (row["kind"] if row["state"] == "ok" else row["state"])
            counts[key] = counts.get(key, 0) + 1
    summary = {"files": listing.files, "counts": dict(sorted(counts.items()))}
    write_atomic(root / "inventory" / "summary.json", json.dumps(summary) + "\n")
    _drop_chunks(root)


def _drop_chunks(root: Path) -> None:
    """Chunks serve until the partitions are whole. A run killed just then leaves some, so a resumed one asks again."""
    shutil.rmtree(root / "inventory" / "chunks", ignore_errors=True)
    shutil.rmtree(root / "vault" / "chunks", ignore_errors=True)


def _chunk_vault(root: Path, number: int) -> Path:
    return root / "vault" / "chunks" / f"{number:06d}.vault"


def _chunk_table(root: Path, number: int) -> Path:
    return root / "inventory" / "chunks" / f"{number:06d}.parquet"
