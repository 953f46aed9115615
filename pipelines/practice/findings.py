"""Findings as changes of the lung's density, of its vessels and of the heart, so that the image measures them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.practice.anatomy import SIDES, Projector, Thorax
from pipelines.practice.raster import add_polygon, noise, ribbon, smoothstep
from pipelines.practice.soft import LUNG_DENSITY, Frontal
from pipelines.practice.vessels import hilum

Array = NDArray[Any]

# ChestX-ray14 names (Wang et al. 2017).
LABELS = ("Cardiomegaly", "Effusion", "Consolidation", "Pneumothorax", "Nodule", "Edema")
NO_FINDING = "No Finding"
ZONES = {"upper": 0.26, "middle": 0.52, "lower": 0.78}  # height of the centre, as a share of the lung


@dataclass(frozen=True)
class Finding:
    """One finding of a study. `size` runs from 0 (just visible) to 1 (gross)."""

    label: str
    side: str = ""  # right | left | both; blank for the heart
    zone: str = ""  # upper | middle | lower
    size: float = 0.5
    seed: int = 0  # shape, the same in every study that shows it

    def hands(self) -> list[int]:
        """-1 for the right, +1 for the left."""
        return [hand for name, hand in SIDES.items() if self.side in (name, "both")]


@dataclass
class Changes:
    """What the findings make of the lungs; maps on the grid of the soft tissue."""

    density: Array  # of lung, 1 is fluid
    vessels: Array  # visibility of vessels and texture, 0 to 1
    extra: Array  # cm of added soft tissue
    engorged: float = 0.0


def heart_ratio(base: float, findings: tuple[Finding, ...]) -> float:
    """Cardiothoracic ratio in a PA projection: above 0.53 with cardiomegaly."""
    for finding in findings:
        if finding.label == "Cardiomegaly":
            return max(base, 0.535 + 0.10 * finding.size)
    return base


def apply_findings(
    findings: tuple[Finding, ...], thorax: Thorax, maps: Frontal, projector: Projector, step: int
) -> Changes:
    """Density, vessel visibility and added tissue that the findings of a study cause."""
    shape = maps.lung.shape
    changes = Changes(
        density=np.full(shape, LUNG_DENSITY, np.float32),
        vessels=np.ones(shape, np.float32),
        extra=np.zeros(shape, np.float32),
    )
    draw = {
        "Edema": _edema, "Consolidation": _consolidation, "Nodule": _nodule,
        "Pneumothorax": _pneumothorax, "Effusion": _effusion,
    }  # fmt: skip
    for label, function in draw.items():  # fluid last: it covers the rest
        for finding in findings:
            if finding.label == label:
                rng = np.random.default_rng([finding.seed, thorax.anatomy.seed])
                function(finding, thorax, maps, projector, step, changes, rng)
    return changes


def _edema(f: Finding, thorax: Thorax, maps: Frontal, p: Projector, step: int, c: Changes, rng: Any) -> None:
    """Perihilar haze, cuffed and engorged vessels, septal (Kerley B) lines at the lateral bases."""
    haze = np.zeros(maps.lung.shape, np.float32)
    for hand in (-1, 1):
        x, _, z = hilum(thorax, hand)
        distance = np.hypot((maps.across - x - hand * 22) / 58, (maps.down - z - 22) / 78)
        haze = np.maximum(haze, np.exp(-(distance**2)))
    patchy = 1 + 0.30 * noise(rng, maps.lung.shape, max(int(40 / (p.spacing * step)), 4), 4, 0.5)
    base = 0.14 * smoothstep(0.35, 1.0, maps.down / thorax.lung_height)
    c.density += ((0.12 + 0.25 * f.size) * haze + base * (0.4 + f.size)) * np.clip(patchy, 0.1, 2)
    c.engorged = 0.3 + 0.4 * f.size
    mm = 1 / (p.spacing * step)
    for hand in (-1, 1):
        for z in np.linspace(0.66, 0.90, 9) * thorax.lung_height + rng.normal(0, 2, 9):
            edge = float(thorax.outer(np.array(z))) - 2
            line = np.array([(hand * edge, 0, z), (hand * (edge - rng.uniform(9, 17)), 0, z + rng.normal(0, 1.5))])
            add_polygon(c.extra, ribbon(p(np.linspace(line[0], line[1], 5)) / step, 1.0 * mm), 0.22 + 0.2 * f.size, 0.5)


def _consolidation(f: Finding, thorax: Thorax, maps: Frontal, p: Projector, step: int, c: Changes, rng: Any) -> None:
    """Airspace opacity with fluffy borders, vessels lost in it, bronchi dark in it."""
    for hand in f.hands():
        z = ZONES[f.zone] * thorax.lung_height + rng.normal(0, 6)
        x = hand * (0.56 + rng.normal(0, 0.06)) * float(thorax.outer(np.array(z)))
        radius = 26 + 34 * f.size
        rough = noise(rng, maps.lung.shape, max(int(44 / (p.spacing * step)), 4), 5, 0.5)
        distance = np.hypot((maps.across - x) / radius, (maps.down - z) / (radius * rng.uniform(0.8, 1.15)))
        filled = smoothstep(0.45, -0.75, distance - 0.9 + 0.2 * rough)
        filled *= (maps.side == hand) * (0.5 + 0.3 * f.size)
        c.density += (0.86 - c.density) * filled * np.clip(1 + 0.12 * rough, 0.6, 1.2)
        c.vessels *= 1 - 0.8 * filled
        root, mm = hilum(thorax, hand), 1 / (p.spacing * step)
        for _ in range(7):
            end = np.array([x, 0, z]) + rng.normal(0, 0.5, 3) * radius
            bend = (root + end) / 2 + rng.normal(0, 5, 3)
            air = np.zeros_like(c.extra)
            add_polygon(air, ribbon(p(np.array([root, bend, end])) / step, np.array([3.4, 2.6, 1.6]) * mm), 1.0, 0.7)
            c.extra -= 0.55 * air * filled


def _nodule(f: Finding, thorax: Thorax, maps: Frontal, p: Projector, step: int, c: Changes, rng: Any) -> None:
    """A round solid lesion, 10 to 30 mm, its border slightly lobed."""
    x, z = nodule_centre(f, thorax, rng)
    radius = 5 + 10 * f.size
    lobed = 1 + 0.07 * noise(rng, maps.lung.shape, max(int(9 / (p.spacing * step)), 3), 2)
    sphere = np.sqrt(np.maximum(1 - (np.hypot(maps.across - x, maps.down - z) / (radius * lobed)) ** 2, 0))
    c.extra += 0.2 * radius * 1.35 * cv2.GaussianBlur(sphere, (0, 0), max(0.7 / (p.spacing * step), 0.4))


def nodule_centre(f: Finding, thorax: Thorax, rng: Any) -> tuple[float, float]:
    """Where a nodule lies (across, z) in mm: in the lateral two thirds, clear of heart and diaphragm."""
    hand = f.hands()[0]
    z = min(ZONES[f.zone] * thorax.lung_height + rng.normal(0, 7), thorax.dome[0] - 34)
    lateral = 0.80 if hand > 0 and f.zone == "lower" else 0.64
    return hand * (lateral + rng.uniform(-0.07, 0.06)) * float(thorax.outer(np.array(z))), z


def pleural_line(f: Finding, thorax: Thorax, z: Array) -> Array:
    """Distance (mm from the midline) of the collapsed lung's edge at height z in a pneumothorax."""
    t = z / thorax.lung_height
    gap = (9 + 46 * f.size) * (1.0 - 0.75 * smoothstep(0.25, 1.0, t))
    apex = 16 + 58 * f.size
    closing = np.sqrt(1 - (1 - np.clip((z - apex) / 75, 0, 1)) ** 2)
    return (thorax.outer(z) - gap) * closing


