"""One patient's thorax in millimetres, and how an exposure projects it onto the detector.

Axes: x to the patient's left, y to the front, z to the feet; the origin lies on the midline at the level of the lung
apices, halfway between breastbone and back. A frontal image shows the patient's right on its left side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Array = NDArray[Any]

RIGHT, LEFT = -1, 1
SIDES = {"right": RIGHT, "left": LEFT}

# Lung outline of one hemithorax as fractions of the cavity's half-width, by height t = z / lung height.
_T = [0.0, 0.012, 0.035, 0.08, 0.16, 0.28, 0.45, 0.65, 0.85, 1.0, 1.15, 1.4]
_OUTER = [0.37, 0.435, 0.50, 0.59, 0.705, 0.82, 0.915, 0.97, 0.995, 1.0, 0.99, 0.95]
_INNER = [0.37, 0.315, 0.27, 0.225, 0.18, 0.145, 0.13, 0.13, 0.13, 0.13, 0.13, 0.13]
_DEPTH = [0.20, 0.29, 0.39, 0.52, 0.69, 0.86, 0.98, 1.0, 1.0, 0.98, 0.95, 0.95]
# Front and back wall of the cavity on the midline as fractions of its half depth, by the same height.
_WALL_T = [-0.2, 0.0, 0.1, 0.35, 0.75, 1.0, 1.4]
_FRONT = [-0.1, 0.08, 0.38, 0.82, 1.0, 0.98, 0.95]
_BACK_T = [-0.2, 0.0, 0.15, 0.5, 0.85, 1.1, 1.4]
_BACK = [-0.3, -0.55, -0.85, -1.04, -1.02, -0.92, -0.8]
# Looked up, not interpolated: at 8,400 steps neighbours differ by less than 0.1 mm.
_FINE = np.linspace(-0.3, 1.8, 8401, dtype=np.float32)
_PROFILES = {
    name: PchipInterpolator(_T, values)(np.clip(_FINE, 0, 1.4)).astype(np.float32)
    for name, values in (("outer", _OUTER), ("inner", _INNER), ("depth", _DEPTH))
}
for _name, _at, _values in (("front", _WALL_T, _FRONT), ("back", _BACK_T, _BACK)):
    _PROFILES[_name] = PchipInterpolator(_at, _values)(np.clip(_FINE, -0.2, 1.4)).astype(np.float32)


@dataclass(frozen=True)
class Anatomy:
    """What stays the same in every study of a patient. Lengths in mm."""

    seed: int
    sex: str
    height: float  # lung apex to right dome at full inspiration
    half_width: float
    half_depth: float
    wall: float  # soft tissue outside the ribs
    breast: float  # 0 none to 1 large
    heart_ratio: float  # cardiothoracic ratio in a PA view without cardiomegaly
    knob: float  # radius of the aortic arch
    unfolding: float  # 0 young to 1 old: tortuous aorta, calcified cartilage
    scoliosis: float
    rib_drop: float
    bone: float  # density of bone, 1 is average
    vessel: float  # density of the vascular tree
    gas: float

    @property
    def carina(self) -> tuple[float, float, float]:
        """Where the trachea divides."""
        return (3.0, -8.0, 0.335 * self.height)


def sample_anatomy(rng: np.random.Generator, sex: str, age: int) -> Anatomy:
    """An adult's thorax; women's are smaller, old people's aortas longer and their bones thinner."""
    male = sex == "M"
    size = float(np.clip(rng.normal(1.0 if male else 0.91, 0.045), 0.8, 1.1))
    old = float(np.clip((age - 45) / 40, 0, 1))
    stout = float(np.clip(rng.gamma(2.2, 0.45), 0.1, 2.6))
    return Anatomy(
        seed=int(rng.integers(2**31)),
        sex=sex,
        height=262 * size * float(rng.normal(1, 0.03)),
        half_width=141 * size * float(rng.normal(1, 0.03)) + 2 * stout,
        half_depth=86 * size * float(rng.normal(1, 0.05)) + 3 * stout,
        wall=17 + 16 * stout,
        breast=0.0 if male else float(np.clip(rng.normal(0.42, 0.3), 0, 1)),
        heart_ratio=float(np.clip(rng.normal(0.435, 0.022), 0.38, 0.475)),
        knob=15 + 5 * old + float(rng.normal(0, 1)),
        unfolding=old * float(rng.uniform(0.3, 1)),
        scoliosis=float(rng.normal(0, 4)),
        rib_drop=float(rng.normal(1, 0.1)),
        bone=float(np.clip(rng.normal(1.05 - 0.3 * old, 0.12), 0.55, 1.4)),
        vessel=float(np.clip(rng.normal(1, 0.15), 0.7, 1.4)),
        gas=float(rng.uniform(0, 1)),
    )


