"""torchxrayvision's DenseNet-121 (arXiv 2111.00595): torchvision's network with one input channel, the same keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import densenet121

from pipelines.encoders.depths import watch
from pipelines.encoders.folder import WEIGHTS
from pipelines.encoders.library import Tower
from pipelines.encoders.strict import load_strict, read_safetensors


class DenseNetTower(Tower):
    """The last map after ReLU, and its mean."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.model = densenet121(num_classes=classes)
        self.model.features.conv0 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        map_BDHW = F.relu(self.model.features(x_BCHW))
        return map_BDHW.mean((2, 3)), map_BDHW.permute(0, 2, 3, 1)

    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        """Of each dense block after the norm and ReLU that follow it, as `forward` takes the last."""
        stages = self.model.features
        with watch([stages.transition1.relu, stages.transition2.relu, stages.transition3.relu, stages.norm5]) as seen:
            stages(x_BCHW)
        return [F.relu(map_BDHW).permute(0, 2, 3, 1) for map_BDHW in seen]


def open_tower(folder: Path, architecture: dict[str, Any]) -> DenseNetTower:
    """`architecture` holds `classes`, the number of outputs of the classifier."""
    tower = DenseNetTower(int(architecture["classes"]))
    load_strict(tower.model, read_safetensors(folder / WEIGHTS), "torchxrayvision's DenseNet-121")
    return tower
