"""Reading a finished run folder of `similarity`: any patch of its images, without a model. numpy and Pillow only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.contract import BadInput
from pipelines.similarity import maps, picture
from pipelines.similarity.maps import ModelMaps, Point, Seen

SCALE = "scale.png"


def vectors_file(image: int, model: int, depth: int) -> str:
    """Where the vectors of an image lie, by the places of model and depth in the result."""
    return f"vectors/{image}-{model}-{depth}.npy"


def place_of(result: dict[str, Any], image: int) -> int:
    """The place of an image in the result, by its number in the cohort; BadInput when it is not there."""
    numbers = [one["image"] for one in result["images"]]
    if image not in numbers:
        raise BadInput(f"These maps hold the images {', '.join(map(str, numbers))}; choose one of these.")
    return numbers.index(image)


def at_point(root: Path, result: dict[str, Any], image: int, point: Point) -> list[ModelMaps]:
    """The maps of every model for a point of an image."""
    place = place_of(result, image)
    return [_of_model(root, model, m, image, place, point) for m, model in enumerate(result["models"])]


def _of_model(root: Path, model: dict[str, Any], number: int, image: int, place: int, point: Point) -> ModelMaps:
    depths = [
        (depth["block"], depth["blocks"], np.load(root / vectors_file(image, number, d), mmap_mode="r"))
        for d, depth in enumerate(model["depths"])
    ]
    return maps.at_point(model["name"], depths, Seen(*model["seen"][place]), point)


def palette(root: Path) -> list[int]:
    """The colours that the pictures of the folder are in."""
    return picture.read_palette((root / SCALE).read_bytes())
