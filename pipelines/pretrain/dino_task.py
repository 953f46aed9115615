"""RAD-DINO's objective: a student sees masked and local views, an EMA teacher whole global ones (arXiv 2304.07193)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.encoders import prepare
from pipelines.encoders.export import write_rad_dino
from pipelines.encoders.vit import DinoHead, Vit, VitDims
from pipelines.preprocessing import RAD_DINO
from pipelines.pretrain import dino_losses as losses
from pipelines.pretrain.flops import forward_flops
from pipelines.pretrain.images import Drawn, Images, dino_kinds
from pipelines.pretrain.masks import block_mask, mask_counts
from pipelines.pretrain.optim import cosine
from pipelines.pretrain.prototypes import Assignments, prototype_loss, value_and_gradient
from pipelines.pretrain.ranks import all_mean
from pipelines.pretrain.recipe import Dino
from pipelines.pretrain.sampler import DROPOUT, MASKS, Batch, generator, torch_seed
from pipelines.pretrain.speed import Speed
from pipelines.pretrain.task import Look, autocast, grey


@dataclass(frozen=True)
class Micro:
    """What goes through the models at once: B samples of a rank."""

    drawn: Drawn
    masks_BN: Tensor
    """bool [2 * B, N] of the global views, view by view."""
    masked_M: Tensor
    """int64: where `masks_BN`, flattened, is true. Counted here, so that the GPU need not be asked and waited for."""
    weight_M: Tensor
    """float32: 1 / (masked patches of the own view)."""

    @property
    def samples(self) -> int:
        return len(self.masks_BN) // 2


@dataclass(frozen=True)
class Teacher:
    """What the student of one micro-batch is to match."""

    cls: Assignments
    patch: Assignments


class DinoTask:
    """DINO on CLS tokens, iBOT on masked patches, KoLeo on the student's CLS tokens of the global views.

    How a rank's share is cut into micro-batches changes no statistics: prototypes are balanced over all of them, and
    KoLeo looks for neighbours among all samples of all ranks.
    """

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
        speed: Speed,
    ) -> None:
        self.name, self.dims, self.images, self.settings = name, dims, images, settings
        self.steps, self.micro, self.precision, self.speed = steps, micro, precision, speed
        device = images.device
        self.fresh_head = head is None
        self.backbone, self.head = tower.to(device).train(), (head or DinoHead(dims)).to(device).train()
        self.teacher = nn.ModuleDict({"backbone": copy.deepcopy(self.backbone), "head": copy.deepcopy(self.head)})
        self.teacher.eval().requires_grad_(False)
        self.centres = nn.ModuleDict(
            {k: losses.Centre(dims.prototypes, settings.centre_momentum).to(device) for k in ("cls", "patch")}
        )
        self.kinds = dino_kinds(settings)
        self.backbone.checkpoint_blocks = speed.checkpoint
        speed.compile_blocks(self.backbone.blocks, self.teacher["backbone"].blocks)
        self.piece = speed.compiled(value_and_gradient)

    def flops(self) -> float:
        """Floating-point operations of a step for one sample: student forward and backward, teacher forward."""
        settings = self.settings

        def tower(side: int, images: int, tokens: int) -> float:
            at = torch.zeros(tokens, dtype=torch.int64, device="meta")
            views = torch.zeros(images, 3, side, side, device="meta")
            return forward_flops(self.backbone, lambda vit: vit.tokens([views], [None], [at]))

        def image(side: int, tokens: float) -> float:
            """What one image more costs, with so many of its tokens: positions are resampled once for all images."""
            none, token = tower(side, 1, 0), tower(side, 1, 1)
            return tower(side, 2, 0) - none + tokens * (token - none)

        patches = (settings.global_side // self.dims.patch) ** 2
        masked = settings.mask_probability * sum(settings.mask_ratio) / 2 * patches
        big, small = image(settings.global_side, 1 + masked), image(settings.local_side, 1)
        row = forward_flops(self.head, lambda head: head(torch.zeros(1, self.dims.dim)))
        student = 2 * big + settings.locals * small + (2 + settings.locals + 2 * masked) * row
        return 3 * student + 2 * big + (2 + 2 * masked) * row

    def outputs(self) -> float:
        """See Task. Views of the student; the teacher keeps nothing."""
        settings = self.settings
        tokens = sum(
            count * ((side // self.dims.patch) ** 2 + 1)
            for count, side in ((2, settings.global_side), (settings.locals, settings.local_side))
        )
        return float(tokens * self.dims.depth * self.dims.dim)

    def prepare(self, batch: Batch) -> list[Micro]:
        """See Task."""
        counts = mask_counts(
            generator(self.images.seed, MASKS, batch.number),
            2 * len(batch.rows_B),
            (self.settings.global_side // self.dims.patch) ** 2,
            self.settings.mask_probability,
            self.settings.mask_ratio,
        ).reshape(2, -1)  # dealt over the global batch, so ranks change nothing
        micros = []
        for first in range(batch.first, batch.last, self.micro):
            places = np.arange(first, min(first + self.micro, batch.last))
            masks_BN = self._masks(batch, places, counts)
            masked_B = masks_BN.sum(1)
            micros.append(
                Micro(
                    self.images.draw(batch, places, self.kinds, min_max=True),
                    masks_BN,
                    masks_BN.flatten().nonzero()[:, 0],
                    (1.0 / masked_B.clamp(min=1)).repeat_interleave(masked_B),
                )
            )
        return micros

    def _masks(self, batch: Batch, places: np.ndarray, counts: np.ndarray) -> Tensor:
        """bool [2 * B, N], view by view."""
        side = self.settings.global_side // self.dims.patch
        masks = [
            block_mask(generator(self.images.seed, MASKS, batch.number, v, p), side, side, int(counts[v, p])).ravel()
            for v in range(2)
            for p in places
        ]
        return torch.from_numpy(np.stack(masks))

    def step(self, batch: Batch, inputs: list[Micro]) -> dict[str, Tensor]:
        """See Task. The teacher sees all micro-batches first. With several, so does the student, without a graph, for
        the gradient of KoLeo by its CLS tokens, which each micro-batch then carries on (arXiv 2101.06983)."""
        share = batch.last - batch.first
        views = [[prepare.normalise_rad_dino(v) for v in self.images.render(micro.drawn)] for micro in inputs]
        teachers = self._teach(inputs, views, self.temperature(batch.step))
        koleo, pulls = None, [None] * len(inputs)
        if len(inputs) > 1:
            koleo, pulls = self._pull_apart(batch, inputs, views)
        totals: dict[str, Tensor] = {}
        for number, micro in enumerate(inputs):
            self._seed_dropout(batch, number)
            values = self._forward(micro, views[number], teachers[number], pulls[number], share)
            values["loss"].backward()
            for key, value in values.items():
                totals[key] = totals.get(key, 0.0) + value.detach()
        if koleo is not None:
            totals["loss"] += self.settings.koleo_weight * (koleo - totals["koleo"])
            totals["koleo"] = koleo
        stacked = all_mean(torch.stack(list(totals.values())))
        return dict(zip(totals, stacked.unbind(), strict=True))

    def _seed_dropout(self, batch: Batch, number: int) -> None:
        torch.manual_seed(torch_seed(self.images.seed, DROPOUT, batch.number, number, batch.first))

    @torch.no_grad()
    def _teach(self, inputs: Sequence[Micro], views: list[list[Tensor]], temperature: float) -> list[Teacher]:
        """The teacher's assignments for each micro-batch, balanced over all."""
        cls, patches = [], []
        for micro, (globals_, _) in zip(inputs, views, strict=True):
            with autocast(globals_.device, self.precision):
                (tokens_MD,) = self.teacher["backbone"].tokens([globals_], [None], [self._places(micro)])
                features = self.teacher["head"].bottleneck(tokens_MD).to(self._products)
            cls.append(features[: 2 * micro.samples])
            patches.append(features[2 * micro.samples :])
        prototypes_KD = self.teacher["head"].last_layer.weight().to(self._products)
        shifts = [
            self._balance(kind, torch.cat(features), prototypes_KD, temperature)
            for kind, features in (("cls", cls), ("patch", patches))
        ]
        return [
            Teacher(
                Assignments(c.view(2, len(c) // 2, -1), prototypes_KD, shifts[0], temperature),
                Assignments(p[None], prototypes_KD, shifts[1], temperature),
            )
            for c, p in zip(cls, patches, strict=True)
        ]

    @property
    def _products(self) -> torch.dtype:
        """Type of the products with the prototypes."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def _balance(self, kind: str, features_ND: Tensor, prototypes_KD: Tensor, temperature: float) -> Tensor:
        if self.settings.centring == "sinkhorn":
            return losses.sinkhorn_shift(features_ND, prototypes_KD, temperature)
        return self.centres[kind].shift(features_ND, prototypes_KD, temperature)

    def _pull_apart(
        self, batch: Batch, inputs: Sequence[Micro], views: list[list[Tensor]]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """KoLeo of the share, and its gradient by the CLS tokens of each micro-batch."""
        cls = []
        for number, (micro, (globals_, _)) in enumerate(zip(inputs, views, strict=True)):
            self._seed_dropout(batch, number)
            with torch.no_grad(), autocast(globals_.device, self.precision):
                (cls_BD,) = self.backbone.tokens([globals_], [micro.masks_BN], [self._places(micro, masked=False)])
            cls.append(cls_BD.float().view(2, micro.samples, -1))
        leaf_VBD = torch.cat(cls, 1).requires_grad_()
        koleo = sum(losses.koleo_loss(view) for view in leaf_VBD)
        (gradient_VBD,) = torch.autograd.grad(koleo, leaf_VBD)
        return koleo.detach(), list(gradient_VBD.split([micro.samples for micro in inputs], 1))

    def _forward(
        self, micro: Micro, views: list[Tensor], teacher: Teacher, pull_VBD: Tensor | None, share: int
    ) -> dict[str, Tensor]:
        """Loss terms of a micro-batch, as its part of those of the rank's `share` samples."""
        settings, B = self.settings, micro.samples
        V = 2 + settings.locals
        with autocast(views[0].device, self.precision):
            tokens_MD, local_BD = self._student(micro, views)
            cls_BD, masked_MD = tokens_MD.split([2 * B, len(micro.masked_M)])
            features = self.head.bottleneck(torch.cat([cls_BD, local_BD, masked_MD]))
        prototypes_KD = self.head.last_layer.weight()
        pairs_VT = losses.match_views(V, 2, features.device)
        weight_B = features.new_full((B,), 1.0 / ((2 * V - 2) * share))
        one = features.new_ones(1, 1)
        temperature, piece = settings.student_temperature, self.piece
        cls_VBD = features[: V * B].view(V, B, -1)
        patch_1MD = features[V * B :][None]
        terms = {
            "dino": prototype_loss(cls_VBD, prototypes_KD, teacher.cls, pairs_VT, weight_B, temperature, piece=piece),
            "ibot": prototype_loss(
                patch_1MD, prototypes_KD, teacher.patch, one, micro.weight_M / (2 * share), temperature, piece=piece
            ),
        }
        cls_VBD = cls_BD.float().view(2, B, -1)
        if pull_VBD is None:
            terms["koleo"] = sum(losses.koleo_loss(view) for view in cls_VBD)
        else:
            terms["koleo"] = (cls_VBD * pull_VBD).sum()  # of its gradient only; `step` reports the value
        loss = (
            settings.dino_weight * terms["dino"]
            + settings.ibot_weight * terms["ibot"]
            + settings.koleo_weight * terms["koleo"]
        )
        entropy = losses.entropy(teacher.cls.probabilities(0, B)) * (B / share)
        return {"loss": loss, **terms, "teacher_entropy": entropy}

    def _student(self, micro: Micro, views: list[Tensor]) -> list[Tensor]:
        """CLS and masked tokens of the global views, CLS tokens of the local ones."""
        patches = (self.settings.local_side // self.dims.patch) ** 2
        local_B = self.backbone.places(len(views[1]), patches, micro.masked_M[:0])
        masks, places = [micro.masks_BN, None], [self._places(micro), local_B]
        if self.speed.packed:
            return self.backbone.tokens(views, masks, places)
        return [self.backbone.tokens([v], [m], [at])[0] for v, m, at in zip(views, masks, places, strict=True)]

    def _places(self, micro: Micro, masked: bool = True) -> Tensor:
        """Of the CLS tokens of the global views, and of their masked patches."""
        count, patches = micro.masks_BN.shape
        return self.backbone.places(count, patches, micro.masked_M if masked else micro.masked_M[:0])

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

    @torch.no_grad()
    def look(self, images: Sequence[np.ndarray]) -> Look:
        """See Task. Through the teacher."""
        x_BCHW = prepare.prepare(images, RAD_DINO.at(self.settings.global_side)).to(self.images.device)
        with autocast(x_BCHW.device, self.precision):
            cls_BD, patches_BHWD = self.teacher["backbone"](x_BCHW)
        return Look(grey(x_BCHW), cls_BD.float(), patches_BHWD.float())

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