def _pneumothorax(f: Finding, thorax: Thorax, maps: Frontal, p: Projector, step: int, c: Changes, rng: Any) -> None:
    """Air without vessels outside a thin pleural line, the lung inside a little denser."""
    for hand in f.hands():
        beside = maps.side == hand
        edge = pleural_line(f, thorax, maps.down)
        free = smoothstep(-0.8, 0.8, np.abs(maps.across) - edge) * beside
        c.density = c.density * (1 - free) + 0.015 * free
        c.density += 0.05 * f.size * (1 - free) * beside
        c.vessels *= 1 - free
        z = np.linspace(16 + 58 * f.size, thorax.dome[0] - 6, 120)
        x = pleural_line(f, thorax, z)
        keep = x > 0.25 * thorax.half_width
        # The top of the collapsed lung closes towards the mediastinum.
        line = p(np.stack([hand * x[keep], np.zeros(keep.sum()), z[keep]], 1)) / step
        add_polygon(c.extra, ribbon(line, 1.3 / (p.spacing * step)), 0.55, 0.4)


def _effusion(f: Finding, thorax: Thorax, maps: Frontal, p: Projector, step: int, c: Changes, rng: Any) -> None:
    """Free fluid: a meniscus that climbs the chest wall when upright, a veil over the lower zones when supine."""
    for hand in f.hands():
        beside = maps.side == hand
        lateral = np.clip(np.abs(maps.across) / np.maximum(thorax.outer(maps.down), 1), 0, 1.1)
        dome = thorax.dome[0 if hand < 0 else 1]
        size = f.size * (1.0 if f.side != "both" or hand < 0 else 0.8)
        level = dome + 16 - (38 + 95 * size) * (0.30 + 0.70 * lateral**2.6)
        soft = 5.0 if not thorax.pose.supine else 16.0
        fluid = smoothstep(-soft, soft, maps.down - level) * beside
        veil = (0.34 * size + 0.06) * smoothstep(0.2, 1.0, maps.down / dome) if thorax.pose.supine else 0.03
        c.density += (1.0 - c.density) * np.maximum(fluid, veil * beside)
        c.vessels *= 1 - 0.95 * fluid


def labels_of(findings: tuple[Finding, ...]) -> list[str]:
    """Labels in a fixed order; `No Finding` when there is none."""
    present = {f.label for f in findings}
    return [label for label in LABELS if label in present] or [NO_FINDING]
