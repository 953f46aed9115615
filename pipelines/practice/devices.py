"""Lines and tubes with anatomically plausible courses: three-dimensional paths, how they look, where their tip lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.practice.anatomy import SIDES, Projector, Thorax
from pipelines.practice.raster import add_ellipse, add_polygon, add_tube, ribbon, spline
from pipelines.practice.soft import heart_frame

Array = NDArray[Any]

STRUCTURES = ("ett", "ngt", "cvc", "swan-ganz", "chest-tube")
POSITIONS = ("normal", "borderline", "abnormal")


@dataclass(frozen=True)
class Device:
    """A line or tube as planned. `offset` is where within the position's range the tip lies, 0 to 1."""

    structure: str
    position: str  # normal | borderline | abnormal
    route: str = ""  # right-jugular, left-subclavian, right (chest tube), ...
    offset: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Placed:
    """A device in an image: `path` (N, 3) in mm, `points` (M, 2) in pixels inside the image, tip last."""

    device: Device
    path: Array
    points: Array
    diameter: float
    tip_note: str
    tip_mm: float  # ETT: above the carina (negative below); NGT: below the dome; CVC: below the carina; else 0
    tip_visible: bool


def place_device(device: Device, thorax: Thorax, projector: Projector) -> Placed:
    """The course of a device in this thorax, and what of it the image shows."""
    rng = np.random.default_rng([device.seed, thorax.anatomy.seed])
    build: Callable[..., tuple[list[Any], float, str, float]] = {
        "ett": _ett, "ngt": _ngt, "cvc": _cvc, "swan-ganz": _swan_ganz, "chest-tube": _chest_tube,
    }[device.structure]  # fmt: skip
    knots, diameter, note, tip_mm = build(device, thorax, rng)
    path = spline(np.array(knots, np.float64), 240)
    if device.structure in ("cvc", "swan-ganz", "ngt"):
        sway = np.linspace(0, 3 * np.pi, 240) + rng.uniform(0, 6)
        path[:, 0] += 0.8 * np.sin(sway) * np.sin(np.linspace(0, np.pi, 240))
    flat = projector(path)
    size = np.array([projector.columns - 1, projector.rows - 1])
    inside = ((flat >= 0) & (flat <= size)).all(1)
    last = int(np.flatnonzero(inside)[-1]) if inside.any() else -1
    first = last
    while first > 0 and inside[first - 1]:
        first -= 1
    seen = last == len(flat) - 1
    note = note if seen else "beyond the edge of the image"
    return Placed(device, path, flat[first : last + 1], diameter, note, tip_mm, seen)


def _ett(device: Device, thorax: Thorax, rng: Any) -> tuple[list[Any], float, str, float]:
    """Tip 3 to 5 cm above the carina; borderline 1 to 2 or 6 to 7.5 cm; abnormal in the right main bronchus."""
    x, y, z = thorax.carina
    above = {"normal": 31 + 18 * device.offset, "abnormal": -(12 + 14 * device.offset)}.get(
        device.position, 11 + 8 * device.offset if device.seed % 2 else 61 + 10 * device.offset
    )
    lean = rng.normal(0, 1.8)
    knots: list[Any] = [(lean - 4, 6, -130), (lean - 2, 2, -70), (lean, 0, -25)]
    if above >= 0:
        tip = z - above
        knots += [(x * 0.5 + lean * 0.6, y, (tip - 25) / 2 - 8), (x * max(tip, 0) / z + 0.3 * lean, y, tip)]
        note = f"{above / 10:.0f} cm above the carina"
    else:
        down = -above
        knots += [(x * 0.5, y, z * 0.45), (x - 0.5, y, z - 8), (x - 3 - 0.55 * down, y, z - 1 + 0.84 * down)]
        note = "in the right main bronchus"
    return knots, 10.5, note, above


def _ngt(device: Device, thorax: Thorax, rng: Any) -> tuple[list[Any], float, str, float]:
    """Down the oesophagus into the stomach; borderline just below the junction, abnormal still above the diaphragm."""
    dome, lung = thorax.dome[1], thorax.lung_height
    knots: list[Any] = [(4, 5, -130), (rng.normal(2, 2), -10, -60), (rng.normal(4, 2), -18, 0.1 * lung)]
    knots += [(5, -28, 0.33 * lung), (rng.normal(8, 2), -34, 0.62 * lung)]
    if device.position == "abnormal":
        below = -(20 + 60 * device.offset)
        return [*knots, (13, -30, dome + below)], 4.6, "in the distal oesophagus, above the diaphragm", below
    knots.append((16, -28, dome - 4))
    if device.position == "borderline":
        below = 16 + 22 * device.offset
        return [*knots, (25, -15, dome + below)], 4.6, "just below the gastro-oesophageal junction", below
    below = 62 + 30 * device.offset
    knots += [(38, -5, dome + 30), (55 + 8 * rng.random(), 5, dome + 0.7 * below), (44, 15, dome + below)]
    return knots, 4.6, "in the stomach", below


