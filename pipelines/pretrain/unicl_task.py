"""MedImageInsight's objective: UniCL over the reports and labels of a batch (arXiv 2204.03610)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.contract import BadInput
from pipelines.encoders import prepare
from pipelines.encoders.export import write_mi2
from pipelines.encoders.mi2 import Mi2
from pipelines.encoders.tokens import Tokenizer, label_prompt, normalise_text
from pipelines.preprocessing import MI2
from pipelines.pretrain.flops import forward_flops
from pipelines.pretrain.images import Drawn, Images, unicl_kinds
from pipelines.pretrain.ranks import all_mean, gather
from pipelines.pretrain.recipe import Unicl
from pipelines.pretrain.sampler import DROPOUT, Batch, torch_seed
from pipelines.pretrain.speed import Speed
from pipelines.pretrain.task import Look, autocast, grey
from pipelines.pretrain.unicl_loss import Targets, make_targets, unicl_loss


@dataclass(frozen=True)
class Inputs:
    """A step's images and tokenised texts of this rank in micro-batches, and the targets of the global batch."""

    drawn: list[Drawn]
    tokens: list[tuple[Tensor, Tensor]]
    positive_BT: Tensor
    counted_BT: Tensor


class UniclTask:
    """Images against reports and label names; the contrast is always that of the whole global batch."""

    def __init__(
        self,
        name: str,
        towers: Mi2,
        tokenizer: Tokenizer,
        images: Images,
        settings: Unicl,
        supervision: str,
        ranks: tuple[int, int],
        micro: int,
        precision: str,
        speed: Speed,
    ) -> None:
        self.name, self.images, self.settings, self.tokenizer = name, images, settings, tokenizer
        self.rank, self.world = ranks
        self.micro, self.precision = micro, precision
        self.towers = towers.to(images.device).train()
        self.kinds = unicl_kinds(settings)
        self.towers.checkpoint_blocks(speed.checkpoint)
        speed.compile_blocks(self.towers.lang_encoder.resblocks, *(s.blocks for s in self.towers.image_encoder.stages))
        cohort = images.cohort
        labels = cohort.label_names() if supervision != "reports" else []
        if supervision == "labels" and not labels:
            raise BadInput("The cohort has no labels to learn from; choose supervision 'reports' or add labels.")
        self.with_reports = supervision != "labels"
        self.prompts = [label_prompt(label) for label in labels]
        self.labels = cohort.label_matrix(labels)

    def targets(self, batch: Batch) -> Targets:
        """Texts and targets of the global batch; the same on every rank, without communication."""
        cohort = self.images.cohort
        texts = [cohort.text(int(row)) if self.with_reports else None for row in batch.rows_B]
        reports = [normalise_text(text) if text else None for text in texts]
        return make_targets(reports, self.labels[batch.rows_B], self.prompts)

    def flops(self) -> float:
        """Floating-point operations of a step for one sample with a full-length report; texts of labels are few."""
        side, context = self.settings.side, self.towers.dims.context
        image = forward_flops(self.towers.image_encoder, lambda tower: tower(torch.zeros(1, 3, side, side)))
        if not self.with_reports:
            return 3 * image
        ids = torch.zeros(1, context, dtype=torch.int64, device="meta")
        return 3 * (image + forward_flops(self.towers.lang_encoder, lambda tower: tower(ids, ids.bool())))

    def outputs(self) -> float:
        """See Task. A DaViT stage halves the grid and has two blocks, over windows and over channels, a layer."""
        dims, numbers = self.towers.dims, 0
        for stage, (depth, dim) in enumerate(zip(dims.depths, dims.dims, strict=True)):
            grid = math.ceil(self.settings.side / (4 << stage))
            numbers += grid**2 * dim * 2 * depth
        if self.with_reports:
            numbers += dims.context * dims.text_dim * dims.text_layers
        return float(numbers)

    def prepare(self, batch: Batch) -> Inputs:
        """See Task. Every rank takes equally many texts; the last ranks repeat the last text, which `_loss` drops."""
        targets = self.targets(batch)
        images = np.arange(batch.first, batch.last)
        share, last = math.ceil(len(targets.texts) / self.world), len(targets.texts) - 1
        texts = [targets.texts[min(i, last)] for i in range(self.rank * share, (self.rank + 1) * share)]
        step = len(texts) if self.micro >= len(images) else self.micro
        return Inputs(
            [
                self.images.draw(batch, images[i : i + self.micro], self.kinds, min_max=False)
                for i in range(0, len(images), self.micro)
            ],
            [self.tokenizer(texts[i : i + step]) for i in range(0, len(texts), step)],
            torch.from_numpy(targets.positive_BT),
            torch.from_numpy(targets.counted_BT),
        )

    def step(self, batch: Batch, inputs: Inputs) -> dict[str, Tensor]:
        """See Task. Several micro-batches go by cached gradients (arXiv 2101.06983): features of all first, without
        a graph, then the loss, then each micro-batch again with the gradient of its features."""
        pieces: list[Any] = [prepare.normalise_imagenet(self.images.render(drawn)[0]) for drawn in inputs.drawn]
        count, pieces = len(pieces), pieces + inputs.tokens
        cached = len(pieces) > 2
        features = []
        for number, piece in enumerate(pieces):
            with torch.set_grad_enabled(not cached):
                features.append(self._embed(batch, piece, number))
        leaves = [f.detach().requires_grad_() for f in features] if cached else features
        loss = self._loss(leaves[:count], leaves[count:], inputs)
        loss.backward()
        if cached:
            for number, (piece, leaf) in enumerate(zip(pieces, leaves, strict=True)):
                self._embed(batch, piece, number).backward(leaf.grad)
        scale = self.towers.logit_scale.detach().exp()
        texts = torch.tensor(float(inputs.positive_BT.shape[1]))
        return {"loss": all_mean(loss.detach()), "logit_scale": scale, "texts": texts}

    def _embed(self, batch: Batch, piece: Tensor | tuple[Tensor, Tensor], number: int) -> Tensor:
        """Unit vectors of images or tokenised texts; the same, dropped paths included, each time they are asked for."""
        torch.manual_seed(torch_seed(self.images.seed, DROPOUT, batch.number, number, self.rank))
        with autocast(self.images.device, self.precision):
            return self.towers.embed_text(*piece) if isinstance(piece, tuple) else self.towers.embed_image(piece)

    def _loss(self, images: list[Tensor], texts: list[Tensor], inputs: Inputs) -> Tensor:
        images_BP, texts_TP = gather(torch.cat(images).float()), gather(torch.cat(texts).float())
        logits_BT = self.towers.logit_scale.exp() * images_BP @ texts_TP[: inputs.positive_BT.shape[1]].T
        return unicl_loss(logits_BT, inputs.positive_BT, inputs.counted_BT)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Cap the logit scale."""
        self.towers.logit_scale.clamp_(max=math.log(self.settings.largest_scale))

    def trainable(self) -> dict[str, nn.Module]:
        """See Task."""
        return {"backbone": self.towers}

    def moves(self, part: str, step: int) -> bool:
        """Everything moves all the time."""
        return True

    @torch.no_grad()
    def look(self, images: Sequence[np.ndarray]) -> Look:
        """See Task."""
        x_BCHW = prepare.prepare(images, MI2.at(self.settings.side)).to(self.images.device)
        self.towers.eval()
        with autocast(x_BCHW.device, self.precision):
            pooled_BD, patches_BHWD = self.towers.image_features(x_BCHW)
        self.towers.train()
        return Look(grey(x_BCHW), pooled_BD.float(), patches_BHWD.float())

    def state_dict(self) -> dict[str, Any]:
        """See Task."""
        return {"towers": self.towers.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Task."""
        self.towers.load_state_dict(state["towers"])

    def write(self, folder: Path) -> None:
        """Both towers and the tokenizer."""
        write_mi2(folder, self.towers, self.tokenizer)
