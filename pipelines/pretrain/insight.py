"""What the encoder sees while it is trained: looks at fixed images of the validation split, by no gradient.

rankme       effective rank of the pooled features (arXiv 2210.02885); a fall tells of collapse
knn_auroc    mean AUROC of view and labels, each image by its nearest neighbours of other patients
a picture    patch features of a few images, their first three principal components as colours
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.io import encode_png

from pipelines.cohort import Cohort
from pipelines.contract import RunFolder, write_atomic
from pipelines.pretrain.task import Look, Task

IMAGES = 256
AT_ONCE = 8
SHOWN = 6
SIDE = 168
"""Of an image in the picture, in pixels."""
NEIGHBOURS = 10
FEWEST = 5
"""Patients of either class that a target needs."""
TARGETS = 8
PICTURES = "pictures"


class Insight:
    """The first images of the validation split, always the same; rank 0 looks, the others wait at the next step."""

    def __init__(self, task: Task, cohort: Cohort, run: RunFolder) -> None:
        self.task, self.cohort, self.run = task, cohort, run
        self.show: Callable[[int, Tensor], None] = lambda step, picture: None
        """Takes the picture too, uint8 [3, H, W]."""
        self.rows = cohort.rows("validation")[:IMAGES]
        index = cohort.index.select(["patient", "view"]).take(self.rows)
        self.of_patient = np.array(index["patient"].to_pylist(), dtype=object)
        self.targets = self._targets(np.array(index["view"].to_pylist(), dtype=object))

    @property
    def patients(self) -> set[str]:
        """Pseudonyms of those whose images are looked at: the model was monitored on them."""
        return set(self.of_patient)

    def look(self, step: int) -> dict[str, float]:
        """Values to report after `step` steps; writes the picture. Nothing without validation images."""
        if self.run.rank != 0 or len(self.rows) < 2:
            return {}
        if step == 0:
            named = ", ".join(self.targets) or "no label, for want of patients"
            self.run.log(f"Looks at {len(self.rows)} validation images while it trains; neighbours tell {named}.")
        looks = self._looks()
        features_ND = torch.cat([torch.cat([x.pooled_BD, x.patches_BHWD.mean((1, 2))], 1) for x in looks]).cpu()
        values = {"rankme": rankme(torch.cat([x.pooled_BD for x in looks]).cpu())}
        if self.targets:
            scores = [knn_auroc(features_ND.numpy(), t, self.of_patient) for t in self.targets.values()]
            values["knn_auroc"] = float(np.mean(scores))
        self._picture(step, looks)
        return values

    def _looks(self) -> list[Look]:
        images = [self.cohort.image(int(row)) for row in self.rows]
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            return [self.task.look(images[i : i + AT_ONCE]) for i in range(0, len(images), AT_ONCE)]

    def _picture(self, step: int, looks: list[Look]) -> None:
        grey_BHW = torch.cat([x.grey_BHW.cpu() for x in looks[: math.ceil(SHOWN / AT_ONCE)]])[:SHOWN]
        patches_BHWD = torch.cat([x.patches_BHWD.cpu() for x in looks[: math.ceil(SHOWN / AT_ONCE)]])[:SHOWN]
        picture = draw(grey_BHW, patches_BHWD)
        path = self.run.root / PICTURES / f"step-{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, encode_png(picture).numpy().tobytes())
        self.run.artifact("patch features", path)
        self.show(step, picture)

    def _targets(self, views: np.ndarray) -> dict[str, np.ndarray]:
        """float32 [images] of 1, 0 and nan by name: the commonest view against the rest, and the labels with the most
        patients in their rarer class."""
        known = [v for v in views if v]
        commonest = max(sorted(set(known)), key=known.count) if known else None
        found = {f"view {commonest}": np.array([float(v == commonest) if v else np.nan for v in views], np.float32)}
        names = self.cohort.label_names()
        found |= dict(zip(names, self.cohort.label_matrix(names)[self.rows].T, strict=True))
        rarer = {
            name: min(len(set(self.of_patient[target == value])) for value in (0, 1)) for name, target in found.items()
        }
        ranked = sorted((n for n in found if rarer[n] >= FEWEST), key=lambda n: -rarer[n])
        return {name: found[name] for name in ranked[:TARGETS]}


def rankme(features_ND: Tensor) -> float:
    """exp of the entropy of the singular values' shares; between 1 and min(N, D)."""
    singular = torch.linalg.svdvals(features_ND.double())
    shares = singular / singular.sum().clamp_min(1e-12) + 1e-7
    return float(torch.exp(-(shares * shares.log()).sum()))


def knn_auroc(features_ND: np.ndarray, target_N: np.ndarray, patient_N: np.ndarray) -> float:
    """AUROC of a 0/1 target (nan is left out), each image scored by its most similar images of other patients."""
    known = np.isfinite(target_N)
    unit_ND = features_ND[known] - features_ND[known].mean(0)
    unit_ND = unit_ND / np.linalg.norm(unit_ND, axis=1, keepdims=True).clip(1e-12)
    target, patient = target_N[known], patient_N[known]
    likeness_NN = unit_ND @ unit_ND.T
    likeness_NN[patient[:, None] == patient[None]] = -np.inf
    nearest_NK = np.argsort(-likeness_NN, axis=1, kind="stable")[:, :NEIGHBOURS]
    weight_NK = np.exp(np.take_along_axis(likeness_NN, nearest_NK, 1) / 0.07)
    score = (weight_NK * target[nearest_NK]).sum(1) / weight_NK.sum(1)
    above = score[target == 1][:, None] - score[target == 0][None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def draw(grey_BHW: Tensor, patches_BHWD: Tensor) -> Tensor:
    """uint8 [3, 2 * SIDE, B * SIDE]: images above, the first three principal components of their patches below."""
    grey = torch.nn.functional.interpolate(grey_BHW[:, None], (SIDE, SIDE), mode="bilinear", antialias=True)
    tokens_ND = patches_BHWD.flatten(0, 2).double()
    tokens_ND = tokens_ND - tokens_ND.mean(0)
    _, _, axes_DD = torch.linalg.svd(tokens_ND, full_matrices=False)
    axes_3D = axes_DD[:3]
    largest_31 = axes_3D.gather(1, axes_3D.abs().argmax(1, keepdim=True))
    projected_N3 = tokens_ND @ (axes_3D * largest_31.sign()).T  # else a colour and its opposite change at random
    low, high = (torch.quantile(projected_N3, q, dim=0) for q in (0.02, 0.98))
    share_N3 = ((projected_N3 - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    shape = (*patches_BHWD.shape[:3], 3)
    colours = torch.nn.functional.interpolate(share_N3.view(shape).permute(0, 3, 1, 2), (SIDE, SIDE), mode="nearest")
    rows = [grey.expand(-1, 3, -1, -1).double(), colours]
    return (torch.cat([torch.cat(list(row), 2) for row in rows], 1).clamp(0, 1) * 255).round().byte()
