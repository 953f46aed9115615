"""The pulmonary vascular tree: arteries and veins branching in three dimensions from the hila."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.practice.anatomy import LEFT, RIGHT, Projector, Thorax

Array = NDArray[Any]
GENERATIONS = 8


@dataclass(frozen=True)
class Branches:
    """Segments of one generation: bent lines (N, 3 points, 3) in mm with their radius (N,) in mm."""

    lines: Array
    radius: Array


def hilum(thorax: Thorax, side: int) -> Array:
    """Centre of a hilum in mm; the left one is higher."""
    return np.array([side * (36 if side == RIGHT else 38), -4.0, thorax.carina[2] + (27 if side == RIGHT else 16)])


def grow_tree(thorax: Thorax, rng: np.random.Generator) -> list[Branches]:
    """Both lungs' arteries and veins, one entry a generation; bases get more and thicker vessels than apices."""
    starts, ways, radii = [], [], []
    for side in (RIGHT, LEFT):
        root = hilum(thorax, side)
        # Directions of the segmental roots in the frontal plane: 0 is lateral, negative is up.
        for angle in (-1.35, -1.0, -0.55, -0.1, 0.3, 0.62, 0.9, 1.15, 1.4):
            for depth in (-0.5, 0.45):
                turn = angle + rng.normal(0, 0.13)
                way = np.array([side * np.cos(turn), depth + rng.normal(0, 0.25), np.sin(turn)])
                starts.append(root + rng.normal(0, 1, 3) * [5, 9, 8])
                ways.append(way / np.linalg.norm(way))
                radii.append((3.0 if turn > 0 else 2.1) * rng.uniform(0.75, 1.1))
    start, way, radius = np.array(starts), np.array(ways), np.array(radii)
    scale = thorax.lung_height / 250
    tree: list[Branches] = []
    for generation in range(GENERATIONS):
        length = 30 * scale * 0.83**generation * rng.uniform(0.6, 1.3, len(start))
        end = start + way * length[:, None]
        bent = (start + end) / 2 + rng.normal(0, 0.055, start.shape) * length[:, None]
        tree.append(Branches(np.stack([start, bent, end], 1), radius))
        start, way, radius = _fork(end, way, radius, thorax, rng)
    return tree


def _fork(
    end: Array, way: Array, radius: Array, thorax: Thorax, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Two children each, those outside the lung dropped. Radii follow Murray's law with uneven daughters."""
    share = rng.uniform(0.3, 0.7, len(end))
    children = []
    axis = rng.standard_normal(way.shape)
    axis -= (axis * way).sum(1, keepdims=True) * way
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    for part, sign in ((share, 1), (1 - share, -1)):
        angle = sign * (0.95 - 0.85 * part) * rng.uniform(0.6, 1.2, len(end))
        turned = way * np.cos(angle)[:, None] + axis * np.sin(angle)[:, None]
        turned += rng.normal(0, 0.07, way.shape)
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        children.append((end, turned, radius * part ** (1 / 3) * 0.93))
    start, way, radius = (np.concatenate(values) for values in zip(*children, strict=True))
    inside = (np.abs(start[:, 0]) < thorax.outer(start[:, 2]) - 2) & (np.abs(start[:, 0]) > 12)
    inside &= np.abs(start[:, 1]) < thorax.depth(start[:, 2])
    inside &= (start[:, 2] > 4) & (start[:, 2] < thorax.lung_height + 40)
    return start[inside], way[inside], radius[inside]


def draw_tree(
    tree: list[Branches], thorax: Thorax, projector: Projector, shape: tuple[int, int], engorged: float, step: int = 1
) -> Array:
    """Vessels in cm of soft tissue, float32 of `shape`; `engorged` widens them as congestion does."""
    total = np.zeros(shape, np.float32)
    mm = 1 / (projector.spacing * step)
    for branches in tree:
        flat = projector(branches.lines.reshape(-1, 3)).reshape(-1, 3, 2) / step
        width = 2 * branches.radius * (1 + 0.5 * engorged) * mm
        pixels = np.maximum(np.round(width), 1).astype(int)
        for thickness in np.unique(pixels):
            chosen = pixels == thickness
            # A line cannot be thinner than a pixel: what is finer is drawn fainter. 2r cm of blood at the centre.
            strength = float(np.mean(np.minimum(width[chosen], thickness) * 2 * branches.radius[chosen] / thickness))
            layer = np.zeros(shape, np.uint8)
            lines = np.round(flat[chosen] * 16).astype(np.int32)
            cv2.polylines(layer, list(lines), False, 200, int(thickness), cv2.LINE_AA, 4)
            if thickness > 2:
                layer = cv2.GaussianBlur(layer, (0, 0), thickness * 0.24)
            cv2.scaleAdd(layer.astype(np.float32), strength * 0.1 / 200 * 1.7, total, total)
    return total * np.float32(thorax.anatomy.vessel * (1 + 0.3 * engorged))
