"""What the one training loop asks of an objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.pretrain.sampler import Batch


@dataclass(frozen=True)
class Look:
    """What the encoder that would be exported makes of some images."""

    grey_BHW: Tensor
    """float32 in 0..1, as prepared."""
    pooled_BD: Tensor
    patches_BHWD: Tensor
    """Both float32."""


class Task(Protocol):
    """An objective with its models and its way to read samples."""

    name: str
    """Of the encoder."""
    micro: int
    """Samples of a rank that go through the models at once. May change between steps."""

    def flops(self) -> float:
        """Floating-point operations of a step for one sample, what is computed a second time not counted."""
        ...

    def outputs(self) -> float:
        """Numbers that the blocks put out in the forward passes of one sample that a backward pass follows."""
        ...

    def prepare(self, batch: Batch) -> Any:
        """What `step` needs of this rank's share, as CPU tensors. May run ahead, in another thread."""
        ...

    def step(self, batch: Batch, inputs: Any) -> dict[str, Tensor]:
        """Forward and backward of this rank's share, micro-batch by micro-batch; `inputs` are on the device.

        Leaves in the trainable parameters gradients whose mean over ranks is the gradient of the global batch's loss.
        Returns scalars to report, `loss` among them, already the same on every rank.
        """
        ...

    def after_step(self, step: int) -> None:
        """After the optimiser's step: EMA teacher, centres, clamps."""
        ...

    def trainable(self) -> dict[str, nn.Module]:
        """Modules by part (`backbone`, `head`)."""
        ...

    def moves(self, part: str, step: int) -> bool:
        """Whether a part (also `last_layer`) is trained at this step; else its learning rate is 0."""
        ...

    def look(self, images: Sequence[np.ndarray]) -> Look:
        """Features of stored images (uint8 [H, W]) by the model that `write` would write, without gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs and the optimiser does not hold."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def write(self, folder: Path) -> None:
        """Write the weights to keep into a model folder."""
        ...


def grey(x_BCHW: Tensor) -> Tensor:
    """Prepared images as they look: [B, H, W] in 0..1, each from its darkest to its brightest."""
    x_BHW = x_BCHW[:, 0].float()
    low, high = x_BHW.amin((1, 2), keepdim=True), x_BHW.amax((1, 2), keepdim=True)
    return (x_BHW - low) / (high - low).clamp_min(1e-6)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where asked for; losses and norms stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
