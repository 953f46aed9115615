"""Each encoder's published scaling: stored grey images to the tensors it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# microsoft/rad-dino preprocessor_config.json; ImageNet statistics in MedImageInsight's config.yaml.
RAD_DINO_MEAN, RAD_DINO_STD = 0.5307, 0.2583
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def scale_min_max(image_HW: np.ndarray) -> np.ndarray:
    """uint8 stretched to 0..255 by its own minimum and maximum, as RAD-DINO's training images were; flat stays 0."""
    low, high = int(image_HW.min()), int(image_HW.max())
    if (low, high) == (0, 255):
        return image_HW
    scaled = (image_HW.astype(np.float32) - low) * (255.0 / max(high - low, 1))
    return scaled.round().astype(np.uint8)


def resize(image_HW: np.ndarray, height: int, width: int) -> Tensor:
    """Bicubic with antialias to float32 [1, height, width] in 0..255."""
    x = torch.from_numpy(image_HW.astype(np.float32))[None, None]
    if image_HW.shape != (height, width):
        x = F.interpolate(x, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return x[0].clamp(0, 255)


def prepare_rad_dino(images: Sequence[np.ndarray], side: int) -> Tensor:
    """Shorter side to `side`, centre crop, min-max, normalised by RAD-DINO's statistics: float32 [B, 3, side, side]."""
    return normalise_rad_dino(torch.stack([_crop_shorter_side(scale_min_max(i), side) for i in images]) / 255)


def prepare_dino(images: Sequence[np.ndarray], side: int) -> Tensor:
    """DINOv2 and DINOv3: shorter side to `side`, centre crop, ImageNet's statistics: float32 [B, 3, side, side]."""
    return normalise_imagenet(torch.stack([_crop_shorter_side(i, side) for i in images]) / 255)


def prepare_mi2(images: Sequence[np.ndarray], side: int) -> Tensor:
    """Stretched to `side` x `side`, normalised by ImageNet's statistics: float32 [B, 3, side, side]."""
    return normalise_imagenet(torch.stack([resize(i, side, side) for i in images]) / 255)


def normalise_rad_dino(x_B1HW: Tensor) -> Tensor:
    """Grey in 0..1 to three equal channels (a view)."""
    return ((x_B1HW - RAD_DINO_MEAN) / RAD_DINO_STD).expand(-1, 3, -1, -1)


def normalise_imagenet(x_B1HW: Tensor) -> Tensor:
    """Grey in 0..1 to three channels, each with its own statistics."""
    mean = torch.tensor(IMAGENET_MEAN, device=x_B1HW.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=x_B1HW.device).view(1, 3, 1, 1)
    return (x_B1HW - mean) / std


def _crop_shorter_side(image_HW: np.ndarray, side: int) -> Tensor:
    height, width = image_HW.shape
    scale = side / min(height, width)
    x = resize(image_HW, max(side, round(height * scale)), max(side, round(width * scale)))
    top, left = (x.shape[1] - side) // 2, (x.shape[2] - side) // 2
    return x[:, top : top + side, left : left + side]
