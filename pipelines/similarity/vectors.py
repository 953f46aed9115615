"""From an encoder and an image to the patch vectors at four depths."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from pipelines.preprocessing import Preprocessing
from pipelines.segmentation import rasters
from pipelines.similarity.maps import Seen, unit_vectors


class DeepEncoder(Protocol):
    """What is asked of an encoder (pipelines.encoders.Encoder)."""

    how: Preprocessing

    def prepare(self, images: list[np.ndarray]) -> Any:
        """uint8 grey images [H, W] to a batch."""

    def maps(self, x: Any) -> list[Any]:
        """Patch features [B, h, w, D] after each block."""


def read_depths(encoder: DeepEncoder, image: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """(block, blocks, unit vectors float16 [h, w, D]) of four evenly spaced blocks, the last included."""
    from pipelines.encoders.depths import spread

    maps = encoder.maps(encoder.prepare([image]))
    return [(at + 1, len(maps), unit_vectors(maps[at][0].float().cpu().numpy())) for at in spread(len(maps))]


def seen_part(image: np.ndarray, how: Preprocessing) -> Seen:
    """What an encoder with this preprocessing sees of a stored image [H, W]."""
    height, width = image.shape
    box = rasters.seen(height, width, how)
    return Seen(box.left / width, box.top / height, box.right / width, box.bottom / height)
