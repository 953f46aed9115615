"""What runs take: hours from a speed that a run measured. No heavy import: command line and server plan by this too.

Every run of a study has the same number of image forwards, whatever its N, so one run's speed foretells all others of
its encoder on the same device, and a run at twice the largest N takes as long as one at the largest.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

NOT_YET = 2
"""Readings of a run that are left out: the first steps compile, fill caches and fit the batch."""


@dataclass(frozen=True)
class Speed:
    """How fast a run was, as its result.json says."""

    device: str
    gpus: int
    """0 on a CPU."""
    images_per_second: float
    """Image forwards of all processes together; the median of what the run reported."""

    @classmethod
    def read(cls, result: dict[str, Any] | None) -> Self | None:
        """The speed in a run's result; None where there is none, as of a run too short to have reported one."""
        said = (result or {}).get("speed")
        return cls(said["device"], said["gpus"], said["images_per_second"]) if said else None

    def hours(self, forwards: int) -> float:
        """Hours of a run of so many image forwards, its start, looks and checkpoints aside."""
        return forwards / self.images_per_second / 3600

    def cost(self, forwards: int, runs: int) -> dict[str, Any]:
        """`runs` runs of so many image forwards each: hours of one, hours of all, GPU hours (None on a CPU)."""
        hours = self.hours(forwards)
        gpu_hours = hours * runs * self.gpus if self.gpus else None
        return asdict(self) | {"runs": runs, "hours_each": hours, "hours": hours * runs, "gpu_hours": gpu_hours}


def measured(events: Path, device: str, gpus: int) -> Speed | None:
    """The speed that a run reported in its events.jsonl, over all its attempts; None when it reported none."""
    rates = []
    for line in events.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # the last words of an attempt that was killed
            continue
        rate = event.get("values", {}).get("images_per_second") if event.get("kind") == "metric" else None
        if rate:
            rates.append(float(rate))
    settled = rates[NOT_YET:] or rates
    return Speed(device, gpus, statistics.median(settled)) if settled else None


def words(cost: dict[str, Any]) -> str:
    """A cost in a sentence's middle: `3 runs of 1.5 hours each on NVIDIA H100, 4.5 GPU hours`."""
    each = duration(cost["hours_each"])
    said = f"{cost['runs']} runs of {each} each" if cost["runs"] > 1 else f"one run of {each}"
    on = f"{cost['gpus']} x {cost['device']}" if cost["gpus"] > 1 else f"{'a ' * (not cost['gpus'])}{cost['device']}"
    gpu = f", {cost['gpu_hours']:,.1f} GPU hours" if cost["gpu_hours"] is not None else ""
    return f"{said} on {on}{gpu}"


def duration(hours: float) -> str:
    """`12 s`, `3.5 minutes`, `7.2 hours`."""
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.1f} minutes" if hours < 1 else f"{hours:,.1f} hours"
