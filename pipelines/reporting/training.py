"""Training of a writer: AdamW, warm-up and cosine, ended by the validation loss; a stopped one goes on exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.contract import RunFolder, atomic
from pipelines.pretrain.checkpoint import write_state
from pipelines.pretrain.optim import cosine
from pipelines.pretrain.sampler import DROPOUT, Sampler, torch_seed
from pipelines.reporting.spec import Reporting
from pipelines.reporting.studies import Study, prompt
from pipelines.reporting.writer import Writer

WARMUP, CLIP, DECAY = 0.03, 1.0, 0.05
BETWEEN = (10, 200)  # steps from one validation to the next: an epoch, within these bounds
VALIDATED = 256  # studies, so that a large validation split does not cost more than training


class Patches:
    """Patch tokens of images by place, averaged to at most grid x grid; read from the store batch by batch."""

    def __init__(self, stored: np.ndarray, places: Sequence[int], grid: int, device: torch.device) -> None:
        """`stored` float16 [images, h, w, E] holds the images at `places`, in that order."""
        self.stored, self.grid, self.device = stored, grid, device
        self.at = {place: i for i, place in enumerate(places)}
        self.dim = stored.shape[-1]

    def __call__(self, found: Sequence[Study]) -> Tensor:
        """float32 [B, N, E]."""
        rows = np.stack([self.stored[self.at[s.place]] for s in found])
        x_BEHW = torch.from_numpy(rows).to(self.device).float().permute(0, 3, 1, 2)
        if self.grid:
            size = [min(self.grid, n) for n in x_BEHW.shape[2:]]
            x_BEHW = torch.nn.functional.adaptive_avg_pool2d(x_BEHW, size)
        return x_BEHW.flatten(2).transpose(1, 2)


@dataclass
class Course:
    """How far training is; all that a stopped one needs besides the weights and the optimiser."""

    step: int = 0
    best: float = float("inf")
    best_step: int = 0
    stale: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    """(step, validation loss per token)."""
    ended: bool = False


class Training:
    """One writer on the train studies under one seed."""

    def __init__(
        self,
        writer: Writer,
        patches: Patches,
        train: list[Study],
        validation: list[Study],
        settings: Reporting,
        seed: int,
    ) -> None:
        self.writer, self.patches, self.settings, self.seed = writer, patches, settings, seed
        self.train, self.validation = train, validation[:VALIDATED]
        self.tokens = {s.row: self._target(s) for s in [*self.train, *self.validation]}
        self.sampler = Sampler(np.arange(len(train)), min(settings.batch, len(train)), seed)
        self.every = int(np.clip(len(train) // self.sampler.size, *BETWEEN))
        self.optimiser = torch.optim.AdamW(writer.learning().values(), betas=(0.9, 0.95), weight_decay=DECAY)
        self.course = Course()
        self.kept: dict[str, Tensor] = {}

    def run(self, rate: float, folder: RunFolder, checkpoint: Path, what: str) -> Course:
        """Train to the end and leave the writer with the weights of the lowest validation loss."""
        self._resume(checkpoint)
        course, steps = self.course, self.settings.steps
        while not course.ended:
            if folder.stopping:
                self._save(checkpoint)
            folder.check_stop()
            self._step(self.settings.rate or rate)
            folder.progress(course.step, steps, what)
            if course.step % self.every == 0 or course.step == steps:
                self._validate()
                folder.metric(course.step, validation_loss=course.losses[-1][1])
                course.ended = course.step >= steps or course.stale >= self.settings.patience
                self._save(checkpoint)
        folder.progress(course.step, course.step, what)
        self._put(self.kept)
        self.writer.eval()
        return course

    def _target(self, study: Study) -> list[int]:
        """Tokens of the findings and the end; one that is too long is cut without an end, which would be none."""
        tokens = [*self.writer.pieces.encode(study.findings), self.writer.pieces.end]
        return tokens[: self.settings.tokens]

    def _loss(self, found: list[Study]) -> tuple[Tensor, int]:
        with torch.autocast("cuda", torch.bfloat16, enabled=self.writer.device.type == "cuda"):
            prompts = [prompt(s, self.settings) for s in found]
            return self.writer.loss(self.patches(found), prompts, [self.tokens[s.row] for s in found])

    def _step(self, peak: float) -> None:
        step, steps = self.course.step, self.settings.steps
        warmup = max(1, int(WARMUP * steps))
        rate = peak * (step + 1) / warmup if step < warmup else cosine(peak, peak / 100, step - warmup, steps - warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.writer.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(self.seed, DROPOUT, step))
            total, count = self._loss([self.train[i] for i in self.sampler.batch(step).rows_B])
            (total / count).backward()
        torch.nn.utils.clip_grad_norm_(self.writer.learning().values(), CLIP)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.course.step += 1

    @torch.no_grad()
    def _validate(self) -> None:
        self.writer.eval()
        total, count = 0.0, 0
        for begin in range(0, len(self.validation), self.sampler.size):
            loss, tokens = self._loss(self.validation[begin : begin + self.sampler.size])
            total, count = total + float(loss), count + tokens
        course, loss_per_token = self.course, total / count
        course.losses.append((course.step, loss_per_token))
        course.stale += 1
        if loss_per_token < course.best:
            course.best, course.best_step, course.stale = loss_per_token, course.step, 0
            self.kept = {name: p.detach().clone() for name, p in self.writer.learning().items()}

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, p in self.writer.learning().items():
            p.copy_(weights[name])

    def _digest(self) -> str:
        """What the data and settings are; a checkpoint of others is not gone on from."""
        said = [self.settings.model_dump_json(), self.seed, [s.row for s in self.train], sorted(self.writer.learning())]
        return hashlib.sha256(repr(said).encode()).hexdigest()

    def _save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        weights = {name: p.detach() for name, p in self.writer.learning().items()}
        state = {"digest": self._digest(), "course": vars(self.course), "weights": weights, "kept": self.kept}
        with atomic(path) as temporary, temporary.open("wb") as file:
            write_state(state | {"optimiser": self.optimiser.state_dict()}, file)

    def _resume(self, path: Path) -> None:
        if not path.exists():
            return
        state: dict[str, Any] = torch.load(path, map_location=self.writer.device, weights_only=True)
        if state["digest"] != self._digest():
            return
        self._put(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.course, self.kept = Course(**state["course"]), state["kept"]
