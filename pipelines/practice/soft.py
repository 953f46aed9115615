"""Soft tissue and air of a frontal view as path lengths in cm: body, lungs, heart, vessels, diaphragm, gas.

All maps are float32 (rows, columns) on the grid of `Projector.grid`; attenuation is counted in cm of soft tissue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from pipelines.practice.anatomy import LEFT, RIGHT, Projector, Thorax
from pipelines.practice.raster import ball, noise, smoothstep

Array = NDArray[Any]

LUNG_DENSITY = 0.24  # of soft tissue, inflated lung


@dataclass
class Frontal:
    """Maps of one frontal view."""

    across: Array
    down: Array
    body: Array  # cm of tissue if the lungs were solid
    cavity: Array  # cm of lung if heart and diaphragm were absent
    lung: Array  # cm of lung
    lung_outline: Array  # bool: lung seen beside heart and above diaphragm
    heart_outline: Array  # bool
    dome_line: Array  # z of the diaphragm's silhouette, mm
    side: Array  # -1 on the patient's right, +1 on the left of the (rotated) midline


def front_shift(thorax: Thorax, y: float) -> float:
    """Sideways displacement on the image of a midline structure at depth y when the patient is rotated."""
    return float(y * np.sin(thorax.pose.rotation))


def frontal_maps(thorax: Thorax, projector: Projector, step: int) -> Frontal:
    """Body, lungs and heart of one frontal exposure."""
    across, down = projector.grid(step)
    middle = np.float32(front_shift(thorax, 0.1 * thorax.half_depth))
    side = np.where(across >= middle, LEFT, RIGHT).astype(np.float32)
    cavity = _cavity(thorax, across, down)
    heart_parts, heart_outline = heart(thorax, projector, across, down)
    dome_line = diaphragm(thorax, across, side)
    above = smoothstep(1.6, -1.6, down - dome_line)
    # Lung behind the dome: the posterior recess reaches a hand deeper and thins out.
    behind = 0.30 * np.exp(-np.maximum(down - dome_line, 0) / 26) * (down < dome_line + 90)
    lung = np.maximum(cavity - heart_parts - _hila(thorax, across, down), 0) * np.maximum(above, behind)
    outline = (cavity > 1.0) & (down < dome_line) & ~heart_outline
    outline &= np.abs(across - middle) > 0.8 * thorax.inner(down)
    return Frontal(
        across=across,
        down=down,
        body=_body(thorax, across, down),
        cavity=cavity,
        lung=lung,
        lung_outline=outline,
        heart_outline=heart_outline & (down < dome_line + 12),
        dome_line=dome_line,
        side=side,
    )


def _cavity(thorax: Thorax, across: Array, down: Array) -> Array:
    """Depth of both pleural cavities in cm: full in the middle of each, steep at the ribs, soft at the mediastinum."""
    distance = np.abs(across)
    outer, inner = thorax.outer(down), thorax.inner(down)
    width = np.maximum(outer - inner, 1)
    edge = np.clip((outer - distance) / width, 0, 1)
    rounded = np.sqrt(np.maximum(1 - (1 - edge) ** 2.6, 0))
    medial = smoothstep(-16, 14, distance - inner)
    return rounded * medial * thorax.depth(down) * np.float32(0.2) * smoothstep(-1, 14, down)


def _body(thorax: Thorax, across: Array, down: Array) -> Array:
    """Depth of the trunk, neck, shoulders and arms in cm."""
    anatomy, pose = thorax.anatomy, thorax.pose
    trunk = thorax.half_width + anatomy.wall
    shoulder = trunk + (62 if pose.view == "AP" else 52)
    at = np.array([-140, -75, -56, -40, -22, 5, 40, 75, 105, 160, 300, 480], np.float32)
    half = [58, 60, 68, 104, 0.8 * shoulder, shoulder, shoulder + 8, trunk + 26, trunk + 5, trunk, trunk + 3, trunk + 8]
    depth = [5.8, 6, 6.6, 7.4, 8.4, 9.6, 10.6, 11.2, 11.4, 11.6, 12.0, 12.2]
    line = down[:, :1] if abs(pose.tilt) < 1e-9 else down
    reach = np.interp(line, at, half).astype(np.float32)
    thick = np.interp(line, at, depth).astype(np.float32) * np.float32(
        0.80 + 0.0045 * (anatomy.wall + thorax.half_depth)
    )
    lateral = np.clip(np.abs(across) / reach, 0, 1)
    body = 2 * thick * np.power(1 - lateral**7, 0.55, dtype=np.float32)
    return np.maximum(body, _arms(thorax, across, down, trunk)) + _breasts(thorax, across, down)


def _arms(thorax: Thorax, across: Array, down: Array, trunk: float) -> Array:
    """Upper arms beside the trunk: close in a supine portable, held away in an upright film."""
    spread = 0.10 if thorax.pose.view == "AP" else 0.34
    distance = np.abs(np.abs(across) - (trunk + 46 + spread * np.maximum(down - 50, 0)))
    return 9.0 * np.sqrt(np.maximum(1 - (distance / 43) ** 2, 0)) * smoothstep(0, 50, down)


def _breasts(thorax: Thorax, across: Array, down: Array) -> Array:
    """Breast shadows with their crescent lower border; flattened and lateral in a supine patient."""
    size = thorax.anatomy.breast
    if size < 0.15:
        return np.float32(0)
    slack = 1.12 if thorax.pose.supine else 1.0
    radius = (44 + 26 * size) * slack
    x, z = max(0.58 * thorax.half_width, radius + 8), 0.66 * thorax.lung_height + 46 * size
    total = np.zeros(across.shape, np.float32)
    for side in (LEFT, RIGHT):
        distance = np.hypot(across - side * x, (down - z) * np.where(down < z, 0.55, 1.0)) / radius
        total += (
            (1.0 + 2.2 * size)
            / slack
            * np.sqrt(np.maximum(1 - distance**2, 0))
            * smoothstep(-0.9 * radius, 0.3 * radius, down - z)
        )
    return total


def diaphragm(thorax: Thorax, across: Array, side: Array) -> Array:
    """z of the diaphragm's silhouette at each pixel: domes that fall into sharp costophrenic angles."""
    reach = thorax.half_width
    line = np.zeros(across.shape, np.float32)
    for hand, top in zip((RIGHT, LEFT), thorax.dome, strict=True):
        out = np.abs(across) / reach
        peak = 0.47 if hand == RIGHT else 0.52
        lateral = np.clip((out - peak) / (1.0 - peak), 0, 1.2)
        medial = np.clip((peak - out) / peak, 0, 1)
        fall = 44 * (1 - np.sqrt(np.maximum(1 - np.minimum(lateral, 1) ** 2.3, 0))) + 17 * medial**2
        line = np.where(side == hand, top + fall + 60 * np.maximum(lateral - 1, 0), line)
    return line.astype(np.float32)


