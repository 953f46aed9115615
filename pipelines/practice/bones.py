"""Bones as tubes and plates in three dimensions, projected and drawn: the same skeleton serves every view."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.practice.anatomy import LEFT, RIGHT, Projector, Thorax
from pipelines.practice.raster import add_ellipse, add_polygon, add_tube, add_union, ellipse, ribbon, spline

Array = NDArray[Any]


def draw_bones(thorax: Thorax, projector: Projector, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Bone in cm of soft-tissue equivalent, float32 of `shape`."""
    bone = np.zeros(shape, np.float32)
    _spine(thorax, projector, bone, rng)
    for side in (RIGHT, LEFT):
        for number in range(1, 12):
            _rib(thorax, projector, bone, side, number, rng)
    if thorax.pose.view == "LATERAL":
        _sternum(thorax, projector, bone)
    else:
        for side in (RIGHT, LEFT):
            _shoulder(thorax, projector, bone, side, rng)
            _clavicle(thorax, projector, bone, side, rng)
    bone *= np.float32(thorax.anatomy.bone)
    return bone


def rib_level(thorax: Thorax, number: float) -> float:
    """z of the back end of a rib; the tenth lies at the dome after a full breath, ribs move little with breathing."""
    return -5 + (number - 1) * 0.1065 * thorax.anatomy.height * (0.95 + 0.05 * thorax.pose.inspiration)


def rib_curve(thorax: Thorax, side: int, number: int, count: int = 56) -> Array:
    """Centre line (count, 3) of a rib from the spine round to its front end."""
    end = np.radians([118, 128, 134, 138, 140, 138, 132, 124, 114, 100, 84][number - 1])
    around = np.linspace(np.radians(4), end, count)
    part = around / np.radians(140)
    drop = [44, 58, 70, 84, 94, 100, 104, 104, 98, 82, 60][number - 1] * thorax.anatomy.rib_drop
    drop *= 0.80 + 0.2 * thorax.pose.inspiration if thorax.pose.view != "AP" else 0.72
    z = rib_level(thorax, number) + drop * (part**1.5) - 7 * np.sin(np.minimum(around * 2, np.pi)) * (1 < number < 9)
    a = thorax.outer(np.maximum(z, 6 + 5 * number)) + 3.5
    b = thorax.depth(np.maximum(z, 8)) + 4
    if number <= 2:
        a = a * (0.86 if number == 1 else 0.95)
    x = side * (a * np.sin(around) ** (0.86 if number > 2 else 1.0) + 6 * np.cos(around) * (around < np.pi / 2))
    return np.stack([x, -b * np.cos(around) * 0.96, z], 1)


def _rib(thorax: Thorax, projector: Projector, bone: Array, side: int, number: int, rng: np.random.Generator) -> None:
    """Back and front part apart, because their shadows add where they cross."""
    curve = rib_curve(thorax, side, number)
    curve = curve + np.r_[0.0, 0.0, rng.normal(0, 1.0)]
    flat = projector(curve)
    part = np.linspace(0, 1, len(flat))
    mm = 1 / projector.spacing
    width = (
        (7.8 + 2.2 * part + rng.normal(0, 0.35)) * mm * (0.85 if number in (1, 11) else 1) * _rounded(part, 0.0, 0.1)
    )
    turn = int(np.argmax(np.abs(curve[:, 0])))
    lateral = thorax.pose.view == "LATERAL"
    wall, core = (0.48, 0.38) if lateral else (1.35, 1.05)
    if number == 1:
        wall, core = 0.6 * wall, 0.6 * core
    for piece, faint in ((slice(0, turn + 1), 1.0), (slice(turn, None), 0.72)):
        if len(flat[piece]) < 4:
            continue
        add_tube(bone, flat[piece], width[piece], wall * faint, core * faint, 1.0 * mm)
        if not lateral and faint == 1.0:
            # The lower edge of a back rib is a thin plate: its shadow is sharper than the upper one.
            low = flat[piece] + np.c_[np.zeros(len(flat[piece])), 0.42 * width[piece]]
            add_polygon(bone, ribbon(low[4:], 1.3 * mm), 0.35, 0.5)
    if thorax.anatomy.unfolding > 0.3 and not lateral and 2 < number < 9:
        _cartilage(thorax, bone, flat, mm, rng)


