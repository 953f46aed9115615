"""Phases of a stage: units that each leave a file behind when they are whole, performed until all of them are."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipelines.claims import DONE, FOLDER, PAUSE, Claim, claim
from pipelines.parallel import Pool
from pipelines.watch import Progress, Watch

Unit = TypeVar("Unit")

LOOK_SECONDS = 2.0
"""How often to look at what others have done."""


class Crew:
    """Who performs the phases of a run: the processes of this pool, and those of any machine that has joined.

    All go through the same phases in the same order, and none begins with one before it has seen the last one whole.
    """

    def __init__(self, pool: Pool, root: Path) -> None:
        """`root` is the run folder that is worked on, `pool.run` where that is told of."""
        self.pool = pool
        self.claims = root / FOLDER
        self.claims.mkdir(exist_ok=True)
        self.done = 0
        """Units that this crew's own pool has performed."""

    def once(self, what: str, call: Callable[[], object], marker: Path) -> None:
        """Perform a phase of one unit, in the stage's own process, unless its `marker` exists."""
        while not marker.exists():
            with claim(self._claims_of(what), 0) as met:
                if met is Claim.OURS and not marker.exists():
                    call()
            if met is not Claim.OURS:
                self.pool.run.check_stop()
                time.sleep(PAUSE)

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
        progress = Progress(self.pool.run, total if weight else len(units), what)
        left = _Left(units, marker, self._claims_of(what), lambda unit: progress.add(weight(unit) if weight else 1))
        progress.add(0)  # who may be asked to help sees at once how much there is
        under_claim = partial(_under_claim, function, left.claims)
        for number, met in self.pool.map(under_claim, left.draw(), progress if weight else None):
            left.answered(number, met)
            if met is Claim.OURS:
                self.done += 1
                if not weight:
                    progress.add()

    def _claims_of(self, what: str) -> Path:
        return self.claims / what.replace(" ", "-")


def _under_claim(
    function: Callable[[Unit, Watch], Any], claims: Path, given: tuple[int, Unit, Path], watch: Watch
) -> tuple[int, Claim]:
    """In the process that does the work, so that the claim is held as long as anything is written, and no longer."""
    number, unit, marker = given
    with claim(claims, number) as met:
        if met is Claim.OURS:
            if marker.exists():  # done by one who died before it could say so
                return number, Claim.DONE
            function(unit, watch)
    return number, met


class _Left(Generic[Unit]):
    """The units of a phase that are not known to be done, some of them given out."""

    def __init__(
        self, units: Sequence[Unit], marker: Callable[[Unit], Path], claims: Path, found: Callable[[Unit], None]
    ) -> None:
        self.units, self.marker, self.claims, self.found = units, marker, claims, found
        self.waiting: deque[tuple[float, int]] = deque()  # not before this time, unit
        self.out: set[int] = set()
        for number, unit in enumerate(units):
            if marker(unit).exists():
                found(unit)
            else:
                self.waiting.append((0.0, number))
        # Not all at the same place, or they would be in each other's way.
        self.waiting.rotate(int.from_bytes(os.urandom(4)))
        self.looked_at = time.monotonic()

    def draw(self) -> Iterator[tuple[int, Unit, Path] | None]:
        """Number, unit and marker of what can be done now; None while there is only what others are at."""
        while self.waiting or self.out:
            now = time.monotonic()
            if now - self.looked_at >= LOOK_SECONDS:
                self._look()
                self.looked_at = now
            elif not self.waiting or self.waiting[0][0] > now:
                yield None
            else:
                _, number = self.waiting.popleft()
                self.out.add(number)
                yield number, self.units[number], self.marker(self.units[number])

    def answered(self, number: int, met: Claim) -> None:
        """What became of a unit that was given out."""
        self.out.remove(number)
        if met is not Claim.OURS:
            # Also when it is done: the phase is over for us when we see it, for what follows reads it.
            self.waiting.append((time.monotonic() + LOOK_SECONDS, number))

    def _look(self) -> None:
        """Take out what others have done since. Their claims are one small file, and opened anew it is up to date."""
        said = self.claims.read_bytes() if self.claims.exists() else b""
        waiting, self.waiting = self.waiting, deque()
        for at, number in waiting:
            if said[number : number + 1] == DONE and self.marker(self.units[number]).exists():
                self.found(self.units[number])
            else:
                self.waiting.append((at, number))
