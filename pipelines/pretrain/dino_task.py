"""RAD-DINO's objective: a student sees masked and local views, an EMA teacher whole global ones (arXiv 2304.07193)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.encoders.export import write_rad_dino
from pipelines.encoders.vit import DinoHead, Vit, VitDims
from pipelines.pretrain import dino_losses as losses
from pipelines.pretrain.images import Images
from pipelines.pretrain.masks import block_mask, mask_counts
from pipelines.pretrain.optim import cosine
from pipelines.pretrain.ranks import all_mean
from pipelines.pretrain.recipe import Dino
from pipelines.pretrain.sampler import DROPOUT, MASKS, Batch, generator, torch_seed
from pipelines.pretrain.task import autocast


class DinoTask:
    """DINO on CLS tokens, iBOT on masked patches, KoLeo on the student's CLS tokens of the global views."""

    def __init__(
        self,
        name: str,
        tower: Vit,
        head: DinoHead | None,
        dims: VitDims,
        images: Images,
        settings: Dino,
        steps: int,
        micro: int,
        precision: str,
    ) -> None:
        self.name, self.dims, self.images, self.settings = name, dims, images, settings
        self.steps, self.micro, self.precision = steps, micro, precision
        device = images.device
        self.fresh_head = head is None
        self.backbone, self.head = tower.to(device).train(), (head or DinoHead(dims)).to(device).train()
        self.teacher = nn.ModuleDict({"backbone": copy.deepcopy(self.backbone), "head": copy.deepcopy(self.head)})
        self.teacher.eval().requires_grad_(False)
        self.centres = nn.ModuleDict(
            {k: losses.Centre(dims.prototypes, settings.centre_momentum).to(device) for k in ("cls", "patch")}
        )

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """See Task."""
        share = batch.last - batch.first
        totals: dict[str, Tensor] = {}
        for micro, first in enumerate(range(batch.first, batch.last, self.micro)):
            places = np.arange(first, min(first + self.micro, batch.last))
            torch.manual_seed(torch_seed(self.images.seed, DROPOUT, batch.step, micro, batch.first))
            values = self._forward(batch, places)
            weight = len(places) / share
            (values["loss"] * weight).backward()
            for key, value in values.items():
                totals[key] = totals.get(key, 0.0) + value.detach() * weight
        stacked = all_mean(torch.stack(list(totals.values())))
        return dict(zip(totals, stacked.unbind(), strict=True))

    def _forward(self, batch: Batch, places: np.ndarray) -> dict[str, Tensor]:
        """Loss terms of one micro-batch of B samples."""
        B, settings = len(places), self.settings
        globals_, locals_ = self.images.multi_crop(batch, places, settings)
        masks = self._masks(batch, places).to(globals_.device)
        temperature = self.temperature(batch.step)
        with autocast(globals_.device, self.precision):
            with torch.no_grad():
                t_cls, t_patches = self.teacher["backbone"](globals_)
                t_logits = self.teacher["head"](torch.cat([t_cls, t_patches.flatten(1, 2)[masks]]))
            cls, patches = self.backbone(globals_, masks)
            local_cls, _ = self.backbone(locals_)
            masked = patches.flatten(1, 2)[masks]
            logits = self.head(torch.cat([cls, local_cls, masked]))
        views, M = 2 + settings.locals, len(masked)
        p_cls = self._balance("cls", t_logits[: 2 * B], temperature)
        p_patch = self._balance("patch", t_logits[2 * B :], temperature)
        s_views, s_masked = logits.split([views * B, M])
        weight_M = (1.0 / masks.sum(1).clamp(min=1)).repeat_interleave(masks.sum(1))
        terms = {
            "dino": losses.dino_loss(s_views.view(views, B, -1), p_cls.view(2, B, -1), settings.student_temperature),
            "ibot": losses.ibot_loss(s_masked, p_patch, weight_M, 2 * B, settings.student_temperature),
            "koleo": sum(losses.koleo_loss(view) for view in cls.chunk(2)),
        }
        loss = (
            settings.dino_weight * terms["dino"]
            + settings.ibot_weight * terms["ibot"]
            + settings.koleo_weight * terms["koleo"]
        )
        return {"loss": loss, **terms, "teacher_entropy": losses.entropy(p_cls)}

    def _masks(self, batch: Batch, places: np.ndarray) -> Tensor:
        """bool [2 * B, N], view by view. Counts are dealt over the global batch, so ranks change nothing."""
        side = self.settings.global_side // self.dims.patch
        rng = generator(self.images.seed, MASKS, batch.step)
        counts = mask_counts(
            rng, 2 * len(batch.rows_B), side * side, self.settings.mask_probability, self.settings.mask_ratio
        ).reshape(2, -1)
        masks = [
            block_mask(generator(self.images.seed, MASKS, batch.step, v, p), side, side, int(counts[v, p])).ravel()
            for v in range(2)
            for p in places
        ]
        return torch.from_numpy(np.stack(masks))

    def _balance(self, kind: str, logits: Tensor, temperature: float) -> Tensor:
        if self.settings.centring == "sinkhorn":
            return losses.sinkhorn(logits, temperature)
        return self.centres[kind].probabilities(logits, temperature)

    def temperature(self, step: int) -> float:
        """Of the teacher: linear, then flat."""
        low, high = self.settings.temperature
        return low + (high - low) * min(1.0, step / max(1.0, self.settings.temperature_warmup * self.steps))

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Centres, then the EMA teacher: momentum by cosine to 1, counted in optimiser steps."""
        for centre in self.centres.values():
            centre.update()
        momentum = cosine(self.settings.momentum, 1.0, step, self.steps)
        student = [*self.backbone.parameters(), *self.head.parameters()]
        teacher = [*self.teacher["backbone"].parameters(), *self.teacher["head"].parameters()]
        torch._foreach_lerp_(teacher, student, 1 - momentum)

    def trainable(self) -> dict[str, nn.Module]:
        """See Task."""
        return {"backbone": self.backbone, "head": self.head}

    def moves(self, part: str, step: int) -> bool:
        """A head of random numbers would spoil the backbone: it is trained alone first, and its prototypes last."""
        warmup = int(self.settings.head_warmup * self.steps) if self.fresh_head else 0
        frozen = int(self.settings.freeze_last_layer * self.steps) if self.fresh_head else 0
        return not (part == "backbone" and step < warmup) and not (part == "last_layer" and step < frozen)

    def state_dict(self) -> dict[str, Any]:
        """See Task."""
        return {name: module.state_dict() for name, module in self._modules().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Task."""
        for name, module in self._modules().items():
            module.load_state_dict(state[name])

    def write(self, folder: Path) -> None:
        """The teacher, which is the model of DINOv2."""
        write_rad_dino(folder, self.teacher["backbone"], self.dims, self.teacher["head"])

    def _modules(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone, "head": self.head, "teacher": self.teacher, "centres": self.centres}