def _rounded(part: Array, begin: float, end: float) -> Array:
    """Taper of a bone's width at its ends: half ellipses over the first `begin` and the last `end` of its length."""
    taper = np.ones_like(part)
    for near, reach in ((part, begin), (1 - part, end)):
        if reach:
            taper *= np.sqrt(np.maximum(1 - np.clip(1 - near / reach, 0, 1) ** 2, 0.02))
    return taper


def _cartilage(thorax: Thorax, bone: Array, flat: Array, mm: float, rng: np.random.Generator) -> None:
    """Calcified flecks where an old rib meets its cartilage."""
    step = flat[-1] - flat[-4]
    step = step / (np.linalg.norm(step) + 1e-6) * mm
    for _ in range(int(9 * thorax.anatomy.unfolding)):
        at = flat[-1] + step * rng.uniform(0, 26) + rng.normal(0, 2.5, 2) * mm
        add_ellipse(bone, at, (rng.uniform(1, 3) * mm, rng.uniform(0.8, 1.8) * mm), 0.35, 0.7 * mm)


def _clavicle(thorax: Thorax, projector: Projector, bone: Array, side: int, rng: np.random.Generator) -> None:
    portable = thorax.pose.view == "AP"
    high = -14.0 if portable else 0.0
    reach = thorax.half_width + 32
    points = [
        (14, 62, 36),
        (34, 66, 30),
        (0.45 * reach, 55, 16),
        (0.75 * reach, 25, 1),
        (reach, 0, -2 - rng.uniform(0, 8)),
    ]
    curve = spline(np.array([(side * x, y, z + high) for x, y, z in points]), 50)
    mm = 1 / projector.spacing
    part = np.linspace(0, 1, 50)
    width = (10.5 + 5 * np.exp(-((part / 0.1) ** 2)) + 3.5 * part**2) * mm * _rounded(part, 0.05, 0.07)
    add_tube(bone, projector(curve), width, 1.9, 1.4, 1.5 * mm)


def _shoulder(thorax: Thorax, projector: Projector, bone: Array, side: int, rng: np.random.Generator) -> None:
    """Shoulder blade with spine and acromion, humeral head and shaft."""
    portable = thorax.pose.view == "AP"
    inward = 0.72 if portable else 0.93  # a film from the front cannot turn the blades out of the lungs
    reach, mm = thorax.half_width + 34, 1 / projector.spacing

    def flat(points: list[tuple[float, float]], count: int = 40) -> Array:
        curve = spline(np.array([(side * x, -60, z) for x, z in points]), count)
        return projector(curve)

    medial, tip = inward * thorax.half_width * 0.86, inward * thorax.half_width * 1.03
    blade = [
        (reach - 6, 24),
        (reach - 40, 14),
        (medial, 22),
        (medial + 2, 75),
        (tip, 138),
        (tip + 14, 118),
        (reach - 4, 52),
    ]
    outline = flat([*blade, blade[0]], 90)
    add_polygon(bone, outline, 0.7, 1.2 * mm)
    add_polygon(bone, ribbon(outline[12:75], 2.2 * mm), 0.6, 0.6)
    add_tube(
        bone, flat([(medial + 10, 27), (reach - 55, 17), (reach - 12, 4), (reach + 14, 3)]), 8 * mm, 0.9, 0.65, 1.3 * mm
    )
    add_ellipse(bone, projector(np.array([[side * (reach - 16), -40, 14]]))[0], (8 * mm, 9 * mm), 0.45, 0.8 * mm)
    head = np.array([side * (reach + 14), -45, 30])
    away = 0.16 if portable else 0.45
    shaft = spline(np.array([(side * (reach + 17 + away * z), -45, 36 + z) for z in (0, 40, 100, 220)]), 40)
    width = np.interp(np.linspace(0, 1, 40), [0, 0.15, 1], [40, 26, 22]) * mm
    top, middle = projector(head)[0], projector(shaft)
    add_union(bone, [ellipse(top, (23 * mm, 24 * mm)), ribbon(middle, width)], 2.2, 0.8 * mm)
    add_union(bone, [ellipse(top, (20.5 * mm, 21.5 * mm)), ribbon(middle, width - 6 * mm)], -0.6, 0.8 * mm)


