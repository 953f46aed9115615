"""Losses against lightly, open_clip and plain double loops: values and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipelines.pretrain import dino_losses as ours
from pipelines.pretrain.prototypes import LOGITS, Assignments, prototype_loss
from pipelines.pretrain.unicl_loss import make_targets, unicl_loss


@pytest.fixture(scope="module")
def lightly():
    """lightly's losses, an independent implementation of the same papers."""
    return pytest.importorskip("lightly.loss")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def same_value_and_gradient(first: Tensor, second: Tensor, x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(first, x)[0], torch.autograd.grad(second, y)[0], atol=1e-5, rtol=1e-5
    )


def assignments(teacher_TND: Tensor, shift_K: Tensor, temperature: float) -> Assignments:
    """With the unit matrix for prototypes, so that features are logits."""
    return Assignments(teacher_TND, torch.eye(teacher_TND.shape[-1]), shift_K, temperature)


def test_dino_equals_lightly_over_steps_of_the_centre(lightly) -> None:
    B, K, views = 6, 32, 5
    theirs, centre, unit = lightly.DINOLoss(K, center_momentum=0.9), ours.Centre(K, 0.9), torch.eye(K)
    pairs = ours.match_views(views, 2, torch.device("cpu"))
    for step in range(3):
        teacher = normal(2, B, K, seed=step)
        x, y = (normal(views, B, K, seed=10 + step).requires_grad_() for _ in range(2))
        matched = assignments(teacher, centre.shift(teacher.flatten(0, 1), unit, 0.05), 0.05)
        mine = prototype_loss(x, unit, matched, pairs, torch.full((B,), 1 / (8 * B)), 0.1)
        same_value_and_gradient(mine, theirs(list(teacher), list(y), teacher_temp=0.05), x, y)
        centre.update()
    torch.testing.assert_close(centre.value, theirs.center.flatten(), atol=1e-6, rtol=1e-6)


def test_ibot_equals_lightly_with_unmasked_views(lightly) -> None:
    masks = torch.zeros(4, 3, 3, dtype=torch.bool)
    masks[0, 0, :2] = masks[2, 1:, :] = True
    M, K = int(masks.sum()), 16
    theirs, centre, unit = lightly.IBOTPatchLoss(K), ours.Centre(K, 0.9), torch.eye(K)
    for step in range(2):
        teacher = normal(M, K, seed=step)
        x, y = (normal(M, K, seed=5).requires_grad_() for _ in range(2))
        counts = masks.flatten(1).sum(1)
        weights = (1.0 / counts.clamp(min=1)).repeat_interleave(counts) / len(masks)
        matched = assignments(teacher[None], centre.shift(teacher, unit, 0.07), 0.07)
        mine = prototype_loss(x[None], unit, matched, torch.ones(1, 1), weights, 0.1)
        same_value_and_gradient(mine, theirs(teacher, y, masks, teacher_temp=0.07), x, y)
        centre.update()


def test_pieces_equal_the_whole_and_plain_autograd() -> None:
    """Value and gradients, of the features and of the prototypes, whatever is held at once."""
    V, T, N, D, K = 4, 2, 7, 5, 11
    pairs, weight = ours.match_views(V, T, torch.device("cpu")), normal(N).abs()
    teacher = Assignments(normal(T, N, D, seed=1), normal(K, D, seed=2), normal(K, seed=3), 0.3)
    results = []
    for logits in (1, 2 * V * K, 10**9, None):
        x, w = normal(V, N, D, seed=4).requires_grad_(), normal(K, D, seed=5).requires_grad_()
        if logits is None:
            log_p = torch.log_softmax(x @ w.T / 0.2, -1)
            pairwise = -torch.einsum("tnk,vnk->vtn", teacher.probabilities(0, N), log_p)
            loss = (pairwise * pairs[..., None] * weight).sum()
        else:
            loss = prototype_loss(x, w, teacher, pairs, weight, 0.2, logits)
        (3 * loss).backward()
        results.append((loss.detach(), x.grad, w.grad))
    for result in results[1:]:
        for got, expected in zip(results[0], result, strict=True):
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_koleo_equals_lightly(lightly) -> None:
    x, y = (normal(12, 8).requires_grad_() for _ in range(2))
    same_value_and_gradient(ours.koleo_loss(x), lightly.KoLeoLoss()(y), x, y)


def test_micro_batches_do_not_move_the_centre() -> None:
    logits, unit = normal(12, 8), torch.eye(8)
    whole, parts = ours.Centre(8, 0.9), ours.Centre(8, 0.9)
    whole.shift(logits, unit, 0.1)
    for part in logits.split((5, 4, 3)):
        parts.shift(part, unit, 0.1)
    whole.update()
    parts.update()
    torch.testing.assert_close(whole.value, parts.value)


def balanced(logits: Tensor, temperature: float, held: int = LOGITS) -> Tensor:
    """Sinkhorn's probabilities of these logits."""
    shift = ours.sinkhorn_shift(logits, torch.eye(logits.shape[1]), temperature, held)
    return assignments(logits[None], shift, temperature).probabilities(0, len(logits))[0]


