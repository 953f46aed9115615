"""Values of a run for its page, and as TensorBoard files for whoever likes those better."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import Tensor

from pipelines.contract import RunFolder

FOLDER = "tensorboard"


class Board:
    """Reports of rank 0; a context that closes the files. Without tensorboardX there are none: a bare GPU image runs
    all the same."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.writer = run, _writer(run)

    def metric(self, step: int, values: dict[str, float]) -> None:
        """Values after `step` steps."""
        self.run.metric(step, **values)
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def picture(self, step: int, picture_CHW: Tensor) -> None:
        """A picture, uint8 [3, H, W]."""
        if self.writer:
            self.writer.add_image("patch features", picture_CHW.numpy(), step)

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.writer:
            self.writer.close()


def _writer(run: RunFolder) -> Any:
    if run.rank != 0:
        return None
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        run.log("TensorBoard files are not written: tensorboardX is not installed.")
        return None
    return SummaryWriter(str(run.root / FOLDER), flush_secs=10)
