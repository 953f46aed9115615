"""Writing a cohort: parts of images, shards assembled from them, the tables, and the digest that names the whole.

Parts let many processes write at once and a killed build go on; shards are cut by size alone, so the same images
give the same bytes however they were written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from pipelines import tables
from pipelines.cohort.layout import TABLES, cohort_digest, shard_name
from pipelines.contract import atomic, sha256_file

SHARD_BYTES = 256 << 20
BLOCK = 4 << 20
SCHEMAS = {
    "index": tables.INDEX,
    "texts": tables.TEXTS,
    "labels": tables.COHORT_LABELS,
    "masks": tables.COHORT_MASKS,
}


@dataclass(frozen=True)
class Part:
    """A file of uint8 images, row-major, one after the other; `sizes` are their bytes."""

    path: Path
    sizes: tuple[int, ...]


def stored_shape(rows: int, columns: int, side: int) -> tuple[int, int]:
    """Rows and columns in the store: the shorter side is `side`, the aspect is kept to the pixel."""
    scale = side / min(rows, columns)
    return max(side, round(rows * scale)), max(side, round(columns * scale))


def write_part(path: Path, images: Iterable[np.ndarray]) -> Part:
    """Write uint8 [H, W] images one after the other, atomically; one image is in memory at a time."""
    sizes = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, temporary.open("wb") as f:
        for pixels in images:
            f.write(np.ascontiguousarray(pixels, np.uint8))
            sizes.append(pixels.size)
    return Part(path, tuple(sizes))


def place_images(sizes: np.ndarray, shard_bytes: int = SHARD_BYTES) -> tuple[np.ndarray, np.ndarray]:
    """Shard (int32) and byte offset (int64) of images of these byte sizes; no image crosses a shard."""
    shards, offsets = np.zeros(len(sizes), np.int32), np.zeros(len(sizes), np.int64)
    shard = used = 0
    for i, size in enumerate(sizes.tolist()):
        if used and used + size > shard_bytes:
            shard, used = shard + 1, 0
        shards[i], offsets[i] = shard, used
        used += size
    return shards, offsets


def assemble_shards(
    folder: Path, parts: list[Part], shard_bytes: int = SHARD_BYTES
) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    """Join parts to shards; yields (shard [images], offset [images], digest) of each shard as it is finished.

    A finished shard is taken as it is and parts are removed once their last image is in one, so that a resumed
    assembly goes on and the disk holds little twice.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    sizes = np.array([size for part in parts for size in part.sizes], np.int64)
    owners = np.repeat(np.arange(len(parts)), [len(part.sizes) for part in parts])
    starts = np.concatenate([np.cumsum([0, *part.sizes[:-1]]) for part in parts if part.sizes] or [sizes])
    last = np.cumsum([len(part.sizes) for part in parts]) - 1
    shards, offsets = place_images(sizes, shard_bytes)
    for shard in np.unique(shards).tolist():
        rows = np.flatnonzero(shards == shard)
        path = folder / shard_name(shard)
        if path.exists():
            digest = sha256_file(path)
        else:
            runs = [rows[owners[rows] == owner] for owner in np.unique(owners[rows])]
            pieces = [(parts[owners[r[0]]].path, int(starts[r[0]]), int(sizes[r].sum())) for r in runs]
            digest = _join(path, pieces)
        for owner in np.unique(owners[rows]).tolist():
            if last[owner] <= rows[-1]:
                parts[owner].path.unlink(missing_ok=True)
        yield shards[rows], offsets[rows], digest


def seal_cohort(folder: Path, content: dict[str, pa.Table], shards: list[str], facts: dict[str, Any]) -> dict[str, Any]:
    """Write the four tables and return what `result.json` shall say: `facts`, the shards and the digest.

    `shards` are the digests of the shards in order; `facts` holds practice, side, policies, sites, counts and flow.
    """
    for name, file in TABLES.items():
        tables.write_table(folder / file, content[name], SCHEMAS[name])
    records = [{"sha256": s, "bytes": (folder / shard_name(i)).stat().st_size} for i, s in enumerate(shards)]
    return {"digest": cohort_digest(folder, shards), **facts, "shards": records}


def _join(path: Path, pieces: list[tuple[Path, int, int]]) -> str:
    """Write a shard from (part, start, bytes) and return its SHA-256."""
    digest = hashlib.sha256()
    with atomic(path) as temporary, temporary.open("wb") as out:
        for part, start, length in pieces:
            with part.open("rb") as f:
                f.seek(start)
                for block in _blocks(f, length):
                    digest.update(block)
                    out.write(block)
    return digest.hexdigest()


def _blocks(f: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        block = f.read(min(BLOCK, length))
        if not block:
            raise EOFError("a part of the image store is shorter than its index says")
        length -= len(block)
        yield block
