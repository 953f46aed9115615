"""Block masks of iBOT with exact counts (BEiT's blocks, arXiv 2106.08254; exact as a fixed token count needs)."""

from __future__ import annotations

import math

import numpy as np

SMALLEST_BLOCK = 4
ASPECT = (0.3, 1 / 0.3)
ATTEMPTS = 10


def mask_counts(
    rng: np.random.Generator, views: int, patches: int, share: float, ratio: tuple[float, float]
) -> np.ndarray:
    """Masked patches of each of `views` views (int64): `share` of them get evenly spaced ratios, the rest none."""
    masked = int(views * share)
    counts = np.zeros(views, np.int64)
    counts[:masked] = (np.linspace(*ratio, masked) * patches).astype(np.int64)
    return rng.permutation(counts)


def block_mask(rng: np.random.Generator, height: int, width: int, count: int) -> np.ndarray:
    """bool [height, width] with exactly `count` true: rectangles first, single patches to fill or free the rest."""
    mask = np.zeros((height, width), bool)
    while mask.sum() < count:
        if not _add_block(rng, mask, count - int(mask.sum())):
            break
    short = count - int(mask.sum())
    if short:
        free = np.flatnonzero(~mask)
        mask.flat[rng.choice(free, short, replace=False)] = True
    return mask


def _add_block(rng: np.random.Generator, mask: np.ndarray, room: int) -> bool:
    """Add one rectangle of at most `room` new patches; false when none was found."""
    height, width = mask.shape
    largest = max(SMALLEST_BLOCK, min(room, mask.size // 2))
    for _ in range(ATTEMPTS):
        area = rng.uniform(SMALLEST_BLOCK, largest)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < h < height and 0 < w < width):
            continue
        top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        block = mask[top : top + h, left : left + w]
        new = block.size - int(block.sum())
        if 0 < new <= room:
            block[:] = True
            return True
    return False
