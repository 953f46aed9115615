"""One radiograph from anatomy, pose, findings and devices: pixels, masks, polylines and the truth about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.practice.anatomy import Anatomy, Pose, Projector, Thorax, pose_thorax
from pipelines.practice.bones import draw_bones
from pipelines.practice.detector import collimate, develop, expose, raw_signal, sample_processing
from pipelines.practice.devices import Device, Placed, draw_devices, draw_leads, place_device
from pipelines.practice.findings import Finding, apply_findings, heart_ratio
from pipelines.practice.lateral import lateral_maps
from pipelines.practice.raster import noise
from pipelines.practice.soft import abdominal_gas, airway, frontal_maps, mottle
from pipelines.practice.vessels import draw_tree, grow_tree

Array = NDArray[Any]
STEP = 2  # soft tissue is computed on every second pixel: nothing in it is finer


@dataclass
class Radiograph:
    """A finished view. Coordinates are pixels (x, y) of `grey`."""

    grey: Array  # float32 (rows, columns), 0 black to 1 white
    raw: Array  # float32, detector signal, 0 to 1, bright where no tissue is
    spacing: float  # mm per pixel on the detector
    projector: Projector
    thorax: Thorax
    lung: Array  # bool (rows, columns); empty in a lateral view
    heart: Array
    placed: list[Placed] = field(default_factory=list)

    @property
    def cardiothoracic_ratio(self) -> float:
        """Widest heart over widest pair of lungs, measured on the masks."""
        heart, lung = (np.flatnonzero(mask.any(0)) for mask in (self.heart, self.lung))
        if not len(heart) or not len(lung):
            return float("nan")
        return float((heart[-1] - heart[0]) / (lung[-1] - lung[0]))


def make_radiograph(
    anatomy: Anatomy,
    pose: Pose,
    findings: tuple[Finding, ...],
    devices: tuple[Device, ...],
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> Radiograph:
    """Render one view of `shape` (rows, columns)."""
    thorax = pose_thorax(anatomy, pose, heart_ratio(anatomy.heart_ratio, findings))
    projector = Projector(pose, columns=shape[1], rows=shape[0])
    body_rng = np.random.default_rng(anatomy.seed)  # the same tree and bones in every study
    tree = grow_tree(thorax, body_rng)
    scene = _frontal(thorax, projector, findings, tree, body_rng) if pose.view != "LATERAL" else None
    if scene is None:
        tissue, lung_small = lateral_maps(thorax, projector, findings, tree, STEP, body_rng)
        outlines = np.zeros((2, *lung_small.shape), bool)
    else:
        tissue, lung_small, heart_small = scene
        outlines = np.stack([lung_small, heart_small])
    full = cv2.resize(tissue, (tissue.shape[1] * STEP, tissue.shape[0] * STEP), interpolation=cv2.INTER_LINEAR)
    full = np.ascontiguousarray(full[: shape[0], : shape[1]])
    bone = draw_bones(thorax, projector, shape, body_rng)
    # Beam hardening and scatter take contrast from bone behind thick tissue.
    bone *= 1 - 0.5 * np.clip((full - 19) / 9, 0, 1)
    full += bone
    placed = [place_device(d, thorax, projector) for d in devices] if pose.view != "LATERAL" else []
    draw_devices(placed, projector, full)
    lead_rng = np.random.default_rng(int(rng.integers(2**31)))
    if pose.view == "AP" and devices:
        draw_leads(thorax, projector, full, lead_rng)
    how = sample_processing(rng, pose.view)
    measured = expose(full, rng, how)
    grey = develop(measured, lung_small, how, projector.spacing)
    collimate(grey, _shutters(thorax, projector, rng), rng)
    lung, heart = (
        cv2.resize(m.astype(np.uint8), (m.shape[1] * STEP, m.shape[0] * STEP), interpolation=cv2.INTER_NEAREST)
        [: shape[0], : shape[1]].astype(bool)
        for m in outlines
    )  # fmt: skip
    return Radiograph(grey, raw_signal(measured), projector.spacing, projector, thorax, lung, heart, placed)


def _frontal(
    thorax: Thorax, projector: Projector, findings: tuple[Finding, ...], tree: Any, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """(tissue in cm without bones and devices, lung outline, heart outline) on the soft-tissue grid."""
    maps = frontal_maps(thorax, projector, STEP)
    shape = maps.lung.shape
    changes = apply_findings(findings, thorax, maps, projector, STEP)
    coarse = projector.spacing * STEP
    texture = noise(rng, shape, max(int(12 / coarse), 4), 5, 0.85)
    density = changes.density * (1 + 0.045 * texture * changes.vessels)
    tissue = maps.body - maps.lung * (1 - density)
    share = np.clip(maps.lung / 7, 0, 1)
    tissue += draw_tree(tree, thorax, projector, shape, changes.engorged, STEP) * share * changes.vessels
    tissue += changes.extra * np.minimum(share * 3, 1)
    tissue -= airway(thorax, maps.across, maps.down)
    tissue -= abdominal_gas(thorax, maps.across, maps.down, rng)
    tissue += mottle(shape, coarse, rng) * np.clip(maps.body / 12, 0, 1)
    return np.maximum(tissue, 0, out=tissue), maps.lung_outline, maps.heart_outline


def _shutters(thorax: Thorax, projector: Projector, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Edges of the exposed field: mostly the whole plate, sometimes a margin, wider where the patient is small."""
    rows, columns = projector.rows, projector.columns
    spare = max(projector.pose.width - 2 * (thorax.half_width + thorax.anatomy.wall), 0) / projector.pose.width
    lateral = projector.pose.view == "LATERAL"
    margin = [0.0 if rng.random() < 0.5 else rng.uniform(0.004, 0.02 + 0.25 * spare * (not lateral)) for _ in range(4)]
    left, right = int(margin[0] * columns), columns - int(margin[1] * columns)
    return left, int(margin[2] * 0.6 * rows), right, rows - int(margin[3] * 0.6 * rows)
