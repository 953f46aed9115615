"""UniCL (arXiv 2204.03610): contrast with the target matrix of images x texts that reports and labels give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Which text belongs to which image of a batch."""

    texts: list[str]
    """Unique normalised texts [T]: reports first, then prompts of labels."""
    positive_BT: np.ndarray
    """bool: the text is the image's report, equals it, or names a positive label of it."""
    counted_BT: np.ndarray
    """bool: the pair takes part; false where a label is uncertain or blank for the image."""


def make_targets(reports: Sequence[str | None], labels_BL: np.ndarray, prompts: Sequence[str]) -> Targets:
    """Targets of a batch. `reports` are normalised (None: no report); `labels_BL` holds 1, 0 and nan for unknown.

    A prompt that is some image's whole report is one text, not two. Give no reports or no prompts to leave one out.
    """
    columns = {text: i for i, text in enumerate(dict.fromkeys(r for r in reports if r is not None))}
    for prompt in prompts:
        columns.setdefault(prompt, len(columns))
    if not columns:
        columns[""] = 0  # no image of the batch has a text: nothing to learn from, but nothing to break on
    positive_BT = np.zeros((len(reports), len(columns)), bool)
    counted_BT = np.ones_like(positive_BT)
    for column, values_B in zip([columns[p] for p in prompts], labels_BL.T, strict=True):
        positive_BT[:, column] |= values_B == 1
        counted_BT[:, column] &= ~np.isnan(values_B)
    for image, report in enumerate(reports):
        if report is not None:
            positive_BT[image, columns[report]] = counted_BT[image, columns[report]] = True
    return Targets(list(columns), positive_BT, counted_BT)


def unicl_loss(logits_BT: Tensor, positive_BT: Tensor, counted_BT: Tensor) -> Tensor:
    """Mean of both directions. Equals UniCL with one label per image, and CLIP when every text has one image."""
    forth = _soft_cross_entropy(logits_BT, positive_BT, counted_BT)
    back = _soft_cross_entropy(logits_BT.T, positive_BT.T, counted_BT.T)
    return (forth + back) / 2


def _soft_cross_entropy(logits_NM: Tensor, positive_NM: Tensor, counted_NM: Tensor) -> Tensor:
    """Mean over the rows with a positive of -sum_j T_ij log softmax_j, each row of T normalised to 1."""
    log_p_NM = logits_NM.masked_fill(~counted_NM, -torch.inf).log_softmax(1).masked_fill(~positive_NM, 0.0)
    counts_N = positive_NM.sum(1)
    rows_N = -log_p_NM.sum(1) / counts_N.clamp(min=1)
    return rows_N[counts_N > 0].sum() / (counts_N > 0).sum().clamp(min=1)
