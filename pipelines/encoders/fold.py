"""Linear layers that take in the factors beside them: those of the norm before, and the LayerScale behind.

The function is the same. But a factor that multiplies a weight matrix costs a pass over the weights, where one that
multiplies tokens costs several over all tokens, forward and backward: at 518 px a batch has a hundred times as many
tokens as the matrix has rows.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.encoders.stream import normalised


def norm_linear(x_BND: Tensor, norm: nn.LayerNorm, linear: nn.Linear) -> Tensor:
    """linear(norm(x))."""
    weight = linear.weight * norm.weight
    return F.linear(normalised(x_BND, norm.eps), weight, linear.bias + (linear.weight * norm.bias).sum(1))


def linear_scale(x_BND: Tensor, linear: nn.Linear, gamma_D: Tensor) -> Tensor:
    """gamma * linear(x)."""
    return F.linear(x_BND, gamma_D[:, None] * linear.weight, gamma_D * linear.bias)