def heart_frame(thorax: Thorax) -> tuple[float, float, float, float]:
    """(right edge, left edge, upper, lower) of the cardiac silhouette in mm, before magnification."""
    width = thorax.heart_ratio * 2 * thorax.half_width
    right = 0.33 if thorax.heart_ratio < 0.5 else 0.30
    lower = min(thorax.dome) + 16
    tall = 0.52 * thorax.lung_height * (1 + 0.3 * (thorax.heart_ratio - 0.44))
    return -right * width, (1 - right) * width, lower - tall, lower


def heart(thorax: Thorax, projector: Projector, across: Array, down: Array) -> tuple[Array, Array]:
    """(cm of lung displaced by heart and great vessels, silhouette of the heart alone)."""
    toward = 0.32 * thorax.half_depth * (1 if thorax.pose.view == "AP" else -1)
    zoom = float(projector.magnification(np.array([toward]))[0])
    x = (across - np.float32(front_shift(thorax, 0.32 * thorax.half_depth))) / np.float32(zoom)
    right_edge, left_edge = borders(thorax, down)
    middle, half = (left_edge + right_edge) / 2, np.maximum((left_edge - right_edge) / 2, 1)
    off = np.abs(x - middle) / half
    _, _, upper, lower = heart_frame(thorax)
    # Share of the lung that heart and vessels take: nearly all of it but for the thin tongues before and behind.
    share = np.interp(down, [-60, thorax.carina[2], upper + 30, lower], [0.97, 0.92, 0.82, 0.86]).astype(np.float32)
    # The tongues thin out towards the midline, so no edge shows within the heart.
    deep = (1 - (1 - share) * np.minimum(off, 1) ** 1.5) * thorax.depth(down) * np.float32(0.2)
    shadow = deep * np.power(np.maximum(1 - np.minimum(off, 1) ** 3, 0), 0.42) * smoothstep(1.012, 0.98, off)
    chambers = (off < 1.0) & (down > upper + 6)
    return np.maximum(shadow, _descending_aorta(thorax, across, down)), chambers