def _spine(thorax: Thorax, projector: Projector, bone: Array, rng: np.random.Generator) -> None:
    """Vertebral bodies C6 to L2 with end plates, pedicles and spinous processes."""
    lateral, mm = thorax.pose.view == "LATERAL", 1 / projector.spacing
    for number in range(-2, 15):
        z = rib_level(thorax, number + 0.5)
        high = (rib_level(thorax, number + 1.5) - z) * 0.80
        wide = 29 + 1.1 * max(number, 0)
        bend = thorax.anatomy.scoliosis * np.sin(np.pi * z / (0.9 * thorax.lung_height))
        y = vertebra_depth(thorax, z)
        if lateral:
            centre = projector(np.array([[0.0, y, z]]))[0]
            box = np.array(
                [(-0.48, -0.5), (0, -0.44), (0.48, -0.5), (0.45, 0), (0.48, 0.5), (0, 0.44), (-0.48, 0.5), (-0.45, 0)]
            )
            outline = centre + box * [wide * mm, high * mm]
            add_polygon(bone, outline, 1.0, 1.2 * mm)
            add_polygon(bone, ribbon(np.r_[outline, outline[:1]], 1.6 * mm), 0.5, 0.7)
            add_tube(
                bone,
                projector(spline(np.array([(0, y - 16, z), (0, y - 26, z + 8), (0, y - 38, z + 20)]), 12)),
                8 * mm,
                0.45,
                0.35,
                1.2 * mm,
            )
            continue
        box = np.array(
            [
                (-0.5, -0.5),
                (-0.2, -0.47),
                (0.2, -0.47),
                (0.5, -0.5),
                (0.44, 0),
                (0.5, 0.5),
                (0.2, 0.47),
                (-0.2, 0.47),
                (-0.5, 0.5),
                (-0.44, 0),
            ]
        )
        points = np.array([(bend + wide * x, y, z + high * h) for x, h in box])
        outline = projector(points)
        add_polygon(bone, outline, 0.7, 2.4 * mm)
        add_polygon(bone, ribbon(np.r_[outline, outline[:1]], 1.4 * mm), 0.34, 0.9)
        for side in (RIGHT, LEFT):
            at = projector(np.array([[bend + side * 0.34 * wide, y - 15, z - 0.08 * high]]))[0]
            add_ellipse(bone, at, (3.4 * mm, 5.2 * mm), 0.7, 0.7 * mm)
            process = np.array(
                [(bend + side * 0.4 * wide, y - 18, z), (bend + side * (0.5 * wide + 17), y - 24, z - 4)]
            )
            add_tube(bone, projector(np.linspace(process[0], process[1], 6)), 8 * mm, 0.42, 0.3, 1.2 * mm)
        tip = projector(np.array([[bend + rng.normal(0, 0.8), y - 45, z + 0.62 * high]]))[0]
        add_ellipse(bone, tip, (2.6 * mm, 5.6 * mm), 0.8, 0.8 * mm)


def vertebra_depth(thorax: Thorax, z: float) -> float:
    """y of the vertebral bodies: the thoracic spine is bowed to the back."""
    t = np.clip(z / thorax.lung_height, -0.3, 1.3)
    return float(-thorax.half_depth * (0.38 + 0.32 * np.sin(np.clip(0.18 + 0.72 * t, 0, 1) * np.pi)))


def _sternum(thorax: Thorax, projector: Projector, bone: Array) -> None:
    """Breastbone seen from the side: manubrium, body, the joint between."""
    mm = 1 / projector.spacing
    front = [(0, float(thorax.front(np.array(z))) + 6, z) for z in (30.0, 75.0, 80.0, 120.0, 165.0)]
    add_tube(bone, projector(spline(np.array(front[:2]), 12)), 13 * mm, 0.9, 0.55, 1.5 * mm)
    add_tube(bone, projector(spline(np.array(front[2:]), 20)), 11 * mm, 0.9, 0.55, 1.5 * mm)
