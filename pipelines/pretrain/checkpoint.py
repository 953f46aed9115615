"""Checkpoints: written whole, with a checksum beside, the last two kept, the newest valid one loaded."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from pipelines.contract import BadInput, RunFolder, atomic, sha256_file, write_atomic

KEPT = 2


class Checkpoints:
    """`checkpoints/step-NNNNNNNN.pt` of a run folder. Rank 0 writes; every rank holds the same state and reads."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.folder = run, run.root / "checkpoints"

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step` steps, then forget all but the last two."""
        if self.run.rank != 0:
            return
        self.folder.mkdir(exist_ok=True)
        path = self._path(step)
        with atomic(path) as temporary:
            torch.save(state, temporary)
        write_atomic(path.with_suffix(".sha256"), sha256_file(path) + "\n")
        self.run.checkpoint(path, step)
        for old in self._steps()[:-KEPT]:
            for suffix in (".sha256", ".pt"):
                self._path(old).with_suffix(suffix).unlink(missing_ok=True)

    def newest(self) -> int | None:
        """Steps done in the newest checkpoint that is whole; None without one."""
        for step in reversed(self._steps()):
            path = self._path(step)
            with contextlib.suppress(OSError):
                if path.with_suffix(".sha256").read_text().strip() == sha256_file(path):
                    return step
            self.run.log(f"The checkpoint of step {step} is damaged and was passed over.", "warning")
        return None

    def load(self, step: int, device: torch.device, cohort: str) -> dict[str, Any]:
        """The state of a checkpoint; BadInput when it belongs to other data."""
        state: dict[str, Any] = torch.load(self._path(step), map_location=device, weights_only=True)
        if state["cohort"] != cohort:
            raise BadInput("The cohort was changed since this run began; start a new run on it in a new folder.")
        return state

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"

    def _steps(self) -> list[int]:
        return sorted(int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.pt"))
