"""Counting the work of a step, for the model FLOP utilisation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipelines.encoders.stream import norms_keep_type

# Dense bf16 tensor-core peaks of the data sheets, in operations a second, by a part of the device's name.
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A40": 150e12}


def forward_flops(module: nn.Module, call: Callable[[Any], Any]) -> float:
    """Multiplications and additions of matrix products, convolutions and attention when `call` calls `module`.

    It gets a copy on the meta device, where tensors that it makes are too; nothing is computed. For a ViT of width D
    and depth L on N tokens this is L * (24 * N * D**2 + 4 * N**2 * D) and the patch embedding.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        shape = copy.deepcopy(module).to("meta")
        norms_keep_type(shape, on=False)  # they ask for autocast, of which the meta device knows nothing
        call(shape)
    return float(counter.get_total_flops())


def peak(device: torch.device) -> float | None:
    """The device's bf16 peak; None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for part, rate in PEAKS.items() if part in name), None)
