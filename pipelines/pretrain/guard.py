"""When a run has gone wrong: a loss or gradient that is no number, or a loss that stays far above what it was.

What follows is PaLM's remedy (arXiv 2204.02311, section 5.1): go back to a checkpoint from before, leave out the
batches seen since, go on. The verdict on a step depends on the losses up to it alone, so a resumed run comes to the
same one.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Any

HISTORY = 100
"""Sound losses remembered."""
ENOUGH = 20
"""Sound losses needed before one can be called too high."""
HIGH_STEPS = 3
"""Steps in a row with too high a loss that count as a spike: fewer do no lasting harm."""
SPREADS = 5.0
SHARE = 0.25
"""Too high is above the median by more than so many standard deviations (from the median absolute deviation), and by
more than this share of the median."""
GIVE_UP = 3
"""Times that a run goes back without getting any further."""


@dataclass(frozen=True)
class Trouble:
    """Steps are counted from 0."""

    onset: int
    """First step that is not to be trusted."""
    step: int
    """The step that decided."""
    what: str
    """For a sentence: `The loss ...`."""


class Guard:
    """Judges steps in their order; `skipped` batches of the stream have been left out so far."""

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=HISTORY)
        self.high = 0
        self.skipped = self.failures = self.furthest = 0

    def judge(self, step: int, loss: float, gradient_norm: float) -> Trouble | None:
        """What is wrong at `step`, if anything."""
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            what = "The loss" if not math.isfinite(loss) else "The gradient"
            return Trouble(step - self.high, step, f"{what} was no longer a number at step {step + 1}")
        if len(self.losses) < ENOUGH or loss <= (limit := self._limit()):
            self.losses.append(loss)
            self.high = 0
            return None
        self.high += 1
        if self.high < HIGH_STEPS:
            return None
        what = f"The loss rose to {loss:.4g} at step {step + 1}, above {limit:.4g} for {HIGH_STEPS} steps"
        return Trouble(step + 1 - HIGH_STEPS, step, what)

    def went_back(self, trouble: Trouble, target: int, then: dict[str, Any]) -> None:
        """The run is again at step `target`, whose state was `then`; batches from there to the trouble are left out."""
        self.losses, self.high = deque(then["losses"], HISTORY), then["high"]
        self.skipped += trouble.step + 1 - target
        self.failures += 1
        self.furthest = max(self.furthest, trouble.step + 1)

    def reached(self, done: int) -> None:
        """A checkpoint is about to be written after `done` sound steps."""
        if done > self.furthest:
            self.failures = 0

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {**vars(self), "losses": list(self.losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"losses": deque(state["losses"], HISTORY)})

    def _limit(self) -> float:
        median = statistics.median(self.losses)
        spread = 1.4826 * statistics.median(abs(loss - median) for loss in self.losses)
        return median + max(SPREADS * spread, SHARE * abs(median))
