"""Each encoder's published scaling: stored grey images to the tensors it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.preprocessing import IMAGENET_MEAN, IMAGENET_STD, RAD_DINO, Preprocessing, Triple


def prepare(images: Sequence[np.ndarray], how: Preprocessing) -> Tensor:
    """uint8 grey images [H, W] of any shapes to float32 [B, channels, size, size]."""
    grey_B1HW = torch.stack([_fit(scale_min_max(i) if how.min_max else i, how) for i in images]) / 255
    return normalise(grey_B1HW, how.mean, how.std, how.channels)


def scale_min_max(image_HW: np.ndarray) -> np.ndarray:
    """uint8 stretched to 0..255 by its own minimum and maximum, as RAD-DINO's training images were; flat stays 0."""
    low, high = int(image_HW.min()), int(image_HW.max())
    if (low, high) == (0, 255):
        return image_HW
    scaled = (image_HW.astype(np.float32) - low) * (255.0 / max(high - low, 1))
    return scaled.round().astype(np.uint8)


def resize(x_1HW: Tensor, height: int, width: int, mode: str = "bicubic") -> Tensor:
    """With antialias to float32 [1, height, width] in 0..255."""
    if x_1HW.shape[1:] == (height, width):
        return x_1HW
    x = F.interpolate(x_1HW[None], size=(height, width), mode=mode, antialias=True, align_corners=False)
    return x[0].clamp(0, 255)


def normalise_rad_dino(x_B1HW: Tensor) -> Tensor:
    """Grey in 0..1 to three equal channels (a view)."""
    return normalise(x_B1HW, RAD_DINO.mean, RAD_DINO.std)


def normalise_imagenet(x_B1HW: Tensor) -> Tensor:
    """Grey in 0..1 to three channels, each with its own statistics."""
    return normalise(x_B1HW, IMAGENET_MEAN, IMAGENET_STD)


def normalise(x_B1HW: Tensor, mean: Triple, std: Triple, channels: int = 3) -> Tensor:
    """Grey in 0..1 to `channels`; equal ones are a view of one."""
    if channels == 1 or (len(set(mean)) == 1 and len(set(std)) == 1):
        return ((x_B1HW - mean[0]) / std[0]).expand(-1, channels, -1, -1)
    centre, spread = (torch.tensor(values, device=x_B1HW.device).view(1, 3, 1, 1) for values in (mean, std))
    return (x_B1HW - centre) / spread


def _fit(image_HW: np.ndarray, how: Preprocessing) -> Tensor:
    """float32 [1, size, size] in 0..255."""
    x = torch.from_numpy(image_HW.astype(np.float32))[None]
    height, width = image_HW.shape
    side = how.resize or how.size
    if how.fit == "crop":
        short = min(height, width)  # the longer side is cut to whole pixels, as torchvision and transformers do
        x = resize(x, side * height // short, side * width // short, how.interpolation)
    else:
        if how.fit == "pad":
            longest = max(height, width)
            left, top = (longest - width) // 2, (longest - height) // 2
            x = F.pad(x, (left, longest - width - left, top, longest - height - top))
        x = resize(x, side, side, how.interpolation)
    top, left = (x.shape[1] - how.size) // 2, (x.shape[2] - how.size) // 2
    return x[:, top : top + how.size, left : left + how.size]
