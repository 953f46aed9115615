"""The attentive probe: queries that look at the patch tokens of a frozen encoder, and a linear layer on what they see.

A cross-attention pooling with learnt queries, as AIM (arXiv 2401.08541) and V-JEPA (arXiv 2404.08471) evaluate frozen
encoders. Here every label has queries of its own, so that labels are judged apart, as the linear probe judges them. A
query meets the tokens without projections: with queries that are learnt, those of keys and values change nothing but
the rank of the head.

    log-odds = b + sum over queries h and patches n of softmax_n(q_h . x_n / sqrt(E)) (w_h . x_n)

The recipe is fixed: AdamW in every combination of RATES and DECAYS, warm-up and cosine. The combination and the length
are chosen label by label, by log loss at LOOKS looks at the validation split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.contract import RunFolder
from pipelines.evaluate import probe
from pipelines.evaluate.batches import shuffled
from pipelines.evaluate.methods import Answer, Lesson
from pipelines.evaluate.pool import Stacked
from pipelines.evaluate.spec import Attentive
from pipelines.evaluate.tasks import Question

QUERIES = 4
RATES, DECAYS = (1e-3, 1e-2), (1e-2, 1.0)
DEFAULT = 1  # candidate where validation has too few patients: the slow rate and the strong decay
LOOKS = 10
JUDGED = 1000  # validation images at the most: they are read at every look
WARM = 0.1  # share of the steps
BLOCK = 64  # images read at once outside training


@dataclass(frozen=True)
class Material:
    """Patch tokens of the images at `places` of a lesson, rising: float16 [images, h, w, E], mapped from disk."""

    patches: np.ndarray | Stacked
    places: np.ndarray

    def tokens(self, at: np.ndarray, device: str) -> Tensor:
        """float32 [B, N, E] of places of the lesson."""
        rows = np.searchsorted(self.places, at)
        read = np.stack([self.patches[row] for row in rows.tolist()])
        return torch.from_numpy(read).to(device).float().flatten(1, 2)


def whole_patients(patient: np.ndarray, at: np.ndarray, most: int) -> np.ndarray:
    """The first of the images `at`, `most` of them at the most, of whole patients in the cohort's order."""
    if len(at) <= most:
        return at
    torn = patient[at[most]]
    kept = at[:most]
    whole = kept[patient[kept] != torn]
    return whole if len(whole) else kept


class Heads(nn.Module):
    """Queries and weights of every candidate, label and query [C, L, H, E]; candidates are apart for the optimiser."""

    def __init__(self, candidates: int, labels: int, dim: int, prior: np.ndarray, seed: int) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        start = torch.randn(labels, QUERIES, dim, generator=drawn)
        self.query = nn.ParameterList([start.clone() for _ in range(candidates)])
        self.weight = nn.ParameterList([torch.zeros(labels, QUERIES, dim) for _ in range(candidates)])
        self.bias = nn.ParameterList([torch.from_numpy(prior).float() for _ in range(candidates)])

    def forward(self, tokens_BNE: Tensor) -> Tensor:
        """Log-odds [B, C, L]."""
        query, weight, bias = (torch.stack(list(part)) for part in (self.query, self.weight, self.bias))
        return attend(tokens_BNE, query, weight, bias)


def attend(tokens_BNE: Tensor, query_CLHE: Tensor, weight_CLHE: Tensor, bias_CL: Tensor) -> Tensor:
    """Log-odds [B, C, L]: the evidence w . x of each patch, weighed by where the queries look."""
    seen = torch.einsum("bne,clhe->bclhn", tokens_BNE, query_CLHE) * tokens_BNE.shape[-1] ** -0.5
    evidence = torch.einsum("bne,clhe->bclhn", tokens_BNE, weight_CLHE)
    odds: Tensor = (seen.softmax(-1) * evidence).sum((-2, -1)) + bias_CL
    return odds


def answers(
    lesson: Lesson, found: Material, settings: Attentive, device: str, run: RunFolder, what: str
) -> Iterator[Answer]:
    """Log-odds of the lesson's split, for every seed and question; the same seed on the same machine gives the same."""
    images = lesson.images
    available = {split: np.intersect1d(images.of(split), found.places) for split in ("train", "validation")}
    asked = images.of(lesson.split)
    for number, seed in enumerate(lesson.seeds):
        train = available["train"][probe.subsample(images.patient[available["train"]], seed)]
        fit = Fit(lesson, found, train, available["validation"], seed, device)
        kept = fit.run(settings, run, f"{what}, seed {seed} ({number + 1} of {len(lesson.seeds)})")
        odds = fit.predict(kept, asked)
        for i, question in enumerate(lesson.questions):
            known = np.isfinite(question.target[asked])
            learnt = question.target[train]
            both = (learnt == 1).any() and (learnt == 0).any()
            yield Answer(question, seed, asked[known], odds[known, i] if both else np.zeros(int(known.sum())))


@dataclass(frozen=True)
class Kept:
    """The best of each label: query and weight [L, H, E], bias [L]."""

    query: Tensor
    weight: Tensor
    bias: Tensor


