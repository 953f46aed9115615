"""Heads on frozen patch features: one linear layer, or UPerNet (Xiao et al., arXiv 1807.10221).

A plain ViT gives one map; the four that UPerNet wants are made from it as in the simple feature pyramid of ViTDet (Li
et al., arXiv 2203.16527). Features are normalised by the batch first, as in the linear evaluation of DINOv2.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn

GROW = {"linear": 1, "upernet": 4}
"""Pixels of a head's output to a side of a patch."""


class LinearHead(nn.Module):
    """A 1 x 1 convolution: [B, E, h, w] to logits [B, S, h, w]."""

    def __init__(self, width: int, structures: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.classify = nn.Conv2d(width, structures, 1)

    def forward(self, patches_BEHW: Tensor) -> Tensor:
        return self.classify(self.norm(patches_BEHW))


class UPerNetHead(nn.Module):
    """Simple pyramid, UPerNet decoder, a 3 x 3 convolution: [B, E, h, w] to logits [B, S, 4h, 4w]."""

    def __init__(self, width: int, structures: int) -> None:
        super().__init__()
        channels = min(256, max(width // 3, 8))
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.narrow = nn.Conv2d(width, channels, 1)
        self.twice = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.four = nn.Sequential(nn.BatchNorm2d(channels), nn.GELU(), nn.ConvTranspose2d(channels, channels, 2, 2))
        self.decoder = UPerNetDecoder([0, 0, *[channels] * 4], encoder_depth=5, decoder_channels=channels)
        self.classify = nn.Conv2d(channels, structures, 3, padding=1)

    def forward(self, patches_BEHW: Tensor) -> Tensor:
        one = self.narrow(self.norm(patches_BEHW))
        two = self.twice(one)
        half = F.max_pool2d(one, 2, ceil_mode=True)
        return self.classify(self.decoder([one, one, self.four(two), two, one, half]))


def make_head(kind: str, width: int, prior: np.ndarray, seed: int) -> nn.Module:
    """A head whose weights depend on the seed alone. It begins by expecting each structure as often as it occurs: a
    line of few pixels would else be learnt only after hundreds of steps that teach the rest to be empty."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = {"linear": LinearHead, "upernet": UPerNetHead}[kind](width, len(prior))
        nn.init.normal_(head.classify.weight, std=1e-2)
    head.classify.bias.data.copy_(torch.logit(torch.as_tensor(prior, dtype=torch.float32), 1e-4))
    return head
