"""How fast a run is, and what of the machine it uses."""

from __future__ import annotations

import time

import torch

from pipelines.pretrain import flops
from pipelines.pretrain.task import Task


class Meter:
    """Speed since the last reading. Readings come after a transfer of losses, so the GPU has caught up."""

    def __init__(self, task: Task, batch: int, world: int, device: torch.device) -> None:
        self.batch, self.device = batch, device
        peak = flops.peak(device)
        self.flops_at_peak = task.flops() / (peak * world) if peak else None
        self.restart(0, 0.0)

    def restart(self, done: int, waited: float) -> None:
        """Leave out what was done since the last reading: it was no training."""
        self.clock, self.done, self.waited = time.monotonic(), done, waited

    def read(self, done: int, waited: float) -> dict[str, float]:
        """Figures since the last reading, after `done` steps and `waited` seconds of waiting for inputs in all."""
        now = time.monotonic()
        rate = (done - self.done) * self.batch / (now - self.clock)
        values = {"images_per_second": rate, "data_wait": (waited - self.waited) / (now - self.clock)}
        if self.flops_at_peak:
            values["mfu"] = rate * self.flops_at_peak
        if self.device.type == "cuda":
            values["gpu_memory_gb"] = torch.cuda.max_memory_allocated(self.device) / 1e9
        self.restart(done, waited)
        return values
