"""The map itself: cosine similarity between one patch of an image and all others. numpy only, for the server too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    """A place in an image: shares of its width from the left and of its height from the top."""

    x: float
    y: float


class Seen(NamedTuple):
    """The part of an image that an encoder sees, as shares of width and height; padding reaches beyond 0..1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Map:
    """Similarities at one depth: after the `block`-th of an encoder's `blocks`, counted from 1."""

    block: int
    blocks: int
    patch: tuple[int, int]
    """Row and column of the chosen patch."""
    values: np.ndarray
    """float32 [h, w] cosines in -1..1."""


@dataclass(frozen=True)
class ModelMaps:
    """One model's maps for one point, early to late; none where the encoder does not see the point."""

    model: str
    seen: Seen
    maps: list[Map]


def unit_vectors(patches: np.ndarray) -> np.ndarray:
    """float16 [..., D] of length 1, from patch vectors of any length; a vector of zeros stays one."""
    wide = patches.astype(np.float32)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    units: np.ndarray = (wide / np.maximum(length, 1e-12)).astype(np.float16)
    return units


def patch_at(point: Point, seen: Seen, rows: int, columns: int) -> tuple[int, int] | None:
    """Row and column of the patch that holds a point; None outside of what the encoder sees."""
    across = (point.x - seen.left) / (seen.right - seen.left)
    down = (point.y - seen.top) / (seen.bottom - seen.top)
    if not (0 <= across <= 1 and 0 <= down <= 1):
        return None
    return min(int(down * rows), rows - 1), min(int(across * columns), columns - 1)


def similarity(units: np.ndarray, patch: tuple[int, int]) -> np.ndarray:
    """float32 [h, w]: cosines between a patch and every patch, from `unit_vectors` [h, w, D]."""
    wide = units.astype(np.float32)
    found: np.ndarray = np.clip(wide @ wide[patch], -1, 1)
    return found


def at_point(model: str, depths: list[tuple[int, int, np.ndarray]], seen: Seen, point: Point) -> ModelMaps:
    """A model's maps for a point; `depths` are (block, blocks, `unit_vectors`)."""
    found = []
    for block, blocks, units in depths:
        patch = patch_at(point, seen, *units.shape[:2])
        if patch is not None:
            found.append(Map(block, blocks, patch, similarity(units, patch)))
    return ModelMaps(model, seen, found)
