"""Training a head on frozen patch features, and predicting with it.

The loss is binary cross-entropy plus soft Dice over the batch, on images whose truth is known. The best of eight looks
at the validation split is kept, and for each structure the threshold that was best there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.contract import RunFolder
from pipelines.evaluate.batches import shuffled
from pipelines.preprocessing import Preprocessing
from pipelines.segmentation.exam import Exam
from pipelines.segmentation.heads import make_head
from pipelines.segmentation.rasters import Box
from pipelines.segmentation.spec import Segmentation

LOOKS = 8
MOST_LOOKED_AT = 256
"""Validation images of a look; with more, an evenly spaced choice of them."""
THRESHOLDS = np.round(np.arange(0.1, 0.95, 0.1), 1)
RATES, DECAY = {"linear": 1e-2, "upernet": 3e-3}, 0.01
PREDICT = 8


@dataclass
class Fitted:
    """A trained head with the threshold of each structure and its mean Dice [S] on the validation split."""

    head: nn.Module
    thresholds: np.ndarray
    dice: np.ndarray


@dataclass(frozen=True)
class Lesson:
    """What a head learns from. `patches` float16 [n, h, w, E] over the exam's images; `targets` [train, S, T, T]."""

    exam: Exam
    patches: np.ndarray
    how: Preprocessing
    train: np.ndarray
    targets: np.ndarray


def fit(kind: str, lesson: Lesson, settings: Segmentation, seed: int, device: str, run: RunFolder, what: str) -> Fitted:
    """Train a head; the same seed on the same machine gives the same head."""
    head = make_head(kind, lesson.patches.shape[-1], _prior(lesson), seed).to(device)
    optimiser = torch.optim.AdamW(head.parameters(), RATES[kind], weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATES[kind], total_steps=settings.steps, pct_start=0.1)
    look = _looker(lesson, device)
    best, score = look(head), -1.0
    weights = head.state_dict()
    pause = max(settings.steps // LOOKS, 1)
    for step, chosen in enumerate(shuffled(len(lesson.train), settings.batch, settings.steps, seed), 1):
        run.check_stop()
        head.train()
        loss = _loss(head, lesson, chosen, device)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % pause == 0 or step == settings.steps:
            fitted = look(head)
            if fitted.dice.mean() > score:
                best, score = fitted, float(fitted.dice.mean())
                weights = {name: value.clone() for name, value in head.state_dict().items()}
        run.progress(step, settings.steps, what)
    head.load_state_dict(weights)
    return best


def _prior(lesson: Lesson) -> np.ndarray:
    """float [S]: share of the pixels that each structure covers in the train split, where it is known."""
    known = lesson.exam.known[lesson.train]
    shares = np.array([t.mean((-2, -1)) / 255 for t in lesson.targets])
    return (shares * known).sum(0) / np.maximum(known.sum(0), 1)


def _loss(head: nn.Module, lesson: Lesson, chosen: np.ndarray, device: str) -> Tensor:
    images = lesson.train[chosen]
    target = torch.from_numpy(lesson.targets[chosen].astype(np.float32) / 255).to(device)
    known = torch.from_numpy(lesson.exam.known[images]).to(device)[..., None, None].float()
    logits = head(_patches(lesson.patches, images, device))
    logits = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * known).sum() / (known.sum() * target.shape[-1] * target.shape[-2]).clamp(min=1)
    found = logits.sigmoid() * known
    both, either = (found * target).sum((0, 2, 3)), (found + target * known).sum((0, 2, 3))
    present = (target * known).sum((0, 2, 3)) > 0
    overlap = (2 * both / either.clamp(min=1e-6))[present]
    return entropy + (1 - overlap).mean() if present.any() else entropy


def _patches(patches: np.ndarray, images: np.ndarray, device: str) -> Tensor:
    """float32 [B, E, h, w]."""
    return torch.from_numpy(np.ascontiguousarray(patches[images])).to(device).float().permute(0, 3, 1, 2).contiguous()


def _looker(lesson: Lesson, device: str) -> Callable[[nn.Module], Fitted]:
    """A function that measures Dice on the validation split at every threshold; truth is drawn once."""
    exam = lesson.exam
    images = exam.of("validation")
    if len(images) > MOST_LOOKED_AT:
        images = images[np.linspace(0, len(images) - 1, MOST_LOOKED_AT).astype(np.int64)]
    count = len(exam.structures)
    masks = np.stack([np.stack([exam.truth(i, s).mask for s in range(count)]) for i in images.tolist()])
    counts = exam.known[images] & masks.any((2, 3))

    def look(head: nn.Module) -> Fitted:
        dice = np.zeros((len(THRESHOLDS), len(images), count))
        for begin, odds in predict(head, lesson, images, device):
            truth = torch.from_numpy(masks[begin : begin + len(odds)])
            size = truth.sum((2, 3))
            for t, threshold in enumerate(THRESHOLDS):
                found = odds >= float(threshold)
                dice[t, begin : begin + len(odds)] = (
                    2 * (found & truth).sum((2, 3)) / (found.sum((2, 3)) + size).clamp(min=1)
                ).numpy()
        mean = np.array([dice[:, counts[:, s], s].mean(1) for s in range(count)])
        best = mean.argmax(1)
        return Fitted(head, THRESHOLDS[best], mean[np.arange(count), best])

    return look


def predict(head: nn.Module, lesson: Lesson, images: np.ndarray, device: str) -> Iterator[tuple[int, Tensor]]:
    """(position of the first, float32 [B, S, side, side] probabilities in the judged squares) of batches of images."""
    exam = lesson.exam
    head.eval()
    for begin in range(0, len(images), PREDICT):
        batch = images[begin : begin + PREDICT]
        with torch.no_grad():
            logits = head(_patches(lesson.patches, batch, device))
            seen = [exam.seen(i, lesson.how) for i in batch.tolist()]
            square = look_through(logits, seen, [exam.box(i) for i in batch.tolist()], exam.side)
        yield begin, square.sigmoid().cpu()


def look_through(logits_BSHW: Tensor, seen: list[Box], judged: list[Box], side: int) -> Tensor:
    """Maps over what the encoder saw, resampled (bilinear) to [B, S, side, side] over the judged boxes."""
    corners = []
    for s, j in zip(seen, judged, strict=True):
        wide, high = s.right - s.left, s.bottom - s.top
        scale = ((j.right - j.left) / wide, (j.bottom - j.top) / high)
        middle = ((j.left + j.right - s.left - s.right) / wide, (j.top + j.bottom - s.top - s.bottom) / high)
        corners.append([[scale[0], 0.0, middle[0]], [0.0, scale[1], middle[1]]])
    theta = torch.tensor(corners, dtype=logits_BSHW.dtype, device=logits_BSHW.device)
    grid = F.affine_grid(theta, [len(seen), 1, side, side], align_corners=False)
    return F.grid_sample(logits_BSHW, grid, mode="bilinear", padding_mode="border", align_corners=False)