@dataclass(frozen=True)
class Pose:
    """How one image was taken. Angles in radians, lengths in mm on the detector."""

    view: str  # AP | PA | LATERAL
    inspiration: float  # share of the full lung height
    rotation: float  # about the long axis
    tilt: float  # of the image in its plane
    width: float
    height: float
    shift: tuple[float, float]
    top: float  # z shown at the upper edge of an unshifted image
    supine: bool = False


def sample_pose(rng: np.random.Generator, view: str, anatomy: Anatomy) -> Pose:
    """A plausible exposure: AP portables are rotated, less inspired and loosely framed, upright PA films are not."""
    trunk = 2 * (anatomy.half_width + anatomy.wall)
    if view == "LATERAL":
        breath, spread = rng.uniform(0.95, 1.0), 0.01
        width = (2.0 * anatomy.half_depth + 1.3 * anatomy.wall + 50) * rng.uniform(1.05, 1.2)
        height = max(anatomy.height + rng.uniform(105, 140), 1.08 * width)
    elif view == "PA":
        breath, spread = rng.uniform(0.93, 1.0), 0.018
        width = min(trunk * rng.uniform(1.0, 1.16), 430)
        height = min(anatomy.height * breath + rng.uniform(90, 175), 430)
    else:
        breath, spread = rng.uniform(0.76, 0.92), 0.045
        width = min(trunk * rng.uniform(1.02, 1.28), 430)
        height = min(anatomy.height * breath + rng.uniform(80, 150), 430)
    if 0.97 < width / height < 1.03:
        width *= 1.06
    spare = height - anatomy.height * breath
    return Pose(
        view=view,
        inspiration=float(breath),
        rotation=float(rng.normal(0, 2.5 * spread)),
        tilt=float(np.clip(rng.normal(0, spread), -0.09, 0.09)),
        width=float(width),
        height=float(height),
        shift=(float(rng.normal(0, 220 * spread)), float(rng.normal(0, 4))),
        top=-float(np.clip(spare * rng.uniform(0.36, 0.5), 30, 66)),
        supine=view == "AP" and bool(rng.random() < 0.6),
    )


@dataclass(frozen=True)
class Thorax:
    """An anatomy in one pose: what inspiration and view make of it. Lengths in mm."""

    anatomy: Anatomy
    pose: Pose
    heart_ratio: float
    lung_height: float
    half_width: float
    half_depth: float
    dome: tuple[float, float]  # z of the right and the left dome
    carina: tuple[float, float, float]

    def outer(self, z: Array) -> Array:
        """Distance of the lateral lung border from the midline at height z."""
        return self.half_width * self._profile("outer", z)

    def inner(self, z: Array) -> Array:
        """Distance of the medial lung border (without heart and vessels) from the midline at height z."""
        return self.half_width * self._profile("inner", z)

    def depth(self, z: Array) -> Array:
        """Half of the cavity's depth at height z."""
        return self.half_depth * self._profile("depth", z)

    def front(self, z: Array) -> Array:
        """y of the inner side of the breastbone at height z."""
        return self.half_depth * self._profile("front", z)

    def back(self, z: Array) -> Array:
        """y of the deepest point of the back wall at height z."""
        return self.half_depth * self._profile("back", z)

    def _profile(self, name: str, z: Array) -> Array:
        at = np.asarray(z, np.float32) * np.float32(4000 / self.lung_height) + np.float32(1200.5)
        return _PROFILES[name][np.clip(at, 0, 8400).astype(np.int32)]


