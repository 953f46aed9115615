"""Parts of DINOv2's losses (arXiv 2304.07193): KoLeo, and the two ways of balancing the teacher's prototypes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.pretrain.prototypes import LOGITS
from pipelines.pretrain.ranks import all_max, all_sum, gather

SINKHORN_ITERATIONS = 3


def match_views(student: int, teacher: int, device: torch.device) -> Tensor:
    """float32 [V, T]: 1 where a student view learns from a teacher view, that is from every other than itself.

    The T global views come first among the student's V, in the teacher's order.
    """
    return 1 - torch.eye(student, teacher, device=device)


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
    def shift(self, features_ND: Tensor, prototypes_KD: Tensor, temperature: float) -> Tensor:
        """What `Assignments` adds to the logits, [K]; the sum of the logits is remembered for `update`."""
        self.total += prototypes_KD.float() @ features_ND.float().sum(0)
        self.count += len(features_ND)
        return -self.value / temperature

    @torch.no_grad()
    def update(self) -> None:
        """Move the centre by what was seen since the last update."""
        all_sum(self.total)
        all_sum(self.count)
        self.value.lerp_(self.total / self.count.clamp(min=1), 1 - self.momentum)
        self.total.zero_()
        self.count.zero_()


@torch.no_grad()
def sinkhorn_shift(features_ND: Tensor, prototypes_KD: Tensor, temperature: float, logits: int = LOGITS) -> Tensor:
    """Sinkhorn-Knopp (arXiv 2006.09882) over the rows of all ranks, as what `Assignments` adds to the logits, [K].

    Rows are normalised last, so that the balanced matrix is a softmax with the logarithms of the columns' factors
    added. Only these K numbers are kept between iterations; logits are computed anew, a piece at a time.
    """
    pieces = features_ND.split(max(1, logits // len(prototypes_KD)))

    def scaled(piece_nD: Tensor) -> Tensor:
        return (piece_nD @ prototypes_KD.T).float() / temperature

    sums_K = torch.full_like(prototypes_KD[:, 0], -torch.inf, dtype=torch.float32)
    for piece in pieces:
        sums_K = torch.logaddexp(sums_K, scaled(piece).logsumexp(0))
    largest_K = all_max(sums_K.clone())
    shift_K = -(largest_K + all_sum((sums_K - largest_K).exp()).log())
    for _ in range(SINKHORN_ITERATIONS - 1):
        used_K = torch.zeros_like(shift_K)
        for piece in pieces:
            used_K += F.softmax(scaled(piece) + shift_K, dim=-1).sum(0)
        shift_K = shift_K - all_sum(used_K).clamp(min=1e-30).log()
        shift_K = shift_K - shift_K.mean()  # a common shift changes nothing, and keeps the numbers small
    return shift_K


def entropy(p_NK: Tensor) -> Tensor:
    """Mean entropy of rows of probabilities in nats: 0 and log K are the two collapses."""
    return -(p_NK * p_NK.clamp(min=1e-12).log()).sum(-1).mean()
