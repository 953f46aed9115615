"""One chunk of a build: whole patients, read, checked against the manifest, selected, decoded, written as a part."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from pipelines import tables
from pipelines.build.decode import Undecodable, render, shrink
from pipelines.build.select import HEADER_TAGS, Header, apply_rules, read_facts
from pipelines.cohort.writer import write_part
from pipelines.contract import BadInput, sha256_file, write_atomic

# The index of a part: what joins need besides is dropped when the cohort is sealed.
PART = pa.schema([*tables.INDEX, ("number", pa.int32())])


@dataclass(frozen=True)
class Chunk:
    """A task for one process; paths and settings only, so that it travels cheaply."""

    number: int
    candidates: list[dict[str, Any]]
    folders: tuple[Path, ...]
    parts: Path
    side: int
    views: tuple[str, ...]
    minimum_age: int


@dataclass
class Tally:
    """Counts of a chunk: the flow after each rule, how images were windowed, why pixels could not be decoded."""

    flow: list[dict[str, Any]] = field(default_factory=list)
    windows: Counter[str] = field(default_factory=Counter)
    undecodable: Counter[str] = field(default_factory=Counter)
    age_unknown: int = 0

    def step(self, name: str, headers: list[Header]) -> None:
        """Add what remains after a rule."""
        rows = [h.candidate for h in headers]
        studies, patients = {r["study"] for r in rows}, {r["patient"] for r in rows}
        reports = {r["study"] for r in rows if r["reported"]}
        self.flow.append(
            {
                "step": name,
                "images": len(rows),
                "studies": len(studies),
                "patients": len(patients),
                "reports": len(reports),
            }
        )


def part_files(parts: Path, number: int) -> tuple[Path, Path, Path]:
    """Pixels, index and tally of a part; the tally is written last and marks the part as whole."""
    return tuple(parts / f"{number:06d}{ending}" for ending in (".bin", ".parquet", ".json"))  # type: ignore[return-value]


def process_chunk(chunk: Chunk) -> int:
    """Write the part of a chunk and return how many files it read. A part that is whole is left as it is."""
    pixels, index, done = part_files(chunk.parts, chunk.number)
    if done.exists():
        return len(chunk.candidates)
    cv2.setNumThreads(1)
    tally, selected = Tally(), []
    headers = [_read_header(chunk, candidate) for candidate in chunk.candidates]
    for name, remain in apply_rules([h for h in headers if h], chunk.views, chunk.minimum_age):
        tally.step(name, remain)
        selected = remain
    keep = {id(h) for h in selected}
    for candidate, h in zip(chunk.candidates, headers, strict=True):
        if h is None or id(h) not in keep:
            _require_unaltered(sha256_file(_path(chunk, candidate)), candidate)
    rows: list[dict[str, Any]] = []
    write_part(pixels, _decode(chunk, selected, rows, tally))
    stored = {row["instance"] for row in rows}
    tally.step("Pixels decoded", [h for h in selected if h.candidate["instance"] in stored])
    tally.age_unknown = sum(row["age"] is None for row in rows)
    tables.write_table(index, rows, PART)
    write_atomic(done, json.dumps(tally.__dict__, sort_keys=True))
    return len(chunk.candidates)


def _decode(chunk: Chunk, selected: list[Header], rows: list[dict[str, Any]], tally: Tally) -> Iterator[np.ndarray]:
    """Yield the stored image of each header that can be decoded and append its index row."""
    for h in selected:
        data = _path(chunk, h.candidate).read_bytes()
        _require_unaltered(hashlib.sha256(data).hexdigest(), h.candidate)
        try:
            grey, how = render(dcmread(BytesIO(data)))
        except Undecodable as error:
            tally.undecodable[error.args[0]] += 1
            continue
        pixels, affine = shrink(grey, chunk.side)
        tally.windows[how] += 1
        rows.append(_index_row(h, grey.shape, pixels.shape, affine))
        yield pixels


def _index_row(h: Header, source: tuple[int, ...], stored: tuple[int, ...], affine: list[float]) -> dict[str, Any]:
    names = ("instance", "series", "study", "sop_class", "accession", "patient", "site", "split", "order")
    return {name: h.candidate[name] for name in names} | {
        "view": h.view,
        "modality": h.modality,
        "sex": h.sex,
        "age": h.age,
        "date": h.date,
        "rows": stored[0],
        "columns": stored[1],
        "source_rows": source[0],
        "source_columns": source[1],
        "spacing_row": h.spacing and h.spacing[0],
        "spacing_column": h.spacing and h.spacing[1],
        "affine": affine,
        "number": h.rank[2],
    }


def _read_header(chunk: Chunk, candidate: dict[str, Any]) -> Header | None:
    try:
        ds = dcmread(_path(chunk, candidate), stop_before_pixels=True, specific_tags=HEADER_TAGS)
        return read_facts(candidate, ds)
    except FileNotFoundError:
        raise BadInput("A file of the manifest is missing; the folder was changed after its release.") from None
    except (InvalidDicomError, ValueError, KeyError, AttributeError, EOFError, NotImplementedError):
        return None  # either altered, which the digest will tell, or nothing a rule could accept


def _path(chunk: Chunk, candidate: dict[str, Any]) -> Path:
    folder = chunk.folders[candidate["source"]]
    return inside(folder, candidate["output"])


def inside(folder: Path, relative: str) -> Path:
    """`folder / relative`; BadInput when a table points out of its folder."""
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadInput("A table of the de-identified folder points outside of it; de-identify the export again.")
    return path


def _require_unaltered(digest: str, candidate: dict[str, Any]) -> None:
    if digest != candidate["sha256"]:
        raise BadInput(
            f"Instance {candidate['instance']} was changed after its release; de-identify and review the export again."
        )
