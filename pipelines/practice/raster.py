"""Drawing into float images with sub-pixel precision: filled outlines, tubes and soft blobs, always additive."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator

Array = NDArray[Any]
_SHIFT = 4


def smoothstep(low: float | Array, high: float | Array, x: Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def spline(points: Array, count: int) -> Array:
    """A smooth curve through `points` (N, D), `count` samples equally spaced in arc length."""
    points = np.asarray(points, np.float64)
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1) ** 0.5)]
    smooth = Akima1DInterpolator(along, points, method="makima")
    fine = smooth(np.linspace(0, along[-1], 8 * count))
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))]
    at = np.linspace(0, length[-1], count)
    return np.stack([np.interp(at, length, fine[:, i]) for i in range(fine.shape[1])], 1)


def ribbon(curve: Array, width: float | Array) -> Array:
    """Outline (2N, 2) of a band around `curve` (N, 2)."""
    tangent = np.gradient(curve, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1) / (np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9)
    half = np.broadcast_to(np.asarray(width, np.float64), len(curve))[:, None] / 2
    return np.concatenate([curve + normal * half, (curve - normal * half)[::-1]])


def add_polygon(image: Array, outline: Array, value: float, blur: float = 0.0) -> None:
    """Add `value` inside `outline` (N, 2) in pixels, its edge softened by `blur` pixels (Gaussian sigma)."""
    add_union(image, [outline], value, blur)


def add_union(image: Array, outlines: list[Array], value: float, blur: float = 0.0) -> None:
    """Add `value` once inside the union of `outlines`."""
    margin = int(3 * blur) + 2
    every = np.concatenate(outlines)
    x0, y0 = np.maximum(np.floor(every.min(0)).astype(int) - margin, 0)
    x1, y1 = np.minimum(np.ceil(every.max(0)).astype(int) + margin + 1, image.shape[::-1])
    if x1 <= x0 or y1 <= y0:
        return
    cover = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for outline in outlines:
        fixed = np.round((outline - [x0, y0]) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(cover, [fixed], 255, cv2.LINE_AA, _SHIFT)
    if blur > 0.65:  # finer edges are left to the anti-aliasing
        cover = cv2.GaussianBlur(cover, (0, 0), blur)
    image[y0:y1, x0:x1] += cover * np.float32(value / 255)


def add_tube(image: Array, curve: Array, width: float | Array, wall: float, core: float, rim: float) -> None:
    """Add a hollow or solid tube: `wall` at its edges (`rim` pixels wide), `core` along its middle."""
    add_polygon(image, ribbon(curve, width), wall, 0.5)
    inner = np.maximum(np.asarray(width, np.float64) - 2 * rim, 0.4)
    add_polygon(image, ribbon(curve, inner), core - wall, 0.5)


def ellipse(centre: Array, axes: tuple[float, float]) -> Array:
    """Outline (48, 2) of an upright ellipse; `axes` are half-axes."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([centre[0] + axes[0] * np.cos(turn), centre[1] + axes[1] * np.sin(turn)], 1)


def add_ellipse(image: Array, centre: Array, axes: tuple[float, float], value: float, blur: float = 0.0) -> None:
    """Add a filled ellipse; `axes` are half-axes in pixels."""
    add_polygon(image, ellipse(centre, axes), value, blur)


def ball(across: Array, down: Array, centre: tuple[float, float], axes: tuple[float, float], turn: float = 0) -> Array:
    """Thickness profile in [0, 1] of an ellipsoid seen from outside, its long axis turned by `turn` radians."""
    dx, dz = across - np.float32(centre[0]), down - np.float32(centre[1])
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    u, w = (dx * cos + dz * sin) / np.float32(axes[0]), (dz * cos - dx * sin) / np.float32(axes[1])
    return np.sqrt(np.maximum(1 - u * u - w * w, 0))


def noise(rng: np.random.Generator, shape: tuple[int, int], coarse: int, octaves: int, gain: float = 0.5) -> Array:
    """Fractal noise, about unit variance: octaves of white noise, the first with `coarse` pixels per cell."""
    total, weight = np.zeros(shape, np.float32), 0.0
    for octave in range(octaves):
        cell = max(coarse >> octave, 1)
        small = rng.standard_normal((shape[0] // cell + 3, shape[1] // cell + 3), dtype=np.float32)
        layer = cv2.resize(small, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        total += np.float32(gain**octave) * layer[: shape[0], : shape[1]]
        weight += gain ** (2 * octave)
    return total / np.float32(weight**0.5 * 0.75)
