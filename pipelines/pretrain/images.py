"""Samples of a cohort as augmented views: each depends on the seed and its place in the stream alone.

`draw` reads and decides, on the CPU and ahead of time; `render` makes the views, on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.cohort import Cohort
from pipelines.encoders import prepare
from pipelines.pretrain import augment
from pipelines.pretrain.recipe import Dino, Photometry, Unicl
from pipelines.pretrain.sampler import VIEWS, Batch, generator


@dataclass(frozen=True)
class Kind:
    """How views of one kind are cut."""

    count: int
    side: int
    scale: tuple[float, float]
    photometry: Photometry
    blur: tuple[float, ...]
    """Probability for each of the `count` views."""
    stretched: bool


@dataclass(frozen=True)
class Cut:
    """Views of one kind of B samples, view by view, V * B in all."""

    side: int
    boxes_VB4: Tensor
    """int32: top, left, height, width."""
    tones: augment.Tones
    views_NHW: Tensor | None
    """uint8; None when they are to be cut on the device."""


@dataclass(frozen=True)
class Drawn:
    """Views as drawn, to be rendered."""

    images_BHW: Tensor | None
    """uint8 images, padded to one size; None when the views are cut already."""
    cuts: list[Cut]


def dino_kinds(settings: Dino) -> list[Kind]:
    """Two global views and the local ones."""
    photometry, blur = settings.photometry, settings.photometry.blur
    return [
        Kind(2, settings.global_side, settings.global_scale, photometry, blur[:2], False),
        Kind(settings.locals, settings.local_side, settings.local_scale, photometry, blur[2:] * settings.locals, False),
    ]


def unicl_kinds(settings: Unicl) -> list[Kind]:
    """One view, stretched to a square."""
    photometry = settings.photometry
    return [Kind(1, settings.side, settings.scale, photometry, photometry.blur[:1], True)]


@dataclass(frozen=True)
class Images:
    """Reads the images of a cohort for one seed and puts views on one device."""

    cohort: Cohort
    seed: int
    device: torch.device

    def draw(self, batch: Batch, places: Sequence[int], kinds: Sequence[Kind], min_max: bool) -> Drawn:
        """Read the samples at `places` of a batch and draw their views. `min_max` stretches grey values first.

        A GPU gets whole images and cuts views by itself; on a CPU they are cut here, one by one.
        """
        images, boxes, tones = [], [[] for _ in kinds], [[] for _ in kinds]
        for place in places:
            rng = generator(self.seed, VIEWS, batch.positions_B[place])
            pixels = np.array(self.cohort.image(int(batch.rows_B[place])))  # the store is read-only
            images.append(torch.from_numpy(prepare.scale_min_max(pixels) if min_max else pixels))
            for k, kind in enumerate(kinds):
                draws = [_draw(rng, images[-1].shape, kind, blur) for blur in kind.blur]
                boxes[k].append([box for box, _ in draws])
                tones[k].append([tone for _, tone in draws])
        whole = self.device.type == "cuda"
        cuts = []
        for kind, boxes_, tones_ in zip(kinds, boxes, tones, strict=True):
            views = (
                None
                if whole
                else torch.stack(
                    [
                        augment.crop(image, b[v], kind.side)
                        for v in range(kind.count)
                        for image, b in zip(images, boxes_, strict=True)
                    ]
                )
            )
            boxes_VB4 = torch.tensor(boxes_, dtype=torch.int32).transpose(0, 1).contiguous()
            packed = augment.Tones.of([t[v] for v in range(kind.count) for t in tones_])
            cuts.append(Cut(kind.side, boxes_VB4, packed, views))
        return Drawn(_pad(images) if whole else None, cuts)

    def render(self, drawn: Drawn) -> list[Tensor]:
        """Views of each kind, grey in 0..1, float32 [V * B, 1, side, side], view by view; `drawn` is on the device."""
        views = []
        for cut in drawn.cuts:
            cut_NHW = cut.views_NHW
            if cut_NHW is None:
                cut_NHW = augment.crop_together(drawn.images_BHW, cut.boxes_VB4, cut.side)
            views.append(augment.apply_tones(cut_NHW[:, None], cut.tones))
        return views


def _draw(
    rng: np.random.Generator, shape: Sequence[int], kind: Kind, blur: float
) -> tuple[tuple[int, int, int, int], augment.Tone]:
    box = augment.draw_box(rng, shape[0], shape[1], kind.scale, kind.stretched)
    return box, augment.draw_tone(rng, kind.photometry, blur, kind.side)


def _pad(images: Sequence[Tensor]) -> Tensor:
    """uint8 [B, H, W] with zeros below and to the right."""
    padded = torch.zeros(len(images), *(max(i.shape[d] for i in images) for d in (0, 1)), dtype=torch.uint8)
    for place, image in zip(padded, images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    return padded
