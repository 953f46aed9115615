"""Searching every file of an output for every strong value at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from pipelines.score.values import spellings, stands_alone

TAIL = 6
"""Bytes of a pattern's end that are looked up; shorter patterns are searched one by one."""
BULK = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


class Matcher:
    """Finds any of many byte patterns: their last six bytes through one sorted table, the rest by comparison."""

    def __init__(self, values: Iterable[tuple[str, str, int]]) -> None:
        """`values` are (kind, text, owner)."""
        self._by_tail: dict[int, list[tuple[bytes, str, int]]] = {}
        self._short: list[tuple[bytes, str, int]] = []
        for kind, text, owner in values:
            for pattern in spellings(text):
                entry = (pattern, kind, owner)
                if len(pattern) < TAIL:
                    self._short.append(entry)
                else:
                    self._by_tail.setdefault(int.from_bytes(pattern[-TAIL:], "little"), []).append(entry)
        self._tails = np.array(sorted(self._by_tail), np.uint64)

    def find(self, data: bytes) -> set[tuple[str, int, bytes]]:
        """(kind, owner, pattern) of the patterns in `data`, ASCII case ignored."""
        data = data.lower()
        found = set()
        for end, tail in self._candidates(data):
            for pattern, kind, owner in self._by_tail[tail]:
                start = end - len(pattern)
                if start >= 0 and data.startswith(pattern, start) and stands_alone(data, start, end, kind):
                    found.add((kind, owner, pattern))
        for pattern, kind, owner in self._short:
            start = data.find(pattern)
            while start >= 0 and not stands_alone(data, start, start + len(pattern), kind):
                start = data.find(pattern, start + 1)
            if start >= 0:
                found.add((kind, owner, pattern))
        return found

    def _candidates(self, data: bytes) -> Iterator[tuple[int, int]]:
        """(end, tail) of every place whose six bytes end some pattern."""
        if len(data) < TAIL or not len(self._tails):
            return
        raw = np.frombuffer(data, np.uint8).astype(np.uint64)
        windows = np.zeros(len(raw) - TAIL + 1, np.uint64)
        for i in range(TAIL):
            windows |= raw[i : len(raw) - TAIL + 1 + i] << np.uint64(8 * i)
        place = np.minimum(np.searchsorted(self._tails, windows), len(self._tails) - 1)
        for start in np.flatnonzero(self._tails[place] == windows).tolist():
            yield start + TAIL, int(windows[start])


def contents(path: Path) -> Iterator[bytes]:
    """What a file says, in every way it can be read: its bytes (pixel data left out) and its decoded text."""
    data = path.read_bytes()
    if path.suffix == ".dcm" or data[128:132] == b"DICM":
        try:
            ds = dcmread(path, force=True)
            yield without_pixels(data, ds)
            yield "\n".join(text for _, _, text in elements(ds)).encode()
            return
        except (InvalidDicomError, ValueError, KeyError, EOFError, NotImplementedError, AttributeError):
            pass  # no DICOM after all: search all of it
    yield data
    if path.suffix == ".parquet" or data[:4] == b"PAR1":
        yield from _parquet(path)
    elif data[:4] == b"\x89PNG":
        yield from _png(path)
    elif b"\\u" in data:
        yield re.sub(rb"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)).encode("utf-8", "replace"), data)


def without_pixels(data: bytes, ds: Dataset) -> bytes:
    """The bytes of a DICOM file without the value of its pixel data."""
    for keyword in BULK:
        value = ds.get(keyword)
        if isinstance(value, bytes) and value and (start := data.rfind(value)) >= 0:
            data = data[:start] + data[start + len(value) :]
    return data


def elements(ds: Dataset) -> Iterator[tuple[str, str, str]]:
    """(path of keywords, VR, decoded text) of every element at any depth, file meta and preamble included."""
    preamble = getattr(ds, "preamble", None) or b""
    yield "preamble", "OB", preamble.decode("utf-8", "replace") + "\n" + preamble.decode("latin-1")
    if (meta := getattr(ds, "file_meta", None)) is not None:
        yield from _walk(meta, "")
    yield from _walk(ds, "")


def _walk(ds: Dataset, path: str) -> Iterator[tuple[str, str, str]]:
    for element in ds:
        name = path + (element.keyword or f"({element.tag.group:04X},{element.tag.element:04X})")
        if element.VR == "SQ":
            for item in element.value or []:
                yield from _walk(item, name + ".")
        elif element.keyword not in BULK:
            value = element.value
            if isinstance(value, bytes):
                yield name, element.VR, value.decode("utf-8", "replace") + "\n" + value.decode("latin-1")
            else:
                many = value if element.VM > 1 else [value]
                yield name, element.VR, "\n".join(str(part) for part in many)


def _parquet(path: Path) -> Iterator[bytes]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError):
        return
    yield json.dumps({str(k): str(v) for k, v in (file.schema_arrow.metadata or {}).items()}).encode()
    for batch in file.iter_batches(batch_size=4096):
        for column in batch.columns:
            yield "\n".join(str(value) for value in column.to_pylist() if value is not None).encode()


def _png(path: Path) -> Iterator[bytes]:
    try:
        with Image.open(path) as image:
            image.load()
            yield "\n".join(f"{key} {value}" for key, value in image.info.items()).encode()
    except (UnidentifiedImageError, OSError, ValueError):
        return