def _cvc(device: Device, thorax: Thorax, rng: Any) -> tuple[list[Any], float, str, float]:
    """From a jugular or subclavian vein to the lower superior vena cava; see `tip_mm` for how far below the carina."""
    zc, wide = thorax.carina[2], thorax.half_width
    side = SIDES["left" if device.route.startswith("left") else "right"]
    cava = -21.0
    if "jugular" in device.route:
        knots: list[Any] = [(side * 52, 20, -100), (side * 40, 12, -60), (side * 30, 8, -15), (side * 26, 14, 18)]
    else:
        knots = [
            (side * (wide + 8), 50, 62),
            (side * 0.86 * wide, 55, 36),
            (side * 0.55 * wide, 50, 17),
            (side * 34, 30, 22),
        ]
    if device.position == "abnormal" and "subclavian" in device.route:
        up = 25 + 30 * device.offset
        knots[-1] = (side * 42, 25, 14)
        return (
            [*knots, (side * 30, 15, 2), (side * 33, 10, -up)],
            2.4,
            f"in the {_name(side)} internal jugular vein",
            -zc - up,
        )
    if side > 0:
        knots += [(8, 32, 36 if "jugular" in device.route else 34), (cava + 6, 26, 0.6 * zc)]
    below = {"normal": 8 + 24 * device.offset, "borderline": -(22 + 14 * device.offset)}.get(
        device.position, 68 + 22 * device.offset
    )
    tip = zc + below
    knots += [(cava, 18, min(0.82 * zc, tip - 18)), (cava - (2 if below < 50 else -9), 16, tip)]
    note = {"normal": "in the lower superior vena cava", "borderline": "high in the superior vena cava"}.get(
        device.position, "deep in the right atrium"
    )
    return knots, 2.4, note, below


def _swan_ganz(device: Device, thorax: Thorax, rng: Any) -> tuple[list[Any], float, str, float]:
    """Jugular vein, right atrium, right ventricle, pulmonary trunk; the normal tip lies in a central right artery."""
    zc = thorax.carina[2]
    right, left, _, lower = heart_frame(thorax)
    knots: list[Any] = [(-52, 20, -100), (-40, 12, -60), (-30, 8, -15), (-25, 14, 0.5 * zc), (-22, 16, zc + 20)]
    knots += [(0.72 * right, 22, lower - 62), (0.2 * right, 40, lower - 30)]
    if device.position == "abnormal" and device.seed % 2:
        return [*knots, (0.34 * left, 48, lower - 26 - 8 * device.offset)], 2.3, "in the right ventricle", 0.0
    knots += [(0.34 * left, 46, lower - 44), (0.32 * left, 40, zc + 46), (18, 26, zc + 14), (2, 10, zc + 11)]
    far = {"normal": 32 + 12 * device.offset, "borderline": 56 + 8 * device.offset}.get(
        device.position, 84 + 16 * device.offset
    )
    knots += [(-22, 4, zc + 17), (-far, 0, zc + 22 + 0.75 * (far - 30))]
    note = {"normal": "in the proximal right pulmonary artery", "borderline": "in the right interlobar artery"}.get(
        device.position, "in a peripheral branch of the right pulmonary artery"
    )
    return knots, 2.3, note, 0.0


