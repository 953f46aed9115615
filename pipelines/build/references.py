"""A few images of a cohort as their source holds them: whole size, whole depth, no window.

The store holds windowed 8 bit images of one size, which most encoders were not trained on exactly. On these references
`evaluate` measures how far the store departs from an encoder's published preparation of the source.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.build.decode import Undecodable
from pipelines.contract import write_atomic

FOLDER = "references"
IMAGES = 8


def choose_references(index: pa.Table) -> list[dict[str, Any]]:
    """Rows of the index, frontal and of train where there are such, spread over its order."""
    for rows in (
        index.filter((pc.field("split") == "train") & (pc.field("view") != "LATERAL")),
        index.filter(pc.field("view") != "LATERAL"),
        index,
    ):
        if len(rows):
            at = np.unique(np.linspace(0, len(rows) - 1, IMAGES).round().astype(int))
            chosen: list[dict[str, Any]] = rows.take(pa.array(at)).to_pylist()
            return chosen
    return []


def write_references(root: Path, rows: list[dict[str, Any]], read: Callable[[dict[str, Any]], np.ndarray]) -> None:
    """Write `references/<image>.png` (16 bit grey) of rows of the index; `read` gives uint16 [H, W]."""
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    for row in rows:
        try:
            pixels = read(row)
        except Undecodable:
            continue
        write_atomic(folder / f"{row['image']}.png", cv2.imencode(".png", pixels)[1].tobytes())


def read_references(root: Path) -> list[tuple[int, np.ndarray]]:
    """(row, uint16 [H, W]) by row; empty for a cohort without, which an older version built."""
    paths = sorted((root / FOLDER).glob("*.png"), key=lambda p: int(p.stem))
    read = [(int(p.stem), cv2.imread(str(p), cv2.IMREAD_UNCHANGED)) for p in paths]
    return [(row, pixels) for row, pixels in read if pixels is not None]
