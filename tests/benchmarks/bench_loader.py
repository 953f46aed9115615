"""The loader alone: images a second and core from the store to ten views, beside decode-and-augment of image files.

Peers on the same pictures as JPEG files (quality 95): lightly-train's own loader, and DINOv2's augmentations by PIL and
torchvision. Ours twice: with the views cut on the CPU, and as a GPU is fed, which gets whole grey images and cuts by
itself. One process with one thread each, no step after it; best of three rounds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms import v2

from pipelines.cohort import Cohort
from pipelines.encoders import prepare
from pipelines.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from pipelines.pretrain.images import Images, dino_kinds
from pipelines.pretrain.recipe import RECIPES
from pipelines.pretrain.sampler import Sampler
from tests.benchmarks import peers
from tests.benchmarks.record import record
from tests.cohorts import make_cohort

COUNT, BATCH, ROUNDS = 48, 16, 3
SIDES = ((518, 196), (224, 98))


def best(work: Callable[[], None]) -> float:
    """Images a second of the best round."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return COUNT / min(times)


def ours(cohort: Cohort, sides: tuple[int, int], device: str) -> float:
    """Our loader; on `cuda` only what the CPU does for it."""
    settings = replace(RECIPES["rad-dino"].objective, global_side=sides[0], local_side=sides[1])
    images = Images(cohort, 0, torch.device(device))
    kinds = dino_kinds(settings)
    sampler = Sampler(cohort.rows("train")[:COUNT], BATCH, 0)

    def work() -> None:
        for step in range(COUNT // BATCH):
            drawn = images.draw(sampler.batch(step), range(BATCH), kinds, min_max=True)
            if device == "cpu":
                for views in images.render(drawn):
                    prepare.normalise_rad_dino(views)

    return best(work)


def pil_and_torchvision(files: list[Path], sides: tuple[int, int]) -> float:
    """DINOv2's augmentations as it publishes them: RGB pictures of PIL, one transform a view."""

    def view(side: int, scale: tuple[float, float], blur: float) -> v2.Transform:
        jitter = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8)
        crop = v2.RandomResizedCrop(side, scale, interpolation=v2.InterpolationMode.BICUBIC)
        finish = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
        soft = v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], blur)
        normal = v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)
        return v2.Compose([crop, v2.RandomHorizontalFlip(), jitter, v2.RandomGrayscale(0.2), soft, *finish, normal])

    transforms = [view(sides[0], (0.32, 1.0), 1.0), view(sides[0], (0.32, 1.0), 0.1)]
    transforms += [view(sides[1], (0.05, 0.32), 0.5)] * 8

    def work() -> None:
        for file in files:
            picture = Image.open(file).convert("RGB")
            for transform in transforms:
                transform(picture)

    return best(work)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        cohort = Cohort.open(make_cohort(Path(scratch) / "cohort", patients=COUNT, side=518))
        folder = Path(scratch) / "files"
        folder.mkdir()
        files = [folder / f"{n}.jpg" for n in range(COUNT)]
        for row, file in zip(cohort.rows("train"), files, strict=False):
            Image.fromarray(cohort.image(int(row))).convert("RGB").save(file, quality=95)
        for sides in SIDES:
            settings = {"what": "views", "images": str(folder), "side": sides[0], "local": sides[1]}
            lightly = peers.run("lightly-train", "peer_lightly.py", settings)["images_per_s"]
            plain = pil_and_torchvision(files, sides)
            for what, device in (("all views cut on the CPU", "cpu"), ("as a GPU is fed", "cuda")):
                rate = ours(cohort, sides, device)
                record(
                    f"loader alone, images/s/core, 2 views of {sides[0]} px and 8 of {sides[1]} px, {what}",
                    f"{rate:.1f}",
                    f"lightly-train's loader {lightly:.1f}, PIL and torchvision {plain:.1f}",
                    rate / plain,
                )


if __name__ == "__main__":
    main()
