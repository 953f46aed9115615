"""The lateral view: the same chest from its left side, as path lengths in cm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.practice.anatomy import Projector, Thorax
from pipelines.practice.findings import ZONES, Finding
from pipelines.practice.raster import ball, noise, smoothstep
from pipelines.practice.soft import LUNG_DENSITY, heart_frame, mottle
from pipelines.practice.vessels import Branches, draw_tree

Array = NDArray[Any]


def lateral_maps(
    thorax: Thorax, projector: Projector, findings: tuple[Finding, ...], tree: list[Branches], step: int, rng: Any
) -> tuple[Array, Array]:
    """(tissue in cm without bones, bool map of lung) on the soft-tissue grid. The patient faces the left edge."""
    across, down = projector.grid(step)
    y = -across
    shape = y.shape
    cavity, front, back = _cavity(thorax, y, down)
    right, left = (_dome(thorax, y, top) for top in thorax.dome)
    heart = _heart(thorax, y, down)
    lung = np.zeros(shape, np.float32)
    density = np.full(shape, LUNG_DENSITY, np.float32)
    for hand, line in (("right", right), ("left", left)):
        level = _fluid(findings, hand, thorax, y, front, back, line)
        lung += 0.5 * cavity * smoothstep(1.6, -1.6, down - np.minimum(line, level))
    lung = np.maximum(lung - heart - _great_vessels(thorax, y, down), 0)
    for finding in findings:
        _shade(finding, thorax, y, down, density, rng)
    coarse = projector.spacing * step
    density *= 1 + 0.06 * noise(rng, shape, max(int(14 / coarse), 4), 4, 0.7)
    tissue = _body(thorax, y, down) - lung * (1 - density)
    tissue += 0.8 * draw_tree(tree, thorax, projector, shape, 0.0, step) * np.clip(lung / 8, 0, 1)
    zc = thorax.carina[2]
    windpipe = y - (8 - 0.16 * down)
    tissue -= 1.6 * np.sqrt(np.maximum(1 - (windpipe / 8.5) ** 2, 0)) * smoothstep(zc + 14, zc, down)
    tissue -= 1.2 * ball(y, down, (-12, zc + 16), (6, 6))
    tissue += mottle(shape, coarse, rng) * np.clip(tissue / 12, 0, 1)
    return np.maximum(tissue, 0), lung > 5


def _cavity(thorax: Thorax, y: Array, down: Array) -> tuple[Array, Array, Array]:
    """Both lungs' path in cm, and the depths of the front and back walls."""
    front, back = thorax.front(down), thorax.back(down)
    middle, half = (front + back) / 2, (front - back) / 2
    edge = np.clip(np.abs(y - middle) / np.maximum(half, 1), 0, 1)
    path = 2 * (thorax.outer(down) - 0.8 * thorax.inner(down)) * 0.1 * np.power(1 - edge**3.2, 0.5)
    return 0.86 * path * smoothstep(-4, 30, down), front, back


def _dome(thorax: Thorax, y: Array, top: float) -> Array:
    """z of one half of the diaphragm: highest before the middle, falling into the deep recess behind."""
    s = (y - 0.22 * thorax.half_depth) / thorax.half_depth
    return (top + np.where(s > 0, 26 * s**2, 62 * np.abs(s) ** 2.1)).astype(np.float32)


def _heart(thorax: Thorax, y: Array, down: Array) -> Array:
    """cm of heart, leaning on the breastbone and the front of the diaphragm."""
    right, left, upper, lower = heart_frame(thorax)
    deep, high = 0.46 * thorax.half_depth * (thorax.heart_ratio / 0.44), 0.5 * (lower - upper)
    centre = (0.34 * thorax.half_depth, lower - high + 2)
    return 0.050 * (left - right) * ball(y, down, centre, (1.28 * high, deep), -0.95) ** 1.3


def _great_vessels(thorax: Thorax, y: Array, down: Array) -> Array:
    """cm of aorta and hilar vessels."""
    zc, lung = thorax.carina[2], thorax.lung_height
    back = np.interp(down, [zc - 30, zc, 0.7 * lung, lung], [-20, -38, -52, -45])
    descending = 2.2 * smoothstep(3, -3, np.abs(y - back) - 11) * smoothstep(zc - 22, zc + 2, down)
    arch = 3.0 * ball(y, down, (-12, zc - 16), (30, 20), 0.2)
    ascending = 2.6 * ball(y, down, (20, zc + 16), (18, 44), -0.2)
    hila = 3.6 * ball(y, down, (-2, zc + 24), (17, 19)) + 2.0 * ball(y, down, (-18, zc + 14), (14, 12))
    return np.maximum.reduce([descending, arch, ascending, hila])


def _body(thorax: Thorax, y: Array, down: Array) -> Array:
    """cm of trunk; raised arms thicken the top."""
    anatomy = thorax.anatomy
    t = down / thorax.lung_height
    fat = anatomy.wall * 0.65 + 8
    bust = 42 * anatomy.breast * np.exp(-(((t - 0.62) / 0.17) ** 2))
    front = thorax.front(down) + fat + bust + 14 + 22 * smoothstep(0.05, -0.25, t)
    back = thorax.back(down) - fat - 16 - 26 * smoothstep(0.2, -0.2, t)
    middle, half = (front + back) / 2, (front - back) / 2
    edge = np.clip(np.abs(y - middle) / half, 0, 1)
    across = (
        np.interp(t, [-0.4, -0.2, 0.0, 0.2, 0.5, 1.4], [13, 17, 23, 27, 29, 30])
        * (thorax.half_width + anatomy.wall)
        / 165
    )
    body = across * np.power(1 - edge**4.0, 0.5)
    arm = np.abs(y - (22 - 0.5 * (down + 40)))
    body += 3.0 * np.sqrt(np.maximum(1 - (arm / 60) ** 2, 0)) * smoothstep(70, -45, down)
    return body.astype(np.float32)


def _fluid(
    findings: tuple[Finding, ...], hand: str, thorax: Thorax, y: Array, front: Array, back: Array, dome: Array
) -> Array:
    """z above which this side's lung is free of fluid; far below when there is none."""
    for finding in findings:
        if finding.label == "Effusion" and finding.side in (hand, "both"):
            toward_back = np.clip((front - y) / np.maximum(front - back, 1), 0, 1)
            top = thorax.dome[0 if hand == "right" else 1]
            return top + 30 - (34 + 80 * finding.size) * (0.15 + 0.85 * toward_back**2)
    return dome + 999


def _shade(finding: Finding, thorax: Thorax, y: Array, down: Array, density: Array, rng: Any) -> None:
    """Consolidation, nodule and edema as they overlie the lateral lung."""
    if finding.label == "Edema":
        haze = np.exp(-(np.hypot((y + 5) / 55, (down - thorax.carina[2] - 25) / 70) ** 2))
        density += (0.10 + 0.18 * finding.size) * haze
    elif finding.label in ("Consolidation", "Nodule"):
        shape_rng = np.random.default_rng([finding.seed, thorax.anatomy.seed, 1])
        lesion = finding.label == "Nodule"
        radius = 5 + 10 * finding.size if lesion else 24 + 30 * finding.size
        centre = (shape_rng.uniform(-0.6, 0.1) * thorax.half_depth, ZONES[finding.zone] * thorax.lung_height)
        rough = 0.0 if lesion else 0.25 * noise(shape_rng, y.shape, 40, 4, 0.6)
        distance = np.hypot(y - centre[0], down - centre[1]) / radius + rough
        density += (0.16 if lesion else 0.22) * smoothstep(1.1, 0.4 if not lesion else 0.8, distance)
