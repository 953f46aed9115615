"""MedImageInsight's objective: UniCL over the reports and labels of a batch (arXiv 2204.03610)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.contract import BadInput
from pipelines.encoders.export import write_mi2
from pipelines.encoders.mi2 import Mi2
from pipelines.encoders.tokens import Tokenizer, label_prompt, normalise_text
from pipelines.pretrain.images import Images
from pipelines.pretrain.ranks import all_mean, gather
from pipelines.pretrain.recipe import Unicl
from pipelines.pretrain.sampler import DROPOUT, Batch, torch_seed
from pipelines.pretrain.task import autocast
from pipelines.pretrain.unicl_loss import Targets, make_targets, unicl_loss


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
    ) -> None:
        self.name, self.images, self.settings, self.tokenizer = name, images, settings, tokenizer
        self.rank, self.world = ranks
        self.micro, self.precision = micro, precision
        self.towers = towers.to(images.device).train()
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

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """See Task. Several micro-batches go by cached gradients (arXiv 2101.06983): features of all first, without
        a graph, then the loss, then each micro-batch again with the gradient of its features."""
        targets = self.targets(batch)
        chunks = self._chunks(batch, targets)
        cached = len(chunks) > 2
        features = []
        for number in range(len(chunks)):
            with torch.set_grad_enabled(not cached):
                features.append(self._embed(batch, chunks, number))
        leaves = [f.detach().requires_grad_() for f in features] if cached else features
        loss = self._loss(
            [f for f, (kind, _) in zip(leaves, chunks, strict=True) if kind == "image"],
            [f for f, (kind, _) in zip(leaves, chunks, strict=True) if kind == "text"],
            targets,
        )
        loss.backward()
        if cached:
            for number, leaf in enumerate(leaves):
                self._embed(batch, chunks, number).backward(leaf.grad)
        scale = self.towers.logit_scale.detach().exp()
        return {"loss": all_mean(loss.detach()), "logit_scale": scale, "texts": torch.tensor(float(len(targets.texts)))}

    def _chunks(self, batch: Batch, targets: Targets) -> list[tuple[str, Any]]:
        """Work of this rank: places of images, and its part of the texts, in pieces of the micro-batch.

        Every rank takes equally many texts; the last ranks repeat the last text, which `_loss` drops.
        """
        images = np.arange(batch.first, batch.last)
        share = math.ceil(len(targets.texts) / self.world)
        texts = [
            targets.texts[min(i, len(targets.texts) - 1)] for i in range(self.rank * share, (self.rank + 1) * share)
        ]
        whole = self.micro >= len(images)
        step = len(texts) if whole else self.micro
        out: list[tuple[str, Any]] = [("image", images[i : i + self.micro]) for i in range(0, len(images), self.micro)]
        return out + [("text", texts[i : i + step]) for i in range(0, len(texts), step)]

    def _embed(self, batch: Batch, chunks: list[tuple[str, Any]], number: int) -> Tensor:
        """Unit vectors of one piece; the same ones, dropped paths included, each time it is asked for."""
        torch.manual_seed(torch_seed(self.images.seed, DROPOUT, batch.step, number, self.rank))
        kind, piece = chunks[number]
        device = self.images.device
        with autocast(device, self.precision):
            if kind == "image":
                return self.towers.embed_image(self.images.single(batch, piece, self.settings))
            ids, mask = self.tokenizer(piece)
            return self.towers.embed_text(ids.to(device), mask.to(device))

    def _loss(self, images: list[Tensor], texts: list[Tensor], targets: Targets) -> Tensor:
        images_BP, texts_TP = gather(torch.cat(images).float()), gather(torch.cat(texts).float())
        logits_BT = self.towers.logit_scale.exp() * images_BP @ texts_TP[: len(targets.texts)].T
        device = logits_BT.device
        positive, counted = torch.from_numpy(targets.positive_BT), torch.from_numpy(targets.counted_BT)
        return unicl_loss(logits_BT, positive.to(device), counted.to(device))

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

    def state_dict(self) -> dict[str, Any]:
        """See Task."""
        return {"towers": self.towers.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Task."""
        self.towers.load_state_dict(state["towers"])

    def write(self, folder: Path) -> None:
        """Both towers and the tokenizer."""
        write_mi2(folder, self.towers, self.tokenizer)
