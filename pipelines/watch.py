"""What the function of a unit of work tells who started it: how far it is, and at which item.

A unit may consist of items, files most often, that run foreign code on foreign bytes. Who knows which item a dead
process was at can leave that one out (parallel.Pool).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipelines.contract import RunFolder

Item = TypeVar("Item")

CRASH, TIMEOUT = "crash", "timeout"
"""Why an item was condemned."""


@dataclass
class Progress:
    """How far a step is, in items, whoever did them."""

    run: RunFolder
    total: int | None
    what: str
    done: int = 0

    def add(self, items: int = 1) -> None:
        """Count items; negative when a dead process's items will be done again."""
        self.done += items
        self.run.progress(self.done, self.total, self.what)


class Watch:
    """What the function of a unit tells the pool while it works. This one works in the stage's own process."""

    def __init__(self, run: RunFolder | None = None, progress: Progress | None = None) -> None:
        self.run, self.progress = run, progress
        self.suspects: frozenset[str] = frozenset()
        self.condemned: dict[str, str] = {}

    def over(
        self, items: Sequence[Item], name: Callable[[Item], str], size: Callable[[Item], int | None] | None = None
    ) -> Iterator[tuple[Item, str | None]]:
        """Each item with CRASH or TIMEOUT when it must be left out, else None.

        Suspects come first, so nothing may depend on the order. `name` is unique in the unit, `size` is in bytes.
        Raises Stopped between items when the stage was asked to stop.
        """
        for item in sorted(items, key=lambda i: name(i) not in self.suspects):
            fate = self.condemned.get(name(item))
            if fate is None:
                self._begin(name(item), size(item) or 0 if size else 0)
            yield item, fate
            self._end()

    def _begin(self, name: str, size: int) -> None:
        pass

    def _end(self) -> None:
        if self.progress:
            self.progress.add()
        if self.run:
            self.run.check_stop()