def borders(thorax: Thorax, down: Array) -> tuple[Array, Array]:
    """x of the mediastinal borders at each height.

    On the right vena cava and atrium, on the left aortic arch, pulmonary trunk and ventricle.
    """
    right, left, upper, lower = heart_frame(thorax)
    zc, knob, old = thorax.carina[2], thorax.anatomy.knob, thorax.anatomy.unfolding
    high, wide = lower - upper, 1.12 if thorax.pose.view == "AP" else 1.0
    low = 0.28 if thorax.heart_ratio < 0.5 else 0.24
    arch = zc - 20
    left_at = [-70, -20, 8, arch - knob - 9, arch - 0.55 * knob, arch, arch + 0.8 * knob, zc + 14, zc + 34,
               *(lower - share * high for share in (0.62, 0.45, low, 0.1)), lower + 30]  # fmt: skip
    bulge = 21 + 0.72 * knob + 4 * old
    trunk = max(31 + 22 * (thorax.heart_ratio - 0.42), 0.36 * left)
    left_x = [40, 44, 33, 22, 21 + 0.55 * knob, bulge, 25 + 0.2 * knob, trunk, 1.05 * trunk,
              max(0.52 * left, 1.12 * trunk), 0.78 * left, left, 0.97 * left, 0.8 * left]  # fmt: skip
    right_at = [-70, -20, 8, 34, zc, zc + 26, lower - 0.72 * high, lower - 0.42 * high, lower - 0.08 * high, lower + 30]
    cava = -25 - 7 * old
    right_x = [-40, -44, -33, -25, cava, cava - 1, max(0.80 * right, right), right, 0.95 * right, 1.05 * right]
    right_x[6] = min(0.72 * right, cava - 2)
    line = np.linspace(-70, lower + 30, 500)
    left_x[:9] = [value * wide for value in left_x[:9]]
    edges = [PchipInterpolator(_rising(at), x)(line) for at, x in ((right_at, right_x), (left_at, left_x))]
    below = np.clip((line - zc - 30) / 30, 0, 1)  # the ventricles are rounder than the arch
    smooth = [gaussian_filter1d(e, 5) * (1 - below) + gaussian_filter1d(e, 15) * below for e in edges]
    stretch = [target / peak for target, peak in ((right, smooth[0].min()), (left, smooth[1].max()))]
    lower_part = np.clip((line - zc - 40) / 40, 0, 1)
    final = [edge * (1 + (k - 1) * lower_part) for edge, k in zip(smooth, stretch, strict=True)]
    return tuple(np.interp(down, line, edge).astype(np.float32) for edge in final)


def _rising(at: list[float]) -> list[float]:
    """Knots strictly apart: in a short chest the heart's knots may meet those of the arch."""
    out = [at[0]]
    for value in at[1:]:
        out.append(max(value, out[-1] + 3))
    return out


