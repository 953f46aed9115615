"""How far an encoder's input made from the image store departs from its published preparation of the DICOM pixels.

Published: the whole range of the pixels in 8 bits, resized by PIL. The limit measured beside is our own preparation of
the same pixels, which departs from PIL's by rounding alone.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from pipelines.build.decode import Undecodable, render, shrink, unwindowed
from pipelines.encoders.prepare import prepare, scale_min_max
from pipelines.evaluate.deviation import to_8_bits
from pipelines.preprocessing import MI2, RAD_DINO, Preprocessing
from pipelines.weights.baselines import CHEXZERO, XRV
from tests.benchmarks.record import record
from tests.conftest import ROOT

STUDIES = 60
SIDE = 518
RECIPES = {
    "RAD-DINO": RAD_DINO,
    "MI2": MI2,
    "SigLIP of 224": Preprocessing(224, "stretch", interpolation="bilinear"),
    "CLIP of 224": Preprocessing(224),
    "CheXzero": CHEXZERO,
    "torchxrayvision": XRV,
}


def by_pil(image: np.ndarray, how: Preprocessing) -> np.ndarray:
    """float32 [size, size] in 0..255 by PIL."""
    grey = scale_min_max(image) if how.min_max else image
    height, width = grey.shape
    if how.fit == "pad":
        longest = max(height, width)
        square = np.zeros((longest, longest), np.uint8)
        top, left = (longest - height) // 2, (longest - width) // 2
        square[top : top + height, left : left + width] = grey
        grey, height, width = square, longest, longest
    side = how.resize or how.size
    short = min(height, width)
    shape = (side * width // short, side * height // short) if how.fit == "crop" else (side, side)
    mode = Image.Resampling.BICUBIC if how.interpolation == "bicubic" else Image.Resampling.BILINEAR
    resized = np.asarray(Image.fromarray(grey).resize(shape, mode), np.float32)
    top, left = ((n - how.size) // 2 for n in resized.shape)
    return resized[top : top + how.size, left : left + how.size]


def levels(image: np.ndarray, how: Preprocessing) -> np.ndarray:
    """The encoder's input as grey levels, from one channel of it."""
    return prepare([image], how)[0, 0].numpy() * how.std[0] * 255 + how.mean[0] * 255


def main() -> None:
    cv2.setNumThreads(1)
    distances: dict[str, list[tuple[float, float, float]]] = {name: [] for name in RECIPES}
    with tempfile.TemporaryDirectory() as scratch:
        export = Path(scratch) / "export"
        make = [sys.executable, ROOT.parent / "shared" / "make_pacs_export.py", export, "--studies", str(STUDIES)]
        subprocess.run([*make, "--seed", "5"], check=True, capture_output=True)
        for path in sorted((export / "DICOM").rglob("IM*")):
            try:
                ds = dcmread(path)
                source, stored = to_8_bits(unwindowed(ds)), shrink(render(ds)[0], SIDE)[0]
            except (InvalidDicomError, Undecodable, AttributeError, EOFError, OSError):
                continue  # broken on purpose
            for name, how in RECIPES.items():
                published = by_pil(source, how)
                store, rounding = (np.abs(levels(image, how) - published) for image in (stored, source))
                distances[name].append((float(store.mean()), float(store.max()), float(rounding.mean())))
    for name, found in distances.items():
        mean, largest, rounding = np.array(found).T
        record(
            f"{name}: input from the store against its published preparation of {len(found)} radiographs, grey levels "
            "of 255: mean over images, worst image, worst pixel",
            f"{mean.mean():.2f}, {mean.max():.1f}, {largest.max():.0f}",
            f"our preparation of the source itself {rounding.mean():.2f}",
            float(mean.mean() / rounding.mean()),
        )


if __name__ == "__main__":
    main()
