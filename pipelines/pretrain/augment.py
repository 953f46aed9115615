"""Views of stored grey images: random resized crops and grey-value changes fit for radiographs.

No flips (side matters), no solarisation, no colour. Every random number comes from a generator of the sample's own,
so a view does not depend on batch, rank or micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.pretrain.recipe import Photometry

ASPECT = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Tone:
    """Grey-value change of one view: ((x * brightness) contrasted about its mean) ** gamma, then blurred."""

    brightness: float = 1.0
    contrast: float = 1.0
    gamma: float = 1.0
    sigma: float = 0.0
    """Pixels of the view; 0 is no blur."""


def draw_box(
    rng: np.random.Generator, height: int, width: int, scale: tuple[float, float], stretched: bool
) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random resized crop: a share `scale` of the area, aspect 3:4 to 4:3.

    The aspect is that of pixels or, where the encoder stretches images to a square, that of the stretched image.
    """
    # Sides of the frame that the aspect is measured in; its area is 1, so a share of the area is an area.
    tall, wide = (1.0, 1.0) if stretched else (math.sqrt(height / width), math.sqrt(width / height))
    for _ in range(10):
        area = rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        h, w = math.sqrt(area / aspect) / tall, math.sqrt(area * aspect) / wide
        if h <= 1 and w <= 1:
            break
    else:
        h = w = math.sqrt(scale[1])
    rows, columns = max(1, round(h * height)), max(1, round(w * width))
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    return top, left, rows, columns


def crop(image_HW: Tensor, box: tuple[int, int, int, int], side: int) -> Tensor:
    """uint8 [side, side] of a box of a uint8 image: bilinear with antialias."""
    top, left, height, width = box
    part = image_HW[top : top + height, left : left + width].to(torch.float32)[None, None]
    view = F.interpolate(part, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return view[0, 0].round_().clamp_(0, 255).to(torch.uint8)


def crop_together(images_BHW: Tensor, boxes_VB4: Tensor, side: int) -> Tensor:
    """`crop` of V boxes of each of B images in a few large operations, for a GPU: uint8 [V * B, side, side].

    A resize is a matrix product from either side, so boxes of any size go together; images may be padded.
    """
    V = len(boxes_VB4)
    B, H, W = images_BHW.shape
    top, left, height, width = boxes_VB4.to(torch.float32).flatten(0, 1).unbind(-1)
    rows_NsH, columns_NsW = _resize_matrix(top, height, side, H), _resize_matrix(left, width, side, W)
    images_NHW = images_BHW.to(torch.float32).expand(V, B, H, W).reshape(V * B, H, W)
    return (rows_NsH @ images_NHW @ columns_NsW.mT).round_().clamp_(0, 255).to(torch.uint8)


def _resize_matrix(first_N: Tensor, length_N: Tensor, side: int, size: int) -> Tensor:
    """[N, side, size]: weights by which `side` pixels are made of those from `first` on, as `F.interpolate` has them:
    a triangle as wide as the pixels are far apart, never narrower than one pixel, and cut off at the box."""
    scale_N1 = (length_N / side)[:, None]
    centre_Ns = (torch.arange(side, device=first_N.device) + 0.5) * scale_N1
    place_NS = torch.arange(size, device=first_N.device) + 0.5 - first_N[:, None]
    weights = 1 - (place_NS[:, None] - centre_Ns[..., None]).abs() / scale_N1.clamp(min=1)[..., None]
    inside_NS = (place_NS > 0) & (place_NS < length_N[:, None])
    weights = weights.clamp_(min=0) * inside_NS[:, None]
    return weights / weights.sum(-1, keepdim=True)


def draw_tone(rng: np.random.Generator, photometry: Photometry, blur: float, side: int) -> Tone:
    """A random grey-value change for a view of `side` pixels; `blur` is the probability of blurring."""
    jittered, blurred = rng.random() < photometry.jitter, rng.random() < blur
    brightness = rng.uniform(1 - photometry.brightness, 1 + photometry.brightness)
    contrast = rng.uniform(1 - photometry.contrast, 1 + photometry.contrast)
    gamma = math.exp(rng.uniform(-1, 1) * math.log1p(photometry.gamma))
    sigma = rng.uniform(*photometry.sigma) * side / 224
    tone = Tone(brightness, contrast, gamma) if jittered else Tone()
    return Tone(tone.brightness, tone.contrast, tone.gamma, sigma if blurred else 0.0)


@dataclass(frozen=True)
class Tones:
    """The tones of N views as tensors, so that they can go to the device ahead of time."""

    values_N4: Tensor
    """float32: brightness, contrast, gamma, sigma."""
    blurred: Tensor
    """int64: views whose sigma is not 0."""
    radius: int
    """Of the widest blur, in pixels."""

    @classmethod
    def of(cls, tones: Sequence[Tone]) -> Tones:
        values = torch.tensor([(t.brightness, t.contrast, t.gamma, t.sigma) for t in tones], dtype=torch.float32)
        radius = max(1, math.ceil(3 * max(t.sigma for t in tones)))
        return cls(values, values[:, 3].nonzero()[:, 0], radius)


def apply_tones(views_N1HW: Tensor, tones: Tones) -> Tensor:
    """Grey values in 0..1, float32 [N, 1, H, W], of uint8 views, each under its own tone; on the views' device."""
    brightness, contrast, gamma, sigma = tones.values_N4[:, :, None, None, None].unbind(1)
    x = (views_N1HW.to(torch.float32) / 255 * brightness).clamp(0, 1)
    mean = x.mean((2, 3), keepdim=True)
    x = ((x - mean) * contrast + mean).clamp(0, 1).pow(gamma)
    if len(tones.blurred):
        x.index_copy_(0, tones.blurred, _blur(x[tones.blurred], sigma[tones.blurred], tones.radius))
    return x


def _blur(x_N1HW: Tensor, sigma_N111: Tensor, radius: int) -> Tensor:
    """Gaussian blur with a sigma per image: one depthwise convolution down, one across, edges repeated."""
    N, _, H, W = x_N1HW.shape
    radius = min(radius, min(H, W) - 1)
    offsets = torch.arange(-radius, radius + 1, device=x_N1HW.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma_N111.view(N, 1)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    x = F.pad(x_N1HW.view(1, N, H, W), (radius,) * 4, mode="replicate")
    x = F.conv2d(x, kernel.view(N, 1, -1, 1), groups=N)
    return F.conv2d(x, kernel.view(N, 1, 1, -1), groups=N).view(N, 1, H, W)
