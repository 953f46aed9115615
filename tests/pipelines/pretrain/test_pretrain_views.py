"""Masks, crops, grey-value changes, and the stream of samples."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.pretrain import augment
from pipelines.pretrain.masks import block_mask, mask_counts
from pipelines.pretrain.recipe import Photometry
from pipelines.pretrain.sampler import Sampler, generator, torch_seed


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 20), st.integers(2, 20), st.floats(0, 1), st.integers(0, 2**32))
def test_masks_have_exactly_their_count(height: int, width: int, share: float, seed: int) -> None:
    count = int(share * height * width)
    assert block_mask(np.random.default_rng(seed), height, width, count).sum() == count


def test_masks_are_blocks_and_vary() -> None:
    rng = np.random.default_rng(0)
    masks = [block_mask(rng, 16, 16, 100) for _ in range(20)]
    # Right-hand neighbour of a masked patch: masked far more often than the 39 % of scattered patches.
    neighbours = np.mean([m[:, 1:][m[:, :-1]].mean() for m in masks])
    assert neighbours > 0.7
    assert len({m.tobytes() for m in masks}) == 20


def test_half_of_the_views_are_masked_over_the_whole_range() -> None:
    counts = mask_counts(np.random.default_rng(0), 32, 64, 0.5, (0.1, 0.5))
    assert (counts > 0).sum() == 16
    assert (counts[counts > 0].min(), counts.max()) == (6, 32)


@settings(max_examples=80, deadline=None)
@given(st.integers(8, 300), st.integers(8, 300), st.booleans(), st.integers(0, 2**32))
def test_boxes_lie_in_the_image_and_hold_their_share(height: int, width: int, stretched: bool, seed: int) -> None:
    top, left, rows, columns = augment.draw_box(np.random.default_rng(seed), height, width, (0.2, 0.5), stretched)
    assert min(top, left) >= 0 and top + rows <= height and left + columns <= width and min(rows, columns) > 0
    tolerance = 0.5 / min(rows, columns) * 2.5
    assert 0.2 * (1 - tolerance) - 0.01 <= rows * columns / (height * width) <= 0.5 * (1 + tolerance) + 0.01


def test_the_whole_box_is_the_image() -> None:
    image = torch.randint(0, 255, (40, 40), dtype=torch.uint8)
    assert torch.equal(augment.crop(image, (0, 0, 40, 40), 40), image)
    part = augment.crop(image, (3, 5, 20, 20), 20)
    assert torch.equal(part, image[3:23, 5:25])


def test_cutting_together_equals_cutting_one_by_one() -> None:
    """Boxes that shrink, grow and keep their size, at the edges too; images padded to one size."""
    torch.manual_seed(0)
    images = torch.randint(0, 255, (2, 50, 70), dtype=torch.uint8)
    boxes = [[(0, 0, 50, 70), (3, 5, 20, 20)], [(40, 60, 10, 10), (0, 11, 37, 9)], [(7, 0, 43, 13), (49, 69, 1, 1)]]
    padded = torch.nn.functional.pad(images, (0, 9, 0, 4), value=255)
    together = augment.crop_together(padded, torch.tensor(boxes, dtype=torch.int32), 20)
    single = torch.stack([augment.crop(images[b], box, 20) for view in boxes for b, box in enumerate(view)])
    assert (together.int() - single.int()).abs().max() <= 1  # a half may be rounded either way
    assert (together == single).float().mean() > 0.99


def test_a_plain_tone_changes_nothing() -> None:
    views = torch.randint(0, 255, (2, 1, 9, 9), dtype=torch.uint8)
    torch.testing.assert_close(augment.apply_tones(views, augment.Tones.of([augment.Tone()] * 2)), views / 255)


def test_blur_equals_torchvisions() -> None:
    blur = pytest.importorskip("torchvision.transforms.v2.functional").gaussian_blur
    views = torch.randint(0, 255, (3, 1, 30, 30), dtype=torch.uint8)
    tones = [augment.Tone(sigma=1.5), augment.Tone(), augment.Tone(sigma=0.6)]
    got = augment.apply_tones(views, augment.Tones.of(tones))
    for i, sigma in ((0, 1.5), (2, 0.6)):
        expected = blur(views[i] / 255, [11, 11], [sigma, sigma])
        # Edges differ: theirs are mirrored, ours repeated.
        torch.testing.assert_close(got[i, :, 6:-6, 6:-6], expected[:, 6:-6, 6:-6], atol=1e-4, rtol=0)
    torch.testing.assert_close(got[1], views[1] / 255)


def test_tones_stay_in_range_and_vary() -> None:
    rng = np.random.default_rng(0)
    tones = [augment.draw_tone(rng, Photometry(), 0.5, 112) for _ in range(200)]
    assert 0.7 < np.mean([t.contrast != 1 for t in tones]) < 0.9
    assert 0.4 < np.mean([t.sigma > 0 for t in tones]) < 0.6
    x = augment.apply_tones(torch.randint(0, 255, (200, 1, 8, 8), dtype=torch.uint8), augment.Tones.of(tones))
    assert x.min() >= 0 and x.max() <= 1 and torch.isfinite(x).all()


def test_the_stream_is_a_function_of_seed_and_step() -> None:
    rows = np.arange(100, 110)
    forwards, backwards = Sampler(rows, 4, seed=3), Sampler(rows, 4, seed=3)
    there = [forwards.batch(t).rows_B for t in range(10)]
    back = [backwards.batch(t).rows_B for t in reversed(range(10))][::-1]
    np.testing.assert_array_equal(there, back)
    stream = np.concatenate(there)
    for epoch in range(4):
        assert sorted(stream[epoch * 10 : epoch * 10 + 10]) == rows.tolist()
    assert not np.array_equal(stream[:10], stream[10:20])
    assert not np.array_equal(Sampler(rows, 4, seed=4).batch(0).rows_B, there[0])


def test_the_loop_and_what_prefetches_for_it_may_ask_at_once() -> None:
    plain, shared = Sampler(np.arange(5), 8, seed=0), Sampler(np.arange(5), 8, seed=0)
    expected = [plain.batch(step).rows_B for step in range(400)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            seen = list(threads.map(lambda step: shared.batch(step % 400).rows_B, range(1600)))
    finally:
        sys.setswitchinterval(interval)
    assert all(np.array_equal(rows, expected[step % 400]) for step, rows in enumerate(seen))


def test_a_batch_larger_than_the_subset_takes_several_epochs() -> None:
    batch = Sampler(np.arange(3), 8, seed=0).batch(1)
    assert len(batch.rows_B) == 8 and set(batch.rows_B) == {0, 1, 2}
    assert batch.positions_B.tolist() == list(range(8, 16))


def test_ranks_share_the_batch_of_one_process() -> None:
    alone = Sampler(np.arange(50), 6, seed=1).batch(5)
    parts = [Sampler(np.arange(50), 6, seed=1, rank=r, world=3).batch(5) for r in range(3)]
    np.testing.assert_array_equal(np.concatenate([p.rows_B[p.first : p.last] for p in parts]), alone.rows_B)


def test_streams_of_random_numbers_differ() -> None:
    draws = {generator(0, s, p).random() for s in range(4) for p in range(50)}
    assert len(draws) == 200
    assert len({torch_seed(0, 3, p, q) for p in range(20) for q in range(20)}) == 400
