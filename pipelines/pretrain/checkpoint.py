"""Checkpoints: written whole, with a checksum beside, the last two kept, the newest valid one loaded."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, BinaryIO

import torch

from pipelines.contract import BadInput, Retry, RunFolder, atomic, sha256_file, write_atomic

KEPT = 2


class Checkpoints:
    """`checkpoints/step-NNNNNNNN.pt` of a run folder. Rank 0 writes; every rank holds the same state and reads.

    Every `every` steps one is due. A run that is stopped writes one more, which takes no place of the two that are
    kept: how far a run can go back does not depend on when it was stopped.
    """

    def __init__(self, run: RunFolder, every: int) -> None:
        self.run, self.every, self.folder = run, every, run.root / "checkpoints"

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step` steps, then forget what is no longer needed."""
        if self.run.rank != 0:
            return
        self.folder.mkdir(exist_ok=True)
        path = self._path(step)
        with atomic(path) as temporary, temporary.open("wb") as file:
            write_state(state, file)
        write_atomic(path.with_suffix(".sha256"), sha256_file(path) + "\n")
        self.run.checkpoint(path, step)
        steps = self._steps()
        keep = {*steps[-KEPT:], *[s for s in steps if s % self.every == 0][-KEPT:]}
        self._forget(set(steps) - keep)

    def newest(self) -> int | None:
        """Steps done in the newest checkpoint that is whole; None without one."""
        return next((step for step in reversed(self._steps()) if self._whole(step)), None)

    def before(self, step: int) -> int:
        """Steps done in the newest due checkpoint that saw no step from `step` on, or in the oldest there is."""
        steps = [s for s in self._steps() if s % self.every == 0] or self._steps()
        for found in [*reversed([s for s in steps if s <= step]), *[s for s in steps if s > step]]:
            if self._whole(found):
                return found
        raise Retry("The checkpoints of this run are gone or damaged; start it again.")

    def forget_after(self, step: int) -> None:
        """Drop what was written of a way that was given up."""
        if self.run.rank == 0:
            self._forget({s for s in self._steps() if s > step})

    def load(self, step: int, device: torch.device, cohort: str) -> dict[str, Any]:
        """The state of a checkpoint; BadInput when it belongs to other data, Retry when its GPU is gone."""
        state: dict[str, Any] = torch.load(self._path(step), map_location=device, weights_only=True)
        if device.type == "cpu" and state.get("device", "cpu") != "cpu":
            raise Retry(
                "This run began on a GPU and none can be used now; look at the machine with nvidia-smi, then start the "
                "run again: it goes on from its last checkpoint."
            )
        if state["cohort"] != cohort:
            raise BadInput("The cohort was changed since this run began; start a new run on it in a new folder.")
        return state

    def _whole(self, step: int) -> bool:
        path = self._path(step)
        with contextlib.suppress(OSError):
            if path.with_suffix(".sha256").read_text().strip() == sha256_file(path):
                return True
        self.run.log(f"The checkpoint of step {step} is damaged and was passed over.", "warning")
        return False

    def _forget(self, steps: set[int]) -> None:
        for step in steps:
            for suffix in (".sha256", ".pt"):
                self._path(step).with_suffix(suffix).unlink(missing_ok=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"

    def _steps(self) -> list[int]:
        return sorted(int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.pt"))


def write_state(state: dict[str, Any], file: BinaryIO) -> None:
    """torch.save, which tells of a full disk by a RuntimeError with nothing in it; here it is the OSError it was."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        raise cause or error from None
