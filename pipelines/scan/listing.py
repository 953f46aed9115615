"""What files an export holds, written down in chunks as they are found, and how all that follows is cut."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from pipelines.contract import BadInput, read_json, write_atomic
from pipelines.deidentify.vault import seal
from pipelines.keys import DerivationSecret
from pipelines.scan.files import list_files

CHUNK_FILES = 256
# Beyond one bucket's worth of files, a process reads so many chunks at a time, or buckets would be shreds.
MOST_SPAN = 16
BUCKET_FILES = 65536
PART_FILES = 16
MOST_PARTS = 8192


@dataclass(frozen=True)
class Listing:
    """How an export was cut. Fixed when it is listed, so that a resumed scan means the same files.

    Files are read in `chunks`; their rows are brought together in `buckets` (by instance, then by accession), and a
    bucket is a run of `parts`. All but chunks are ranges of keyed hashes and do not depend on the order of files.
    """

    files: int
    chunks: int
    buckets: int
    parts: int

    @property
    def span(self) -> int:
        """Chunks that are read in one go."""
        return 1 if self.buckets == 1 else MOST_SPAN

    @property
    def readings(self) -> int:
        """How many goes there are."""
        return -(-self.chunks // self.span)

    def parts_of(self, bucket: int) -> range:
        """The parts of a bucket."""
        each = self.parts // self.buckets
        return range(bucket * each, (bucket + 1) * each)


def cut(files: int) -> Listing:
    """The cut of an export of so many files."""
    parts = min(MOST_PARTS, _power(files, PART_FILES))
    return Listing(files, -(-files // CHUNK_FILES), min(parts, _power(files, BUCKET_FILES)), parts)


def _power(files: int, each: int) -> int:
    """The power of two that leaves at most `each` files in a range."""
    return 1 << (max(0, (files - 1) // each)).bit_length()


def list_export(export: Path, root: Path, secret: DerivationSecret, vault_key: bytes) -> Listing:
    """List the export into sealed chunks, whatever the number of files; `inventory/listing.json` is written last."""
    path = root / "inventory" / "listing.json"
    if path.exists():
        return Listing(**read_json(path))
    found, files, chunks = list_files(export), 0, 0
    while paths := list(islice(found, CHUNK_FILES)):
        seal(chunk_vault(root, chunks), {secret.source_id(p): p for p in paths}, vault_key)
        files, chunks = files + len(paths), chunks + 1
    if not files:
        raise BadInput(f"The export folder {export.name} holds no file; check the path you gave.")
    listing = cut(files)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(asdict(listing)) + "\n")
    return listing


def chunk_vault(root: Path, number: int) -> Path:
    """Sealed source_id -> relative path of one chunk."""
    return root / "vault" / "chunks" / f"{number:06d}.vault"
