"""Stage `external`: a labelled folder from outside the site into a cohort, marked with the name of the set.

The cohort is read by `evaluate` like a site's own. Pseudonyms follow from a key of the set, so that its patients never
meet those of a site; no release is asked for, because nothing of the hospital's own is in it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from pipelines import tables
from pipelines.build.chunk import PART, part_files
from pipelines.build.decode import Undecodable, render, shrink, unwindowed
from pipelines.build.references import choose_references, write_references
from pipelines.build.run import assemble, split_counts
from pipelines.build.texts import split_sections
from pipelines.cohort.writer import seal_cohort, write_part
from pipelines.contract import BadInput, RunFolder, read_json, write_atomic
from pipelines.external.sets import Entry, read_set
from pipelines.external.spec import Spec
from pipelines.keys import DerivationSecret
from pipelines.parallel import map_unordered

CHUNK = 64  # images
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


@dataclass(frozen=True)
class Chunk:
    """Images for one process, with their rows of the index but for what the pixels say."""

    number: int
    paths: list[Path]
    rows: list[dict[str, Any]]
    parts: Path
    side: int


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """Build the cohort in the run folder. BadInput when the tables cannot be read or no image of theirs is there."""
    name, entries = read_set(spec.folder, spec.layout, spec.name)
    secret = set_secret(name)
    here = [entry for entry in entries if entry.path]
    if not here:
        raise BadInput("No image that the table names is in the folder; give the folder that holds both.")
    splits = choose_splits(here, spec.split, secret)
    rows = sorted(((_row(e, splits[e.image], secret), e) for e in here), key=lambda r: _order(r[0]))
    parts = run.root / "parts"
    _begin_or_resume(run.root, parts, rows, spec)
    spans = range(0, len(rows), CHUNK)
    chunks = (_chunk(i, rows[start : start + CHUNK], parts, spec.side) for i, start in enumerate(spans))
    done = 0
    for count in map_unordered(process_chunk, chunks, spec.workers, run):
        done += count
        run.progress(done, len(rows), "reading images")
    undecodable = Counter[str]()
    for i in range(len(spans)):
        undecodable.update(read_json(part_files(parts, i)[2]))
    if sum(undecodable.values()) == len(rows):
        raise BadInput("No image of the set could be read; are they whole PNG, JPEG, TIFF or DICOM files?")
    index, digests = assemble(run, parts, len(spans))
    of = {row["accession"]: entry for row, entry in rows}
    files = {accession: entry.path for accession, entry in of.items() if entry.path}
    write_references(run.root, choose_references(index), lambda row: read_source(files[row["accession"]]))
    result = _seal(spec, run, name, index, digests, of, len(entries), undecodable)
    shutil.rmtree(parts)
    return result


def _chunk(number: int, rows: list[tuple[dict[str, Any], Entry]], parts: Path, side: int) -> Chunk:
    return Chunk(number, [entry.path for _, entry in rows if entry.path], [row for row, _ in rows], parts, side)


def set_secret(name: str) -> DerivationSecret:
    """The key that a set's pseudonyms and draws follow from: of its name alone, the same at every site."""
    return DerivationSecret(f"public set {name}", 1, hashlib.sha256(f"intramural external {name}".encode()).digest())


def choose_splits(entries: list[Entry], how: str, secret: DerivationSecret) -> dict[str, str]:
    """Split of each image. A set that states test and training only gives a validation split of its training patients,
    by the same hash that `divide` goes by. BadInput when a patient would stand in two."""
    drawn = {e.patient: secret.split(secret.patient("", e.patient)) for e in entries}
    stated = all(e.split for e in entries)
    if how == "divide":
        splits = {e.image: drawn[e.patient] for e in entries}
    elif how == "test" or not stated:
        splits = dict.fromkeys((e.image for e in entries), "test")
    else:
        spare = {p for p, split in drawn.items() if split == "validation"}
        if any(e.split == "validation" for e in entries):
            spare = set()
        splits = {e.image: "validation" if e.split == "train" and e.patient in spare else str(e.split) for e in entries}
    pairs = {(e.patient, splits[e.image]) for e in entries}
    torn = len(pairs) - len(drawn)
    if torn:
        raise BadInput(f"{torn:,} patients of the set stand in more than one of its splits; use split = 'divide'.")
    return splits


def _row(entry: Entry, split: str, secret: DerivationSecret) -> dict[str, Any]:
    patient = secret.patient("", entry.patient)
    study = secret.uid(f"study {entry.image}")
    return dict.fromkeys(PART.names) | {
        "instance": secret.uid(entry.image),
        "study": study,
        "accession": secret.accession(entry.image),
        "patient": patient,
        "site": secret.fingerprint,
        "split": split,
        "order": secret.order(patient),
        "view": entry.view,
        "modality": "DX",
        "sex": entry.sex,
        "age": entry.age,
        "number": 1,
    }


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("order", "patient", "study", "instance"))


def _begin_or_resume(root: Path, parts: Path, rows: list[tuple[dict[str, Any], Entry]], spec: Spec) -> None:
    """Hold a resumed run to the set it was begun with."""
    parts.mkdir(exist_ok=True)
    listed = [[row["accession"], row["split"], entry.labels, spec.side] for row, entry in rows]
    digest = {"set": hashlib.sha256(json.dumps(listed).encode()).hexdigest()}
    begun = root / "sources.json"
    if begun.exists() and read_json(begun) != digest:
        raise BadInput("The set's tables changed since this run was begun; build into a new folder.")
    write_atomic(begun, json.dumps(digest))