def pose_thorax(anatomy: Anatomy, pose: Pose, heart_ratio: float) -> Thorax:
    """The thorax as this exposure meets it."""
    height = anatomy.height * pose.inspiration
    shallow = 1 - pose.inspiration
    x, y, z = anatomy.carina
    return Thorax(
        anatomy=anatomy,
        pose=pose,
        heart_ratio=heart_ratio,
        lung_height=height,
        half_width=anatomy.half_width * (1 - 0.12 * shallow),
        half_depth=anatomy.half_depth * (1 - 0.2 * shallow),
        dome=(height * 0.955, height * 0.955 + 13 * (1 - 2 * shallow)),
        carina=(x, y, z * (1 - 0.35 * shallow)),
    )


@dataclass(frozen=True)
class Projector:
    """From the patient (mm) to image pixels: rotation about the long axis, divergent beam, tilt, scale."""

    pose: Pose
    columns: int
    rows: int

    @property
    def spacing(self) -> float:
        """mm of detector per pixel."""
        return self.pose.width / self.columns

    def __call__(self, points: Array) -> Array:
        """Points (N, 3) in mm to (N, 2) pixel coordinates (x, y)."""
        points = np.atleast_2d(np.asarray(points, np.float64))
        across, toward = self.turned(points)
        middle = self.pose.height / 2 + self.pose.top
        scale = self.magnification(toward) / self.spacing
        u, v = across * scale, (points[:, 2] - middle) * scale
        cos, sin = np.cos(self.pose.tilt), np.sin(self.pose.tilt)
        left = self.columns / 2 + self.pose.shift[0] / self.spacing
        upper = self.rows / 2 + self.pose.shift[1] / self.spacing
        return np.stack([left + u * cos - v * sin, upper + u * sin + v * cos], 1)

    def turned(self, points: Array) -> tuple[Array, Array]:
        """Coordinates along the image's horizontal axis and toward the tube, after turning the patient."""
        turn = self.pose.rotation
        x = points[:, 0] * np.cos(turn) + points[:, 1] * np.sin(turn)
        y = points[:, 1] * np.cos(turn) - points[:, 0] * np.sin(turn)
        if self.pose.view == "LATERAL":
            return -y, -x
        return x, y if self.pose.view == "AP" else -y

    def magnification(self, toward: Array) -> Array:
        """Divergent beam: 1 in the middle of the patient; tube at 1.0 m for AP portables, 1.8 m otherwise."""
        return 1 / (1 - np.asarray(toward) / (1000.0 if self.pose.view == "AP" else 1800.0))

    def grid(self, step: int) -> tuple[Array, Array]:
        """(across, z) in mm of the patient's middle plane for every `step`-th pixel; float32 (rows, columns)."""
        rows, columns = -(-self.rows // step), -(-self.columns // step)
        u = (np.arange(columns, dtype=np.float32) + 0.5) * step - self.columns / 2 - self.pose.shift[0] / self.spacing
        v = (np.arange(rows, dtype=np.float32) + 0.5) * step - self.rows / 2 - self.pose.shift[1] / self.spacing
        cos, sin = np.float32(np.cos(self.pose.tilt)), np.float32(np.sin(self.pose.tilt))
        u, v = u.astype(np.float32)[None, :], v.astype(np.float32)[:, None]
        middle = np.float32(self.pose.height / 2 + self.pose.top)
        spacing = np.float32(self.spacing)
        return (u * cos + v * sin) * spacing, (v * cos - u * sin) * spacing + middle


def lateral_of(pose: Pose, rng: np.random.Generator, anatomy: Anatomy) -> Pose:
    """The lateral exposure taken right after `pose`, with the same breath."""
    return replace(sample_pose(rng, "LATERAL", anatomy), inspiration=pose.inspiration)
