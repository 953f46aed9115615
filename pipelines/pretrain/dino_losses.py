"""DINO, iBOT and KoLeo losses (arXiv 2304.07193), and the two ways of balancing the teacher's prototypes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.pretrain.ranks import all_max, all_sum, gather

SINKHORN_ITERATIONS = 3


def dino_loss(student_VBK: Tensor, teacher_TBK: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy over every pair of a teacher view and another student view.

    `student_VBK` are logits of all V views, the T global ones first and in the teacher's order; `teacher_TBK` are
    probabilities.
    """
    log_p_VBK = F.log_softmax(student_VBK.float() / temperature, dim=-1)
    pairs_TV = -torch.einsum("tbk,vbk->tv", teacher_TBK, log_p_VBK)
    T, V = pairs_TV.shape
    other_TV = 1 - torch.eye(T, V, device=pairs_TV.device, dtype=pairs_TV.dtype)
    return (pairs_TV * other_TV).sum() / (other_TV.sum() * student_VBK.shape[1])


def ibot_loss(student_MK: Tensor, teacher_MK: Tensor, weight_M: Tensor, views: int, temperature: float) -> Tensor:
    """Cross-entropy on the M masked patches: mean over the masks of a view, then over all `views`, masked or not.

    `weight_M` is 1 / (masked patches of the own view); `teacher_MK` are probabilities.
    """
    log_p_MK = F.log_softmax(student_MK.float() / temperature, dim=-1)
    return -((teacher_MK * log_p_MK).sum(-1) * weight_M).sum() / views


def koleo_loss(x_ND: Tensor, eps: float = 1e-8) -> Tensor:
    """-log distance to the nearest neighbour (arXiv 1806.03198) over the rows of all ranks, in float32."""
    x_ND = F.normalize(gather(x_ND.float()), dim=-1, eps=eps)
    with torch.no_grad():
        similarity_NN = x_ND @ x_ND.T
        nearest_N = similarity_NN.fill_diagonal_(-2).argmax(1)
    return -(F.pairwise_distance(x_ND, x_ND[nearest_N], eps=eps) + eps).log().mean()


class Centre(nn.Module):
    """EMA of the teacher's mean logits, subtracted before its softmax.

    Logits of all micro-batches and ranks are summed up until `update`, so neither changes the centre.
    """

    value: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, prototypes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(prototypes))
        self.register_buffer("total", torch.zeros(prototypes), persistent=False)
        self.register_buffer("count", torch.zeros(()), persistent=False)

    @torch.no_grad()
    def probabilities(self, logits_NK: Tensor, temperature: float) -> Tensor:
        """Teacher probabilities [N, K] in float32; the logits are remembered for `update`."""
        logits_NK = logits_NK.float()
        self.total += logits_NK.sum(0)
        self.count += len(logits_NK)
        return F.softmax((logits_NK - self.value) / temperature, dim=-1)

    @torch.no_grad()
    def update(self) -> None:
        """Move the centre by what was seen since the last update."""
        all_sum(self.total)
        all_sum(self.count)
        self.value.lerp_(self.total / self.count.clamp(min=1), 1 - self.momentum)
        self.total.zero_()
        self.count.zero_()


@torch.no_grad()
def sinkhorn(logits_NK: Tensor, temperature: float) -> Tensor:
    """Sinkhorn-Knopp (arXiv 2006.09882): probabilities [N, K] whose prototypes are used equally over all ranks."""
    logits_NK = logits_NK.float()
    # A common shift keeps exp finite and cancels in the balance.
    largest = all_max(logits_NK.max() if len(logits_NK) else logits_NK.new_tensor(-torch.inf))
    q_NK = torch.exp((logits_NK - largest) / temperature)
    rows = all_sum(torch.tensor(float(len(q_NK)), device=q_NK.device))
    q_NK /= all_sum(q_NK.sum())
    for _ in range(SINKHORN_ITERATIONS):
        q_NK /= all_sum(q_NK.sum(0)).clamp(min=1e-30) * q_NK.shape[1]
        q_NK /= q_NK.sum(1, keepdim=True).clamp(min=1e-30) * rows
    return q_NK * rows


def entropy(p_NK: Tensor) -> Tensor:
    """Mean entropy of rows of probabilities in nats: 0 and log K are the two collapses."""
    return -(p_NK * p_NK.clamp(min=1e-12).log()).sum(-1).mean()
