"""Geometry: what a box shows, how lines are drawn, and the way back to the source image."""

import numpy as np
import pytest

from pipelines.preprocessing import Preprocessing
from pipelines.segmentation import rasters
from pipelines.segmentation.rasters import Box


def test_boxes():
    assert rasters.central_square(100, 140) == Box(20, 0, 120, 100)
    assert rasters.central_square(141, 100) == Box(0, 20, 100, 120)
    assert rasters.whole(100, 140) == Box(0, 0, 140, 100)


def test_what_encoders_see_follows_from_their_preprocessing():
    assert rasters.seen(100, 140, Preprocessing(112)) == rasters.central_square(100, 140)
    assert rasters.seen(100, 140, Preprocessing(112, "stretch")) == rasters.whole(100, 140)
    assert rasters.seen(100, 140, Preprocessing(112, "pad")) == Box(0, -20, 140, 120)
    assert rasters.seen(100, 140, Preprocessing(224, "crop", resize=280)) == Box(30, 10, 110, 90)


def test_a_mask_is_cut_from_beyond_the_image_too():
    mask = np.ones((10, 20), np.uint8)
    cut = rasters.cut(mask, Box(0, -5, 20, 15), 20)
    assert cut[:5].max() == 0 and cut[5:15].min() == 1 and cut[15:].max() == 0


def test_points_are_middles_of_pixels():
    box = Box(20, 0, 120, 100)
    assert rasters.to_square(np.array([[20.0, 0.0]]), box, 100).tolist() == [[0.0, 0.0]]
    # Two stored pixels make one: the middle between them is the middle of it.
    assert rasters.to_square(np.array([[20.5, 0.5]]), box, 50).tolist() == [[0.0, 0.0]]


def test_lines_of_one_structure_are_kept_apart():
    nan = float("nan")
    lines = rasters.split_polylines([1, 2, 3, 4, nan, nan, 5, 6, 7, 8, 9, 9, nan, nan, 1, 1])
    assert [line.tolist() for line in lines] == [[[1, 2], [3, 4]], [[5, 6], [7, 8], [9, 9]]]
    assert rasters.split_polylines(None) == []


def test_a_line_is_as_wide_as_published():
    line = np.array([[20.0, 100.0], [180.0, 100.0]])
    drawn = rasters.draw_lines([line], 400)
    assert drawn[:, 100].sum() in (4, 5)  # 1 % of the side, give or take what cv2 rounds
    assert not drawn[:, 184:].any() and not drawn[:, :16].any()  # the disc at the tip ends with the line
    assert rasters.draw_lines([line], 400, 0)[:, 100].sum() == 1
    assert rasters.draw_lines([line / 10], 40)[10, 2:19].all() and not rasters.draw_lines([], 40).any()


def test_a_mask_is_cut_by_the_share_it_covers():
    mask = np.zeros((8, 12), np.uint8)
    mask[:4, 2:6] = 255
    mask[0, 6] = 255
    cut = rasters.cut(mask, rasters.central_square(8, 12), 4)
    assert cut[:2, :2].min() == 1 and cut[2:].max() == 0
    assert cut[0, 2] == pytest.approx(0.25)


@pytest.mark.parametrize("scale", [2.0, 3.7])
def test_a_mask_finds_its_place_in_the_source_again(scale):
    stored, box, side = (80, 100), rasters.central_square(80, 100), 40
    source = (round(stored[0] * scale), round(stored[1] * scale))
    sx, sy = stored[1] / source[1], stored[0] / source[0]
    affine = [sx, 0, 0.5 * sx - 0.5, 0, sy, 0.5 * sy - 0.5]
    truth = np.zeros(source, bool)
    y, x = np.mgrid[: source[0], : source[1]]
    truth |= (x / source[1] - 0.4) ** 2 + (y / source[0] - 0.6) ** 2 < 0.05
    small = rasters.cut(_store(truth, stored), box, side) >= 0.5
    back = rasters.to_source(small, box, affine, source)
    assert back.shape == source
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.97
    assert not back[:, : int(box.left * scale) - 2].any()


def _store(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    import cv2

    return cv2.resize(mask.astype(np.uint8) * 255, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
