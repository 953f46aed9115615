"""A finished run folder of `similarity` as the stage leaves one, without a model: two images, two models."""

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.similarity import folder, maps, picture

IMAGES = (4, 9)
SEEN = {"crops": [0.2, 0.0, 0.8, 1.0], "whole": [0.0, 0.0, 1.0, 1.0]}
SIDES = ((4, 4), (2, 2))


def write_mapped(root: Path) -> dict[str, Any]:
    """Write the folder and return its result. Every patch has a direction of its own, so only it is alike to itself."""
    for name in ("images", "vectors", "panels"):
        (root / name).mkdir(parents=True)
    (root / folder.SCALE).write_bytes(
        picture.map_png(np.linspace(0, 1, 256)[None], [n for n in range(256) for _ in "rgb"])
    )
    grey = np.tile(np.linspace(0, 255, 100, dtype=np.uint8), (80, 1))
    for image in IMAGES:
        (root / f"images/{image}.png").write_bytes(picture.grey_png(grey))
        for m in range(len(SEEN)):
            for d, (rows, columns) in enumerate(SIDES):
                units = maps.unit_vectors(np.eye(rows * columns).reshape(rows, columns, -1))
                np.save(root / folder.vectors_file(image, m, d), units)
    (root / "panels/4-0.png").write_bytes(picture.grey_png(grey))
    facts = {"width": 100, "height": 80, "split": "test", "view": "AP"}
    tip = {"x": 0.5, "y": 0.25, "words": "tip of ETT", "panel": "panels/4-0.png"}
    return {
        "practice": False,
        "cohort": "c" * 64,
        "images": [
            {"image": image, "file": f"images/{image}.png", "points": [tip] if image == 4 else [], **facts}
            for image in IMAGES
        ],
        "models": [
            {
                "name": name,
                "encoder": "rad-dino",
                "weights": "d" * 64,
                "depths": [{"block": 6, "blocks": 12}, {"block": 12, "blocks": 12}],
                "seen": [seen, seen],
            }
            for name, seen in SEEN.items()
        ],
    }