class Fit:
    """One training, of all labels and candidates at once, so that patch tokens are read once."""

    def __init__(
        self, lesson: Lesson, found: Material, train: np.ndarray, validation: np.ndarray, seed: int, device: str
    ) -> None:
        self.found, self.device, self.seed = found, device, seed
        target = np.stack([q.target for q in lesson.questions], 1)
        self.target = torch.from_numpy(target).to(device)
        self.train = train[np.isfinite(target[train]).any(1)]
        self.validation = validation
        self.mean, self.deviation = self._moments()
        self.judged = np.array([_enough(q, lesson, validation) for q in lesson.questions])
        learnt = target[self.train]
        positives = (learnt == 1).sum(0)
        prior = (positives + 0.5) / (np.isfinite(learnt).sum(0) + 1)
        self.candidates = [(rate, decay) for rate in RATES for decay in DECAYS]
        dim = found.patches.shape[-1]
        self.heads = Heads(len(self.candidates), target.shape[1], dim, np.log(prior / (1 - prior)), seed).to(device)

    def run(self, settings: Attentive, run: RunFolder, what: str) -> Kept:
        """Train, and keep of each label what validation liked best, or the default candidate's end."""
        groups = []
        for i, (rate, decay) in enumerate(self.candidates):
            own = {"params": [self.heads.query[i], self.heads.weight[i]], "weight_decay": decay, "lr": rate}
            groups += [own, {"params": [self.heads.bias[i]], "weight_decay": 0.0, "lr": rate}]
        optimiser = torch.optim.AdamW(groups)
        steps = settings.steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _share(step, steps))
        best = torch.full((self.target.shape[1],), float("inf"), device=self.device)
        kept = self._take(torch.full_like(best, DEFAULT, dtype=torch.int64))
        pause = max(steps // LOOKS, 1)
        for step, batch in enumerate(shuffled(len(self.train), settings.batch, steps, self.seed), 1):
            run.check_stop()
            chosen = self.train[batch]
            loss = masked_loss(self.heads(self._tokens(chosen)), self.target[chosen]).sum()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            if (step % pause == 0 or step == steps) and self.judged.any():
                kept, best = self._look(kept, best)
            run.progress(step, steps, what)
        return self._merge(kept, self._take(torch.full_like(best, DEFAULT, dtype=torch.int64)), self.judged)

    @torch.no_grad()
    def predict(self, kept: Kept, at: np.ndarray) -> np.ndarray:
        """Log-odds [len(at), L] by what was kept."""
        parts = [
            attend(self._tokens(block), kept.query[None], kept.weight[None], kept.bias[None])[:, 0].cpu().numpy()
            for block in _blocks(at)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.target.shape[1]), np.float32)

    @torch.no_grad()
    def _look(self, kept: Kept, best: Tensor) -> tuple[Kept, Tensor]:
        odds = torch.cat([self.heads(self._tokens(block)) for block in _blocks(self.validation)])
        loss_CL = masked_loss(odds, self.target[self.validation])
        least, candidate = loss_CL.min(0)
        better = least < best
        return self._merge(self._take(candidate), kept, better.cpu().numpy()), torch.minimum(least, best)

    @torch.no_grad()
    def _take(self, candidate: Tensor) -> Kept:
        """Of each label the parameters of one candidate [L]."""
        labels = torch.arange(len(candidate), device=self.device)
        parts = (
            torch.stack(list(p))[candidate, labels] for p in (self.heads.query, self.heads.weight, self.heads.bias)
        )
        return Kept(*(part.clone() for part in parts))

    def _merge(self, first: Kept, second: Kept, where: np.ndarray) -> Kept:
        """`first` for the labels that `where` [L] names, else `second`."""
        chosen = torch.from_numpy(where).to(self.device)
        wide = chosen[:, None, None]
        return Kept(
            torch.where(wide, first.query, second.query),
            torch.where(wide, first.weight, second.weight),
            torch.where(chosen, first.bias, second.bias),
        )

    def _tokens(self, at: np.ndarray) -> Tensor:
        return (self.found.tokens(at, self.device) - self.mean) / self.deviation

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation [E] of the tokens of the train images; constant channels become zero."""
        dim, count = self.found.patches.shape[-1], 0
        total, squares = torch.zeros(2, dim, dtype=torch.float64, device=self.device)
        for block in _blocks(self.train):
            tokens = self.found.tokens(block, self.device).double()
            count += tokens.shape[0] * tokens.shape[1]
            total, squares = total + tokens.sum((0, 1)), squares + tokens.square().sum((0, 1))
        mean = total / count
        deviation = (squares / count - mean**2).clamp(min=0).sqrt()
        deviation = torch.where(deviation < 1e-6, torch.inf, deviation)
        return mean.float(), deviation.float()


def masked_loss(odds_BCL: Tensor, target_BL: Tensor) -> Tensor:
    """Mean log loss [C, L] over the images whose label is known (not nan)."""
    known_BL = torch.isfinite(target_BL)
    target = torch.where(known_BL, target_BL, 0.0)[:, None].expand_as(odds_BCL)
    loss = F.binary_cross_entropy_with_logits(odds_BCL, target, reduction="none")
    return (loss * known_BL[:, None]).sum(0) / known_BL.sum(0).clamp(min=1)


def _enough(question: Question, lesson: Lesson, validation: np.ndarray) -> bool:
    """Whether validation has the patients of either class that a choice can rest on."""
    patient, target = lesson.images.patient[validation], question.target[validation]
    return all(len(set(patient[target == value])) >= lesson.minimum for value in (0, 1))


def _share(step: int, steps: int) -> float:
    """Of the full rate: a linear warm-up, then half a cosine."""
    warm = max(1, round(WARM * steps))
    if step < warm:
        return (step + 1) / warm
    return float(0.5 * (1 + np.cos(np.pi * (step - warm) / max(steps - warm, 1))))


def _blocks(at: np.ndarray) -> Iterator[np.ndarray]:
    return (at[begin : begin + BLOCK] for begin in range(0, len(at), BLOCK))
