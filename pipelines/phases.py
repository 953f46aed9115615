"""Phases of a stage: units that each leave a file behind when they are whole, performed until all of them are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipelines.parallel import Pool, Progress, Watch

Unit = TypeVar("Unit")


class Crew:
    """Who performs the phases of a run: the processes of one pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def once(self, call: Callable[[], None], marker: Path) -> None:
        """Perform a phase of one unit, in this process, unless its `marker` exists."""
        if not marker.exists():
            call()

    def perform(
        self,
        what: str,
        function: Callable[[Unit, Watch], Any],
        units: Sequence[Unit],
        marker: Callable[[Unit], Path],
        *,
        total: int | None = None,
        weight: Callable[[Unit], int] | None = None,
    ) -> None:
        """Call `function` for every unit whose `marker` is not there yet; returns when all are.

        `function` writes the marker last, atomically. Progress counts `total` items, of which `weight` says how many a
        finished unit had; without them it counts units.
        """
        left = [unit for unit in units if not marker(unit).exists()]
        if weight is None or total is None:
            progress = Progress(self.pool.run, len(units), what, len(units) - len(left))
            for _ in self.pool.map(function, left):
                progress.add()
            return
        waiting = set(map(id, left))
        done = sum(weight(unit) for unit in units if id(unit) not in waiting)
        for _ in self.pool.map(function, left, Progress(self.pool.run, total, what, done)):
            pass
