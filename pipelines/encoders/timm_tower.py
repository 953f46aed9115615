"""Any timm model from the folder form of its hub: `config.json` names the architecture, keys are timm's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from pipelines.contract import BadInput
from pipelines.encoders.folder import WEIGHTS
from pipelines.encoders.library import Tower
from pipelines.encoders.strict import load_strict, read_safetensors


class TimmTower(Tower):
    """Pooled output before the classifier, and the last map after the norm."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        try:
            last, maps = self.model.forward_intermediates(x_BCHW, indices=1, norm=True, output_fmt="NCHW")
        except AssertionError:  # timm's own refusal, of hiera for one
            name = type(self.model).__name__
            raise BadInput(f"timm's {name} gives no maps after its norm; choose another architecture.") from None
        return self.model.forward_head(last, pre_logits=True), maps[-1].permute(0, 2, 3, 1)

    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        found = self.model.forward_intermediates(x_BCHW, norm=True, output_fmt="NCHW", intermediates_only=True)
        return [map_BDHW.permute(0, 2, 3, 1) for map_BDHW in found]


def open_tower(folder: Path, architecture: dict[str, Any]) -> TimmTower:
    """`architecture` is timm's `config.json`."""
    name = str(architecture.get("architecture"))
    if not timm.is_model(name):
        raise BadInput(f"timm here has no architecture '{name}'; the weights may need a newer version.")
    values = {k: architecture[k] for k in ("num_classes", "global_pool") if architecture.get(k) is not None}
    values |= architecture.get("model_args") or {}
    try:
        model = timm.create_model(name, pretrained=False, **values)
    except (TypeError, ValueError, AssertionError):
        raise BadInput(f"config.json does not describe a timm {name}; get the whole folder again.") from None
    if not hasattr(model, "forward_intermediates"):
        raise BadInput(f"timm's {name} gives no maps of its last stage; choose another architecture.")
    load_strict(model, read_safetensors(folder / WEIGHTS), f"timm's {name}")
    return TimmTower(model)
