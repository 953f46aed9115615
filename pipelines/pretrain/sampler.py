"""Which samples a step sees, and the random numbers of each: pure functions of the seed and the place in the stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Streams of random numbers that must not repeat each other.
SHUFFLE, VIEWS, MASKS, DROPOUT = range(4)


@dataclass(frozen=True)
class Batch:
    """The global batch of a step, and the share of one rank in it."""

    step: int
    """Of the optimiser, counted from 0: what schedules follow."""
    number: int
    """Place in the stream of batches: what random numbers follow. Behind `step` when batches were left out."""
    rows_B: np.ndarray
    """Image rows of the cohort, of all ranks."""
    positions_B: np.ndarray
    """Places in the endless stream of samples: the same sample in another epoch has another place."""
    first: int
    last: int
    """The rank's share is rows_B[first:last]."""


class Sampler:
    """An endless stream of epochs, each a seeded permutation of the subset, cut into batches.

    The loop and what prefetches for it may ask at once, from threads of their own.
    `skipped` batches have been left out so far; a step after them sees what comes later in the stream.
    """

    skipped = 0

    def __init__(self, rows: np.ndarray, batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.rows, self.size, self.seed = rows, batch, seed
        share = batch // world
        self.first, self.last = rank * share, (rank + 1) * share
        self._orders: dict[int, np.ndarray] = {}

    def batch(self, step: int) -> Batch:
        """The batch of a step; it depends on nothing else that happened before."""
        number = step + self.skipped
        positions = np.arange(number * self.size, (number + 1) * self.size, dtype=np.int64)
        epochs, places = np.divmod(positions, len(self.rows))
        first, last = int(epochs[0]), int(epochs[-1])
        kept = self._orders
        orders = {e: kept[e] if e in kept else self._order(e) for e in range(first, last + 1)}
        rows = np.empty_like(positions)
        for epoch, order in orders.items():
            rows[epochs == epoch] = self.rows[order[places[epochs == epoch]]]
        self._orders = orders
        return Batch(step, number, rows, positions, self.first, self.last)

    def _order(self, epoch: int) -> np.ndarray:
        return generator(self.seed, SHUFFLE, epoch).permutation(len(self.rows))


def generator(seed: int, stream: int, *place: int) -> np.random.Generator:
    """An independent generator for a place of a stream."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, *map(int, place)])))


def torch_seed(seed: int, stream: int, *place: int) -> int:
    """A seed for torch's own generators at a place of a stream."""
    return int(np.random.SeedSequence([seed, stream, *map(int, place)]).generate_state(1, np.uint64)[0] >> 1)
