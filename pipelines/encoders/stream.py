"""The type in which a tower carries its tokens from block to block."""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def to_stream(x: Tensor) -> Tensor:
    """Tokens in autocast's type; outside of autocast as they are. Half the bytes of every addition and norm."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))


def normalised(x: Tensor, eps: float) -> Tensor:
    """Rows of the last axis at mean 0 and deviation 1, in the type of `x`, where autocast would make them float32; the
    sums inside the kernel are float32 in both."""
    with outside_autocast(x):
        return F.layer_norm(x, x.shape[-1:], eps=eps)


def outside_autocast(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """Operations on the device of `x` in the types of what they are given."""
    # The meta device knows nothing of autocast.
    return contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def norms_keep_type(tower: nn.Module, on: bool = True) -> None:
    """timm's norms answer in autocast's type, where autocast alone would make them answer in float32; the sums inside
    the kernel are float32 in both. Its global switch would change towers built later as well."""
    for module in tower.modules():
        if hasattr(module, "_fast_norm"):
            module._fast_norm = on
