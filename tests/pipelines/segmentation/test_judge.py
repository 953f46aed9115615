"""What is said of one structure of one image, on hand-drawn cases, and how maps come back to the judged square."""

import numpy as np
import pytest
import torch

from pipelines.segmentation import rasters
from pipelines.segmentation.judge import measure_image
from pipelines.segmentation.training import look_through
from pipelines.segmentation.truth import Truth

DOWN = np.array([0.0, 1.0])
NOTHING = np.zeros((40, 40), bool)


def line(top: int, bottom: int, column: int) -> np.ndarray:
    out = NOTHING.copy()
    out[top:bottom, column] = True
    return out


def measured(found: np.ndarray, truth: Truth, mm: tuple[float, float] | None = (1.0, 1.0)) -> dict:
    return {name: (numerator, denominator) for name, numerator, denominator in measure_image(found, truth, mm, DOWN)}


def test_a_line_that_stops_short() -> None:
    truth = Truth(line(0, 30, 10), line(0, 30, 10), np.array([[10.0, 29.0]]))
    found = measured(line(0, 20, 11), truth)  # 1 mm aside, 10 mm short
    assert found["dice"] == (0, 1) and found["cldice"] == (0, 1)
    assert found["centreline_precision"] == (1, 1)
    assert found["centreline_recall"] == (24 / 30, 1)  # rows 0 ... 23 lie within 5 mm, aslant below its end
    assert found["tip_distance"] == (pytest.approx(np.hypot(1, 10)), 1) and found["tip_found"] == (0, 1)


def test_spacing_scales_distances() -> None:
    truth = Truth(line(0, 30, 10), line(0, 30, 10), np.array([[10.0, 29.0]]))
    found = measured(line(0, 20, 10), truth, (0.5, 0.5))
    assert found["tip_distance"] == (5, 1) and found["tip_found"] == (1, 1)
    without = measured(line(0, 20, 10), truth, None)
    assert "tip_distance" not in without and without["centreline_recall"] == (20 / 30, 1)  # half a pixel at this side


def test_a_missed_line_has_no_distance_but_is_not_forgotten() -> None:
    truth = Truth(line(0, 30, 10), line(0, 30, 10), np.array([[10.0, 29.0]]))
    found = measured(NOTHING, truth)
    assert found["tip_distance"] == (0, 0) and found["tip_found"] == (0, 1)
    assert found["dice"] == found["centreline_recall"] == (0, 1)


def test_an_empty_truth_says_only_whether_nothing_was_found() -> None:
    truth = Truth(NOTHING, NOTHING, np.empty((0, 2)))
    assert measured(NOTHING, truth) == {"empty_kept": (1, 1)}
    assert measured(line(0, 5, 5), truth) == {"empty_kept": (0, 1)}


def test_a_region_is_not_measured_as_a_line() -> None:
    assert measured(line(0, 5, 5), Truth(line(0, 5, 5), None, np.empty((0, 2)))).keys() == {"dice", "iou"}


def test_maps_of_stretched_images_come_back_to_the_square() -> None:
    height, width = 60, 100
    # The encoder saw all of it at 20 x 20; a step lies at x = 50, the middle of the square that begins at 20.
    seen = torch.zeros(1, 1, 20, 20)
    seen[..., 10:] = 1
    back = look_through(seen, [rasters.whole(height, width)], [rasters.central_square(height, width)], 30)
    assert back.shape == (1, 1, 30, 30)
    assert back[..., :13].max() < 1e-4 and back[..., 17:].min() > 0.999
    square = rasters.central_square(height, width)
    same = torch.rand(1, 2, 16, 16)
    assert torch.allclose(look_through(same, [square], [square], 16), same, atol=1e-5)