def _hila(thorax: Thorax, across: Array, down: Array) -> Array:
    """cm of lung displaced by the hilar vessels and nodes."""
    total = np.zeros(across.shape, np.float32)
    for side in (RIGHT, LEFT):
        z = thorax.carina[2] + (24 if side == RIGHT else 12)
        x = side * 37 + front_shift(thorax, 0.0)
        total += 1.6 * ball(across, down, (x, z), (13, 17)) + 1.5 * ball(
            across, down, (x + side * 8, z + 20), (9, 24), -side * 0.35
        )
        total += 1.0 * ball(across, down, (x + side * 7, z - 17), (8, 15), side * 0.4)
    return total


def _descending_aorta(thorax: Thorax, across: Array, down: Array) -> Array:
    """cm of lung displaced by the aorta beside the spine."""
    zc = thorax.carina[2]
    x = across - np.float32(front_shift(thorax, -0.4 * thorax.half_depth))
    bow = np.sin(np.clip((down - zc) / (thorax.lung_height - zc), 0, 1) * np.pi)
    edge = 23 + 10 * thorax.anatomy.unfolding * bow
    inside = smoothstep(2.0, -2.0, x - edge) * (x > -20)
    return 5.5 * inside * smoothstep(zc - 20, zc + 5, down) * np.sqrt(np.clip((edge + 8 - x) / 30, 0, 1))


def airway(thorax: Thorax, across: Array, down: Array) -> Array:
    """cm of air in trachea and main bronchi; the trachea bends round the aortic arch."""
    x0, _, zc = thorax.carina
    x = across - np.float32(front_shift(thorax, 0.0))
    centre = np.float32(x0) * smoothstep(-40, zc, down)
    caliber = 8.6 if thorax.anatomy.sex == "M" else 7.4
    open_above = smoothstep(zc + 4, zc - 5, down)
    trachea = 2.0 * np.maximum(1 - ((x - centre) / (1.1 * caliber)) ** 2, 0) * open_above
    total = trachea
    for side, slope, length in ((RIGHT, 0.55, 30), (LEFT, 1.05, 44)):
        run = np.clip(down - (zc - 3), 0, length / np.hypot(1, slope))
        distance = np.hypot(x - x0 - side * (slope * run + 3), down - (zc - 3) - run)
        total = np.maximum(total, 1.0 * np.maximum(1 - (distance / (0.80 * caliber)) ** 2, 0))
    return total


def abdominal_gas(thorax: Thorax, across: Array, down: Array, rng: np.random.Generator) -> Array:
    """cm of gas in stomach and splenic flexure."""
    total = np.zeros(across.shape, np.float32)
    anatomy = thorax.anatomy
    if anatomy.gas > 0.25:
        x, z = 0.46 * thorax.half_width + rng.normal(0, 5), thorax.dome[1] + 17 + rng.uniform(0, 6)
        wide, high = rng.uniform(22, 38) * (0.6 + 0.5 * anatomy.gas), rng.uniform(8, 15)
        bubble = ball(across, down, (x, z + 0.4 * high), (wide, high + 8), 0.1) ** 1.5
        level = 1.0 if thorax.pose.supine else smoothstep(z + high + 1.5, z + high, down)
        total += 3.6 * bubble * level
    for _ in range(rng.integers(0, 5)):
        x, z = rng.uniform(0.3, 0.95) * thorax.half_width, thorax.dome[1] + rng.uniform(42, 110)
        total += rng.uniform(0.8, 2) * ball(
            across, down, (x, z), (rng.uniform(9, 20), rng.uniform(7, 13)), rng.normal()
        )
    return total


def mottle(shape: tuple[int, int], spacing: float, rng: np.random.Generator) -> Array:
    """Unevenness of muscle and fat, in cm, slow over centimetres."""
    return np.float32(0.16) * noise(rng, shape, max(int(30 / spacing), 4), 3)
