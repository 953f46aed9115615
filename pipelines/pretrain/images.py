"""Samples of a cohort as augmented views: each depends on the seed and its place in the stream alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.cohort import Cohort
from pipelines.encoders import prepare
from pipelines.pretrain import augment
from pipelines.pretrain.recipe import Dino, Unicl
from pipelines.pretrain.sampler import VIEWS, Batch, generator


@dataclass(frozen=True)
class Images:
    """Reads the images of a cohort for one seed and puts views on one device."""

    cohort: Cohort
    seed: int
    device: torch.device

    def multi_crop(self, batch: Batch, places: Sequence[int], settings: Dino) -> tuple[Tensor, Tensor]:
        """Global views [2 * B, 3, G, G] and local views [L * B, 3, l, l] of samples, view by view, for RAD-DINO."""
        big, small = settings.global_side, settings.local_side
        kinds = [(big, settings.global_scale, b) for b in settings.photometry.blur[:2]]
        kinds += [(small, settings.local_scale, settings.photometry.blur[2])] * settings.locals
        views: list[list[Tensor]] = [[] for _ in kinds]
        tones: list[list[augment.Tone]] = [[] for _ in kinds]
        for place in places:
            rng = generator(self.seed, VIEWS, batch.positions_B[place])
            image = torch.from_numpy(prepare.scale_min_max(self._pixels(batch, place)))
            for v, (side, scale, blur) in enumerate(kinds):
                views[v].append(augment.crop(image, augment.draw_box(rng, *image.shape, scale, False), side))
                tones[v].append(augment.draw_tone(rng, settings.photometry, blur, side))
        globals_, locals_ = self._tone(views[:2], tones[:2]), self._tone(views[2:], tones[2:])
        return prepare.normalise_rad_dino(globals_), prepare.normalise_rad_dino(locals_)

    def single(self, batch: Batch, places: Sequence[int], settings: Unicl) -> Tensor:
        """One view [B, 3, S, S] of each sample, stretched to a square, for MI2."""
        views, tones = [], []
        for place in places:
            rng = generator(self.seed, VIEWS, batch.positions_B[place])
            image = torch.from_numpy(self._pixels(batch, place))
            box = augment.draw_box(rng, *image.shape, settings.scale, True)
            views.append(augment.crop(image, box, settings.side))
            tones.append(augment.draw_tone(rng, settings.photometry, settings.photometry.blur[0], settings.side))
        return prepare.normalise_imagenet(self._tone([views], [tones]))

    def _pixels(self, batch: Batch, place: int) -> np.ndarray:
        return np.array(self.cohort.image(int(batch.rows_B[place])))  # the store is read-only

    def _tone(self, views: list[list[Tensor]], tones: list[list[augment.Tone]]) -> Tensor:
        """uint8 views to the device, as bytes, and there under their tones."""
        stacked = torch.stack([view for group in views for view in group])[:, None].to(self.device, non_blocking=True)
        return augment.apply_tones(stacked, [tone for group in tones for tone in group])
