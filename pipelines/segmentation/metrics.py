"""How well a predicted mask agrees with the truth, as a region and as a line. All masks are bool [H, W] of one shape.

A truth that is known to be empty has no overlap to speak of: such images are counted apart (`is_empty`), and the
measures below are taken where the truth holds something. As functions they are defined everywhere: two empty masks
agree wholly (1), one empty mask agrees not at all (0).
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

TOLERANCE_MM = 5.0
"""How far a centre line may lie from the true one."""
TOLERANCE_SHARE = 0.0125
"""The same where no spacing is known, as a share of the square's side: 5 mm of 400 mm."""
TIP_MM = 10.0
"""A tip counts as found within this distance."""


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """2 |A n B| / (|A| + |B|)."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    """|A n B| / |A u B|."""
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def cldice(found: np.ndarray, truth: np.ndarray, found_line: np.ndarray, truth_line: np.ndarray) -> float:
    """Centre-line Dice (Shit et al., CVPR 2021, arXiv 2003.07311) from masks and their centre lines."""
    if not found_line.any() or not truth_line.any():
        return float(found_line.any() == truth_line.any())
    precision = (found_line & truth).sum() / found_line.sum()
    sensitivity = (truth_line & found).sum() / truth_line.sum()
    return float(2 * precision * sensitivity / (precision + sensitivity)) if precision + sensitivity else 0.0


def within(line: np.ndarray, other: np.ndarray, tolerance: float, pixel: tuple[float, float]) -> float:
    """Share of the pixels of a centre line that lie within a tolerance of another; an empty line counts as `dice` does.

    Recall where `line` is the true one, precision where it is the found one. `pixel` is the height and width of a
    pixel in the unit of the tolerance.
    """
    if not line.any() or not other.any():
        return float(line.any() == other.any())
    distance = distance_transform_edt(~other, sampling=pixel)
    return float((distance[line] <= tolerance).mean())


def tip_distances(found: np.ndarray, truth: np.ndarray, pixel: tuple[float, float]) -> np.ndarray:
    """float64 [truth]: distance of each true tip (x, y) to the nearest found one; infinite where none was found."""
    if not len(found):
        return np.full(len(truth), np.inf)
    apart = (truth[:, None] - found[None]) * np.array([pixel[1], pixel[0]])
    return np.hypot(apart[..., 0], apart[..., 1]).min(1)
