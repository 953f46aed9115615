"""Cross-entropy over prototypes, a piece of rows at a time.

At 518 px an image has about 400 masked patches, and 65,536 logits of each fill 100 MB in float32. Neither student nor
teacher logits are ever held for all rows: of a piece both are computed, the loss and its gradient are taken, and they
are dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOGITS = 1 << 26
"""Logits of the student held at once."""


@dataclass(frozen=True)
class Assignments:
    """The teacher's probabilities over prototypes, softmax(features @ prototypes / temperature + shift), on demand.

    `shift_K` balances the prototypes: the EMA centre and Sinkhorn-Knopp differ in it alone.
    """

    features_TND: Tensor
    """Of T teacher views of N items."""
    prototypes_KD: Tensor
    shift_K: Tensor
    temperature: float

    def probabilities(self, first: int, last: int) -> Tensor:
        """float32 [T, last - first, K] of the items from `first` to `last`."""
        return balanced(self.logits(first, last), self.shift_K, self.temperature)

    def logits(self, first: int, last: int) -> Tensor:
        """[T, last - first, K], in the type of the features."""
        return self.features_TND[:, first:last] @ self.prototypes_KD.T


def balanced(logits: Tensor, shift_K: Tensor, temperature: float | Tensor) -> Tensor:
    """float32 probabilities of the teacher's logits."""
    return F.softmax(logits.float() / temperature + shift_K, dim=-1)


def prototype_loss(
    student_VND: Tensor,
    prototypes_KD: Tensor,
    teacher: Assignments,
    pairs_VT: Tensor,
    weight_N: Tensor,
    temperature: float,
    logits: int = LOGITS,
    piece: Callable[..., tuple[Tensor, Tensor]] | None = None,
) -> Tensor:
    """Sum over items of weight_N times the cross-entropies of the student's views with the teacher's.

    `pairs_VT` is 1 where student view v is to match teacher view t, else 0. Gradients flow into `student_VND` and
    `prototypes_KD`, which are float32; the matrix products run in the type of the teacher's features. `logits` bounds
    the student logits of one piece; `piece` replaces `value_and_gradient` by a compiled form of it.
    """
    step = max(1, logits // (len(student_VND) * len(prototypes_KD)))
    return _Pieces.apply(
        student_VND, prototypes_KD, teacher, pairs_VT, weight_N, temperature, step, piece or value_and_gradient
    )


def value_and_gradient(
    logits_VnK: Tensor,
    teacher_logits_TnK: Tensor,
    shift_K: Tensor,
    heat: Tensor,
    pairs_VT: Tensor,
    weight_n: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Loss of a piece (scalar) and its gradient by the student's logits, in their type. `heat` is the teacher's
    temperature: as a tensor, since it changes from step to step and a compiled form is made for the numbers it gets."""
    teacher_TnK = balanced(teacher_logits_TnK, shift_K, heat)
    log_p_VnK = F.log_softmax(logits_VnK.float() / temperature, dim=-1)
    if len(teacher_TnK) == 1:
        target_VnK = pairs_VT[:, 0, None, None] * teacher_TnK
    else:
        target_VnK = torch.einsum("vt,tnk->vnk", pairs_VT, teacher_TnK)
    loss = -((target_VnK * log_p_VnK).sum(-1) * weight_n).sum()
    # In place: fresh memory for tensors of this size costs a CPU more than the arithmetic on them.
    gradient_VnK = log_p_VnK.exp_().mul_(pairs_VT.sum(1)[:, None, None]).sub_(target_VnK)
    return loss, gradient_VnK.mul_((weight_n / temperature)[None, :, None]).to(logits_VnK.dtype)


class _Pieces(torch.autograd.Function):
    """Gradients are taken in the forward pass, where the logits are at hand, and scaled in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        student_VND: Tensor,
        prototypes_KD: Tensor,
        teacher: Assignments,
        pairs_VT: Tensor,
        weight_N: Tensor,
        temperature: float,
        step: int,
        piece: Callable[..., tuple[Tensor, Tensor]],
    ) -> Tensor:
        kind = teacher.features_TND.dtype
        student, prototypes = student_VND.to(kind), prototypes_KD.to(kind)
        by_student, by_prototypes = torch.empty_like(student_VND), torch.zeros_like(prototypes_KD)
        total, heat = student_VND.new_zeros(()), student_VND.new_full((), teacher.temperature)
        for first in range(0, student.shape[1], step):
            part_VnD = student[:, first : first + step]
            loss, gradient_VnK = piece(
                part_VnD @ prototypes.T,
                teacher.logits(first, first + step),
                teacher.shift_K,
                heat,
                pairs_VT,
                weight_N[first : first + step],
                temperature,
            )
            total += loss
            by_student[:, first : first + step] = gradient_VnK @ prototypes
            _add_product(by_prototypes, gradient_VnK.flatten(0, 1).T, part_VnD.flatten(0, 1))
        ctx.save_for_backward(by_student, by_prototypes)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_student, by_prototypes = ctx.saved_tensors
        return (by_student * gradients[0], by_prototypes * gradients[0], *[None] * 6)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, without a matrix in between where all are of one type."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