def test_sinkhorn_uses_prototypes_equally_and_keeps_rows_probabilities() -> None:
    logits = normal(64, 8) + normal(8, seed=1)
    p_NK = balanced(logits, 0.5)
    torch.testing.assert_close(p_NK.sum(1), torch.ones(64))
    # Three iterations end on the rows, so columns are near 1, not exact; those of the softmax are far.
    before = torch.softmax(logits / 0.5, 1)
    worst = [((p.sum(0) / 8) - 1).abs().max().item() for p in (p_NK, before)]
    assert worst[0] < 0.3 < 0.5 < worst[1]


@pytest.mark.parametrize("held", [6, 25, LOGITS])
def test_sinkhorn_equals_the_published_iteration(held: int) -> None:
    """Algorithm of SwAV / DINOv2 in prototypes x samples form, in float64; in pieces too."""
    logits = normal(10, 6)
    q = torch.exp(logits.double() / 0.1).T
    q /= q.sum()
    for _ in range(3):
        q = q / q.sum(1, keepdim=True) / q.shape[0]
        q = q / q.sum(0, keepdim=True) / q.shape[1]
    torch.testing.assert_close(balanced(logits, 0.1, held).double(), (q * q.shape[1]).T, atol=1e-6, rtol=1e-5)


def test_entropy_of_the_two_collapses() -> None:
    assert ours.entropy(torch.full((3, 8), 1 / 8)).item() == pytest.approx(math.log(8))
    assert ours.entropy(torch.eye(8)).item() == pytest.approx(0, abs=1e-6)


# ---- UniCL -------------------------------------------------------------------------------------------------------


def test_unicl_with_unique_reports_is_clip() -> None:
    clip = pytest.importorskip("open_clip.loss").ClipLoss()
    images, texts = (torch.nn.functional.normalize(normal(9, 5, seed=s).double(), dim=1) for s in (0, 1))
    x, y = (images.clone().requires_grad_() for _ in range(2))
    targets = make_targets([f"report {i}" for i in range(9)], np.empty((9, 0)), [])
    positive, counted = torch.from_numpy(targets.positive_BT), torch.from_numpy(targets.counted_BT)
    mine, theirs = unicl_loss(7.0 * x @ texts.T, positive, counted), clip(y, texts, torch.tensor(7.0).double())
    torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(torch.autograd.grad(mine, x)[0], torch.autograd.grad(theirs, y)[0])


def plain_unicl(logits: np.ndarray, positive: np.ndarray, counted: np.ndarray) -> float:
    """DESIGN's definition, pair by pair."""
    directions = []
    for s, t, c in ((logits, positive, counted), (logits.T, positive.T, counted.T)):
        rows = []
        for i in range(len(s)):
            total = sum(math.exp(s[i, j]) for j in range(s.shape[1]) if c[i, j])
            terms = [math.log(math.exp(s[i, j]) / total) for j in range(s.shape[1]) if t[i, j]]
            if terms:
                rows.append(-sum(terms) / len(terms))
        directions.append(sum(rows) / len(rows) if rows else 0.0)
    return sum(directions) / 2


REPORTS = st.lists(st.sampled_from([None, "a", "b", "c", "effusion"]), min_size=2, max_size=7)


@settings(max_examples=60, deadline=None)
@given(reports=REPORTS, data=st.data())
def test_unicl_equals_the_definition(reports: list[str | None], data: st.DataObject) -> None:
    """Views of one study (equal reports), several labels, blanks, and a report that is just a label's name."""
    prompts = ["effusion", "edema", "ett"]
    cell = st.sampled_from([0.0, 1.0, np.nan])
    labels = np.array([[data.draw(cell) for _ in prompts] for _ in reports])
    targets = make_targets(reports, labels, prompts)
    for i, report in enumerate(reports):
        for j, text in enumerate(targets.texts):
            label = labels[i, prompts.index(text)] if text in prompts else np.nan
            own = report == text
            assert targets.positive_BT[i, j] == (own or label == 1)
            assert targets.counted_BT[i, j] == (own or text not in prompts or not np.isnan(label))
    logits = np.random.default_rng(len(reports)).normal(size=targets.positive_BT.shape)
    x = torch.tensor(logits, requires_grad=True)
    loss = unicl_loss(x, torch.from_numpy(targets.positive_BT), torch.from_numpy(targets.counted_BT))
    assert loss.item() == pytest.approx(plain_unicl(logits, targets.positive_BT, targets.counted_BT), abs=1e-9)
    loss.backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[torch.from_numpy(~targets.counted_BT)] == 0).all()


def test_a_batch_without_any_text_gives_no_gradient() -> None:
    targets = make_targets([None, None], np.empty((2, 0)), [])
    x = torch.zeros(targets.positive_BT.shape, requires_grad=True)
    loss = unicl_loss(x, torch.from_numpy(targets.positive_BT), torch.from_numpy(targets.counted_BT))
    loss.backward()
    assert loss.item() == 0 and not x.grad.any()
