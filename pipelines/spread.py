"""Rows brought together by key without a list of all of them: writers spread rows over buckets, readers gather one.

A key is a keyed hash already (a pseudonym, a source_id, a new UID), so its leading bits cut any number of rows into
even ranges. A writer leaves one file with a batch for each bucket; who reads bucket b reads that batch of every file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.contract import atomic

_BASE32 = {letter: value for value, letter in enumerate("234567ABCDEFGHIJKLMNOPQRSTUVWXYZ")}
_BITS = 32


def bucket_of(key: str, buckets: int) -> int:
    """The range of `key` among `buckets`. Keys in order are in buckets in order, new UIDs aside."""
    return _rank(key) * buckets >> _BITS


def _rank(key: str) -> int:
    """Leading bits of a keyed hash, by the form it is written in (keys.py)."""
    if key.startswith("2.25."):
        return int(key[5:]) >> 128 - _BITS
    if len(key) == 32:
        return int(key[:8], 16)
    value = 0
    for letter in key[1:8]:  # `P` or `A`, then base 32: 35 bits
        value = value << 5 | _BASE32[letter]
    return value >> 35 - _BITS


def spread(
    path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema, buckets: int, bucket: Callable[[dict[str, Any]], int]
) -> None:
    """Write rows to `path`, atomically, so that each bucket can be read alone; order is kept within a bucket."""
    batches: list[list[dict[str, Any]]] = [[] for _ in range(buckets)]
    for row in rows:
        batches[bucket(row)].append(row)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, pa.ipc.new_file(temporary, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


def gather(paths: Iterable[Path], bucket: int, schema: pa.Schema) -> pa.Table:
    """The rows of one bucket of every file, file by file."""
    return pa.Table.from_batches(_batches(paths, bucket), schema)


def _batches(paths: Iterable[Path], bucket: int) -> Iterator[pa.RecordBatch]:
    for path in paths:
        with pa.OSFile(str(path)) as source:
            yield pa.ipc.open_file(source).get_batch(bucket)
