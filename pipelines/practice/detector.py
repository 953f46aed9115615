"""From attenuation to a processed image: scatter, quantum noise, dynamic range compression, grey scale, collimation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Processing:
    """How a vendor turns signal into grey; sampled per machine and study."""

    compress: float  # share of slow contrast taken out
    detail: float  # gain of fine structure
    contrast: float
    lung: float  # grey level the lungs are brought to, 0 to 1
    bright: float  # grey level of the mediastinum
    mottle: float  # noise level
    scatter: float
    tilt: tuple[float, float]


def sample_processing(rng: np.random.Generator, view: str) -> Processing:
    """AP portables: more scatter and noise, flatter contrast."""
    portable = view == "AP"
    return Processing(
        compress=rng.uniform(0.15, 0.36),
        detail=rng.uniform(0.5, 1.3),
        contrast=rng.uniform(0.88, 1.08) * (0.86 if portable else 1),
        lung=float(np.clip(rng.normal({"AP": 0.42, "PA": 0.33}.get(view, 0.36), 0.06), 0.2, 0.56)),
        bright=float(np.clip(rng.normal(0.79, 0.035), 0.68, 0.88)),
        mottle=rng.uniform(0.6, 1.3) * (1.35 if portable else 1),
        scatter=rng.uniform(0.10, 0.2) if portable else rng.uniform(0.03, 0.09),
        tilt=(rng.normal(0, 0.5 if portable else 0.2), rng.normal(0, 0.35 if portable else 0.15)),
    )


def expose(tissue: Array, rng: np.random.Generator, how: Processing) -> Array:
    """Attenuation in cm as the detector measures it: scatter veils thick parts, photons are few behind them."""
    rows, columns = tissue.shape
    small = cv2.resize(tissue, (columns // 16, rows // 16), interpolation=cv2.INTER_AREA)
    # exp(-mu d) with mu = 0.2/cm: the primary; its wide blur stands for scatter and glare.
    primary = np.exp(-0.2 * small)
    # Only tissue scatters into its neighbourhood; the open beam beside the body does not.
    haze = cv2.GaussianBlur(np.minimum(primary, 0.10), (0, 0), max(columns / 16 * 0.09, 1))
    lifted = -5 * np.log(np.maximum((1 - how.scatter) * primary + how.scatter * haze, 1e-4)) - small
    measured = tissue + cv2.resize(lifted, (columns, rows), interpolation=cv2.INTER_LINEAR)
    across = np.linspace(-1, 1, columns, dtype=np.float32)[None, :] * np.float32(how.tilt[0])
    measured += across + np.linspace(-1, 1, rows, dtype=np.float32)[:, None] * np.float32(how.tilt[1])
    # Poisson statistics in the logarithm: sigma grows as exp(mu d / 2).
    grain = rng.standard_normal((rows, columns), dtype=np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), 0.75) * np.float32(1.9)
    small_sigma = np.float32(0.011 * how.mottle) * np.exp(0.085 * np.minimum(small, 26)).astype(np.float32)
    sigma = cv2.resize(small_sigma, (columns, rows), interpolation=cv2.INTER_LINEAR) * np.float32(
        (columns / 1024) ** 0.7
    )
    measured += grain * sigma
    return measured


def develop(measured: Array, lung: Array, how: Processing, spacing: float) -> Array:
    """Grey values in [0, 1]: slow contrast compressed, detail raised, then a sigmoid anchored in lung and mediastinum.

    `lung` is a boolean map (any size) of the lung fields, by which the exposure is judged.
    """
    rows, columns = measured.shape
    small = cv2.resize(measured, (columns // 8, rows // 8), interpolation=cv2.INTER_AREA)
    inside = (small > 3.0).astype(np.float32)
    sigma = 38 / (spacing * 8)
    weight = cv2.GaussianBlur(inside, (0, 0), sigma) + 1e-3
    slow = cv2.GaussianBlur(small * inside, (0, 0), sigma) / weight
    centre = float(np.median(slow[inside > 0])) if inside.any() else 0.0
    off = (how.compress * (slow - centre) * inside).astype(np.float32)
    off = cv2.GaussianBlur(off, (0, 0), 1.2)
    halved = cv2.resize(measured, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(halved, (0, 0), 1.1 / spacing)
    fine = cv2.resize(smooth, (columns, rows), interpolation=cv2.INTER_LINEAR)
    image = measured - cv2.resize(off, (columns, rows), interpolation=cv2.INTER_LINEAR)
    image += np.float32(how.detail) * (measured - fine)
    anchor = cv2.resize(small - off, (lung.shape[1], lung.shape[0]), interpolation=cv2.INTER_LINEAR)
    dark = float(np.median(anchor[lung])) if lung.any() else 9.0
    light = float(np.percentile(anchor[anchor > 3.0], 82))
    low, high = _logit(how.lung), _logit(how.bright)
    slope = (high - low) / max(light - dark, 3.0) * how.contrast
    image -= np.float32(dark)
    image *= np.float32(-slope)
    image -= np.float32(low)
    np.exp(image, out=image)
    image += 1
    np.reciprocal(image, out=image)
    return np.clip((image - 0.015) * 1.03, 0, 1, out=image)


def collimate(image: Array, box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    """Blacken what lies outside the shutters (left, top, right, bottom in pixels); a thin veil of scatter remains."""
    left, top, right, bottom = box
    cover = np.zeros(image.shape, np.uint8)
    cover[top:bottom, left:right] = 255
    if (cover == 255).all():
        return
    open_field = cv2.GaussianBlur(cover, (0, 0), 1.2) * np.float32(1 / 255)
    image *= open_field
    image += np.float32(rng.uniform(0.006, 0.016)) * (1 - open_field)


def raw_signal(measured: Array) -> Array:
    """FOR PROCESSING: detector signal in [0, 1], linear in photons, so tissue is dark and air is bright."""
    return np.exp(-0.16 * np.maximum(measured, 0)).astype(np.float32)


def _logit(value: float) -> float:
    return float(np.log(value / (1 - value)))