def process_chunk(chunk: Chunk) -> int:
    """Write the part of a chunk and return how many images it read. A part that is whole is left as it is."""
    pixels, index, done = part_files(chunk.parts, chunk.number)
    if done.exists():
        return len(chunk.rows)
    cv2.setNumThreads(1)
    rows: list[dict[str, Any]] = []
    faults: Counter[str] = Counter()
    write_part(pixels, _stored(chunk, rows, faults))
    tables.write_table(index, rows, PART)
    write_atomic(done, json.dumps(dict(sorted(faults.items()))))
    return len(chunk.rows)


def _stored(chunk: Chunk, rows: list[dict[str, Any]], faults: Counter[str]) -> Iterator[np.ndarray]:
    """Yield the stored image of each file that can be read and append its row."""
    for path, row in zip(chunk.paths, chunk.rows, strict=True):
        try:
            grey, spacing = read_grey(path)
        except Undecodable as error:
            faults[error.args[0]] += 1
            continue
        pixels, affine = shrink(grey, chunk.side)
        sizes = {"rows": pixels.shape[0], "columns": pixels.shape[1], "affine": affine}
        source = {"source_rows": grey.shape[0], "source_columns": grey.shape[1]}
        rows.append(row | sizes | source | {"spacing_row": spacing[0], "spacing_column": spacing[1]})
        yield pixels


def read_grey(path: Path) -> tuple[np.ndarray, tuple[float | None, float | None]]:
    """Displayed image of a file, float32 [H, W] in 0..255, and its spacing in mm where a DICOM header says.

    8 bit pictures are taken as they are, deeper ones by their range, colour by its luminance. Raises Undecodable.
    """
    if path.suffix.lower() in PICTURES:
        pixels = read_picture(path)
        if pixels.dtype == np.uint8:
            return pixels.astype(np.float32), (None, None)
        low, high = float(pixels.min()), float(pixels.max())
        return (pixels.astype(np.float32) - low) * (255 / max(high - low, 1e-6)), (None, None)
    try:
        ds = dcmread(path)
        grey, _ = render(ds)
        rows, columns = (float(v) for v in ds.get("PixelSpacing") or ds.get("ImagerPixelSpacing") or (0, 0))
    except (InvalidDicomError, OSError, ValueError, TypeError, AttributeError, EOFError, RecursionError):
        raise Undecodable("dicom") from None
    return grey, (rows or None, columns or None)


def read_picture(path: Path) -> np.ndarray:
    """Grey picture [H, W] of 8 or 16 bits. Raises Undecodable."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise Undecodable("picture")
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY)


def read_source(path: Path) -> np.ndarray:
    """uint16 [H, W]: the image as its file holds it, for the references. Raises Undecodable."""
    if path.suffix.lower() in PICTURES:
        pixels = read_picture(path)
        return pixels.astype(np.uint16) * 257 if pixels.dtype == np.uint8 else pixels
    return unwindowed(dcmread(path))


def _seal(
    spec: Spec,
    run: RunFolder,
    name: str,
    index: pa.Table,
    digests: list[str],
    entries: dict[str, Entry],
    listed: int,
    undecodable: Counter[str],
) -> dict[str, Any]:
    """The tables of the images that were read, and the cohort's result."""
    kept = [(row, entries[row["accession"]]) for row in index.to_pylist()]
    labels, masks, texts = [], [], []
    for row, entry in kept:
        keys = {"accession": row["accession"], "patient": row["patient"]}
        for label, value in sorted(entry.labels.items()):
            facts = {"label": label, "value": value, "position": entry.positions.get(label)}
            labels.append(keys | facts | {"source": "site", "version": name})
        for structure, points in sorted(entry.polylines.items()):
            mapped = _map(points, row["affine"])
            masks.append(keys | {"image": row["image"], "structure": structure, "path": None, "points": mapped})
        if entry.text.strip():
            sections = split_sections(entry.text)._asdict()
            texts.append(keys | {"text": entry.text} | sections)
    content = {
        "index": index.select(tables.INDEX.names),
        "labels": pa.Table.from_pylist(labels, tables.COHORT_LABELS).sort_by(
            [("accession", "ascending"), ("label", "ascending")]
        ),
        "masks": pa.Table.from_pylist(masks, tables.COHORT_MASKS),
        "texts": pa.Table.from_pylist(texts, tables.TEXTS).sort_by("accession"),
    }
    patients = len(pc.unique(index["patient"]))
    steps = (("Images in the set's tables", listed), ("In the folder", len(entries)), ("Pixels decoded", len(index)))
    facts = {
        "practice": False,
        "public_set": name,
        "side": spec.side,
        "policies": [],
        "sites": [set_secret(name).fingerprint],
        "sources": [],
        "counts": {
            "images": len(index),
            "studies": len(index),
            "patients": patients,
            "reports": len(texts),
            "labelled": len({row["accession"] for row in labels}),
            "masks": len(masks),
            "undecodable": dict(sorted(undecodable.items())),
            "splits": split_counts(index),
        },
        "flow": [{"step": step, "images": count, "studies": count} for step, count in steps],
    }
    return seal_cohort(run.root, content, digests, facts)


def _map(points: list[float], affine: list[float]) -> list[float]:
    """Polylines of the source in pixels of the store; gaps of nan stay."""
    a, _, c, _, e, f = affine
    xy = np.array(points, np.float64).reshape(-1, 2) * [a, e] + [c, f]
    mapped: list[float] = xy.ravel().tolist()
    return mapped
