"""Where the parts of a cohort lie, and the digest that names its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipelines.contract import sha256_file

TABLES = {"index": "index.parquet", "texts": "texts.parquet", "labels": "labels.parquet", "masks": "masks.parquet"}


def shard_name(shard: int) -> str:
    """Path of a shard inside the cohort: uint8 images, row-major, one after the other."""
    return f"images/shard-{shard:05d}.bin"


def cohort_digest(folder: Path, shards: list[str]) -> str:
    """SHA-256 over the digests of the four tables and of the shards, in a fixed order."""
    lines = [f"{name} {sha256_file(folder / file)}" for name, file in TABLES.items()]
    return hashlib.sha256("\n".join(lines + shards).encode()).hexdigest()