def _chest_tube(device: Device, thorax: Thorax, rng: Any) -> tuple[list[Any], float, str, float]:
    """Through the lateral wall toward apex or base; abnormal when its end lies in the soft tissue outside the ribs."""
    side = SIDES[device.route]
    entry = (0.58 + 0.08 * rng.random()) * thorax.lung_height
    rim, out = float(thorax.outer(np.array(entry))), thorax.anatomy.wall
    start = [(side * (rim + out + 62), 10, entry + 50), (side * (rim + out + 8), 10, entry + 20)]
    if device.position == "abnormal":
        z = entry - 62 - 30 * device.offset
        beyond = float(thorax.outer(np.array(z))) + 9 + 0.25 * out
        knots: list[Any] = [*start, (side * (rim + 0.6 * out + 6), 5, entry - 16), (side * beyond, 0, z)]
        return knots, 8.0, "in the soft tissue of the chest wall", 0.0
    end = (0.12 + 0.10 * device.offset) * thorax.lung_height
    apex = 0.72 * float(thorax.outer(np.array(end)))
    middle = 0.35 * thorax.lung_height
    if device.position == "borderline":
        knots = [
            *start,
            (side * (rim - 4), 5, entry + 2),
            (side * 0.62 * rim, 0, entry - 30),
            (side * 30, -10, entry - 50),
        ]
        return knots, 8.0, "against the mediastinum", 0.0
    knots = [
        *start,
        (side * (rim - 3), 5, entry - 2),
        (side * 0.90 * float(thorax.outer(np.array(middle))), -15, middle),
    ]
    return [*knots, (side * apex, -25, end)], 8.0, "at the apex", 0.0


def _name(side: int) -> str:
    return "left" if side > 0 else "right"


# ---- how they look ---------------------------------------------------------------------------------------------


def draw_devices(placed: list[Placed], projector: Projector, tissue: Array) -> None:
    """Add walls and radio-opaque stripes, in cm of tissue, to the full-size map."""
    mm = 1 / projector.spacing
    for item in placed:
        curve, width = item.points, item.diameter * mm
        if len(curve) < 4:
            continue
        kind = item.device.structure
        if kind in ("ett", "chest-tube"):
            add_tube(tissue, curve, width, 0.55, 0.10, 1.3 * mm)
            tangent = np.gradient(curve, axis=0)
            aside = np.stack([-tangent[:, 1], tangent[:, 0]], 1) / (
                np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
            )
            stripe = curve + aside * (0.2 if kind == "ett" else 0.36) * width
            # The sentinel eye of a chest tube interrupts its stripe near the end.
            for part in (
                (slice(0, 200 * len(curve) // 240), slice(206 * len(curve) // 240, None))
                if kind == "chest-tube"
                else (slice(None),)
            ):
                add_polygon(tissue, ribbon(stripe[part], 1.5 * mm), 1.7, 0.45)
        elif kind == "ngt":
            add_tube(tissue, curve, width, 0.55, 0.35, 1.0 * mm)
            add_polygon(tissue, ribbon(curve, 1.3 * mm), 1.2, 0.45)
            add_polygon(tissue, ribbon(curve[-6:], 0.8 * width), 0.9, 0.5)
        else:
            add_tube(tissue, curve, width, 0.9, 0.9, 0.8 * mm)
            add_polygon(tissue, ribbon(curve[-4:], 0.9 * width), 0.5, 0.5)


def device_mask(item: Placed, shape: tuple[int, int], spacing: float) -> Array:
    """uint8 mask (0 or 255) of a device: a band along its polyline, as wide as the device and at least 3 mm."""
    mask = np.zeros(shape, np.uint8)
    if len(item.points) < 2:
        return mask
    thickness = max(round(max(item.diameter, 3.0) / spacing), 2)
    cv2.polylines(mask, [np.round(item.points * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_8, 4)
    return mask


def draw_leads(thorax: Thorax, projector: Projector, tissue: Array, rng: np.random.Generator) -> None:
    """Monitor electrodes and their wires, on the skin: common in intensive care, and no line or tube."""
    mm = 1 / projector.spacing
    wide, lung = thorax.half_width, thorax.lung_height
    spots = [
        (-0.75 * wide, 0.16 * lung),
        (0.75 * wide, 0.14 * lung),
        (0.85 * wide, 0.86 * lung),
        (-0.8 * wide, 0.9 * lung),
    ]
    exit_at = np.array([rng.choice([-1, 1]) * (wide + 90), 90, rng.uniform(0.5, 1.2) * lung])
    for x, z in spots[: rng.integers(2, 5)]:
        at = np.array([x + rng.normal(0, 12), 90, z + rng.normal(0, 12)])
        add_ellipse(tissue, projector(at)[0], (7.5 * mm, 7.5 * mm), 0.35, 0.5)
        add_ellipse(tissue, projector(at)[0], (3.0 * mm, 3.0 * mm), 3.0, 0.5)
        way = spline(
            np.array(
                [
                    at,
                    at + np.array([rng.normal(0, 30), 0, rng.uniform(20, 70)]),
                    (at + exit_at) / 2 + rng.normal(0, 22, 3),
                    exit_at,
                ]
            ),
            90,
        )
        add_polygon(tissue, ribbon(projector(way), 0.9 * mm), 1.6, 0.45)
