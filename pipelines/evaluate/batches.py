"""Batches for heads that are trained on stored features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def shuffled(count: int, batch: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Indices below `count` of each step: shuffled passes through all, rising within a batch, as they lie on disk;
    never a batch of one, which norms could not take."""
    rng = np.random.default_rng(seed)
    waiting = np.empty(0, np.int64)
    batch = max(min(batch, count), 2)
    for _ in range(steps):
        while len(waiting) < batch:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield np.sort(waiting[:batch])
        waiting = waiting[batch:]
