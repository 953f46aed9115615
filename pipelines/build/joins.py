"""Texts and masks joined to the images of a cohort."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import tables
from pipelines.build.chunk import inside
from pipelines.build.inputs import Source
from pipelines.build.segments import segment_masks
from pipelines.build.texts import split_sections
from pipelines.contract import BadInput, write_atomic

BATCH = 4096


def join_texts(sources: list[Source], accessions: pa.Array) -> pa.Table:
    """tables.TEXTS of the studies in the cohort, sorted by accession; of two sources the first speaks."""
    reports = _once(rows_of(sources, "reports", tables.REPORTS, accessions), ["accession"])
    batches = []
    for batch in reports.select(["accession", "patient", "text"]).to_batches(max_chunksize=BATCH):
        sections = [split_sections(text or "") for text in batch["text"].to_pylist()]
        columns = (pa.array(column, pa.string()) for column in zip(*sections, strict=True))
        batches.append(pa.record_batch([*batch.columns, *columns], schema=tables.TEXTS))
    return pa.Table.from_batches(batches, schema=tables.TEXTS)


def join_masks(sources: list[Source], index: pa.Table, out: Path) -> tuple[pa.Table, dict[str, int]]:
    """tables.COHORT_MASKS, the masks written under `out/masks` in the geometry of the store, and what was left out.

    A mask or polyline belongs to its study's first frontal image (lowest InstanceNumber), a segment of a DICOM SEG to
    the image it refers to. It is left out and counted where that image is not in the cohort (`no_frontal`), the sizes
    differ (`size`) or a segment names no known structure (`unknown`). `index` carries the column `number`.
    """
    rows, left_out = [], {"no_frontal": 0, "size": 0, "unknown": 0}
    for source in sources:
        masks = tables.read_table(source.folder / "masks.parquet", tables.MASKS)
        masks = masks.filter(pc.is_in(masks["accession"], index["accession"].combine_chunks()))
        images = _first_frontals(index.filter(pc.is_in(index["accession"], masks["accession"].combine_chunks())))
        for mask in masks.to_pylist():
            image = images.get(mask["accession"])
            if image is None:
                left_out["no_frontal"] += 1
                continue
            path = f"masks/{mask['structure']}/{mask['accession']}.png" if mask["output"] else None
            if path and not _write_mask(_read_mask(source.folder, mask), image, out, path):
                left_out["size"] += 1
                continue
            keys = {name: mask[name] for name in ("accession", "patient", "structure", "position")}
            points = _map_points(mask["points"], image["affine"])
            rows.append(keys | {"image": image["image"], "path": path, "points": points})
        rows += _join_segments(source, index, out, left_out)
    rows = list({(row["image"], row["structure"]): row for row in reversed(rows)}.values())
    rows.sort(key=lambda row: (row["image"], row["structure"]))
    return pa.Table.from_pylist(rows, schema=tables.COHORT_MASKS), left_out


def rows_of(sources: list[Source], name: str, schema: pa.Schema, accessions: pa.Array) -> pa.Table:
    """A table of all sources, its rows of the cohort's studies only."""
    parts = []
    for source in sources:
        table = tables.read_table(source.folder / f"{name}.parquet", schema)
        parts.append(table.filter(pc.is_in(table["accession"], accessions)))
    return pa.concat_tables(parts)


def _once(table: pa.Table, keys: list[str]) -> pa.Table:
    """The first row of each key, sorted by it."""
    table = table.append_column("_row", pa.array(np.arange(len(table))))
    first = table.group_by(keys).aggregate([("_row", "min")])
    return table.take(first["_row_min"].combine_chunks()).sort_by([(key, "ascending") for key in keys])


def _first_frontals(index: pa.Table) -> dict[str, dict[str, Any]]:
    """The first frontal image of each study by accession; a view that nobody named may be frontal."""
    columns = ["image", "accession", "view", "number", "rows", "columns", "source_rows", "source_columns", "affine"]
    best: dict[str, dict[str, Any]] = {}
    for image in index.filter(pc.field("view") != "LATERAL").select(columns).to_pylist():
        rank = (image["view"] == "unknown", image["number"], image["image"])
        if image["accession"] not in best or rank < best[image["accession"]]["rank"]:
            best[image["accession"]] = image | {"rank": rank}
    return best


def _join_segments(source: Source, index: pa.Table, out: Path, left_out: dict[str, int]) -> list[dict[str, Any]]:
    """Rows of the segments of a folder's DICOM SEG objects."""
    rows = []
    place: dict[str, int] = {}
    for mask in segment_masks(source):
        place = place or {instance: i for i, instance in enumerate(index["instance"].to_pylist())}
        if mask is None:
            left_out["unknown"] += 1
            continue
        if mask.instance not in place:
            left_out["no_frontal"] += 1
            continue
        image = index.slice(place[mask.instance], 1).to_pylist()[0]
        path = f"masks/{mask.structure}/{mask.instance}.png"
        if not _write_mask(mask.pixels, image, out, path):
            left_out["size"] += 1
            continue
        keys = {"accession": image["accession"], "patient": image["patient"], "structure": mask.structure}
        rows.append(keys | {"image": image["image"], "path": path, "points": None, "position": None})
    return rows


def _read_mask(folder: Path, mask: dict[str, Any]) -> np.ndarray | None:
    """bool [H, W] of a mask file, None when it is no picture; BadInput when it is not what was released."""
    try:
        data = inside(folder, mask["output"]).read_bytes()
    except FileNotFoundError:
        raise BadInput("A mask of masks.parquet is missing; the folder was changed after its release.") from None
    if hashlib.sha256(data).hexdigest() != mask["sha256"]:
        raise BadInput(f"A mask of {mask['accession']} was changed after its release; review the export again.")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if pixels is None else (pixels if pixels.ndim == 2 else pixels.max(axis=2)) > 0


def _write_mask(on: np.ndarray | None, image: dict[str, Any], out: Path, relative: str) -> bool:
    """Resize a mask to its stored image (nearest) and write it; False when it has another size than the source."""
    if on is None or on.shape != (image["source_rows"], image["source_columns"]):
        return False
    small = cv2.resize(
        on.astype(np.uint8) * 255, (image["columns"], image["rows"]), interpolation=cv2.INTER_NEAREST_EXACT
    )
    path = inside(out, relative)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, cv2.imencode(".png", small)[1].tobytes())
    return True


def _map_points(points: list[float] | None, affine: list[float]) -> list[float] | None:
    """A polyline x0 y0 x1 y1 ... of the source in pixels of the store."""
    if not points:
        return None
    a, b, c, d, e, f = affine
    xy = np.array(points, np.float64).reshape(-1, 2)
    return np.stack([a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f], 1).ravel().tolist()
