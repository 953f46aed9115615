"""Measures of masks and lines against cases drawn by hand, whose answers can be counted."""

import math

import numpy as np
import pytest

from pipelines.segmentation.centreline import mean_direction, thin, tips
from pipelines.segmentation.metrics import cldice, dice, iou, tip_distances, within

NONE = np.zeros((12, 12), bool)


def mask(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows])


def band(rows: slice, columns: slice) -> np.ndarray:
    out = NONE.copy()
    out[rows, columns] = True
    return out


def clean_dice(found: np.ndarray, truth: np.ndarray) -> float:
    return cldice(found, truth, thin(found), thin(truth))


def test_regions():
    found, truth = band(slice(0, 4), slice(0, 6)), band(slice(2, 6), slice(0, 6))
    assert (found.sum(), truth.sum(), (found & truth).sum()) == (24, 24, 12)
    assert dice(found, truth) == 0.5 and iou(found, truth) == 12 / 36


@pytest.mark.parametrize("measure", [dice, iou, clean_dice, lambda a, b: within(a, b, 3, (1, 1))])
def test_two_empty_masks_agree_and_one_does_not(measure):
    line = band(slice(5, 6), slice(2, 9))
    assert measure(NONE, NONE) == 1 and measure(line, NONE) == 0 and measure(NONE, line) == 0


def test_cldice_of_a_line_that_was_found_half():
    truth = band(slice(5, 6), slice(1, 11))  # ten pixels, its own centre line
    found = band(slice(5, 6), slice(1, 6))  # five of them
    assert clean_dice(found, truth) == pytest.approx(2 * 1.0 * 0.5 / 1.5)


def test_cldice_of_a_line_with_a_false_branch():
    truth = band(slice(5, 6), slice(1, 11))
    found = truth | band(slice(9, 10), slice(1, 6))  # five more, all false
    assert clean_dice(found, truth) == pytest.approx(2 * (10 / 15) * 1.0 / (10 / 15 + 1))


def test_cldice_forgives_width_where_dice_does_not():
    truth, found = band(slice(5, 6), slice(1, 11)), band(slice(4, 7), slice(1, 11))
    assert clean_dice(found, truth) == 1.0 and dice(found, truth) == 0.5


def test_cldice_of_lines_that_do_not_meet():
    assert clean_dice(band(slice(1, 2), slice(1, 9)), band(slice(7, 8), slice(1, 9))) == 0.0


def test_thinning_leaves_lines_and_keeps_what_hangs_together():
    cross = band(slice(4, 7), slice(0, 12)) | band(slice(0, 12), slice(4, 7))
    line = thin(cross)
    assert line[5, 2:10].all() and line[2:10, 5].all()
    assert not (line & ~cross).any() and line.sum() <= 23
    diagonal = np.eye(9, dtype=bool)
    assert (thin(diagonal) == diagonal).all()


def test_a_ring_stays_a_ring():
    ring = band(slice(1, 11), slice(1, 11)) & ~band(slice(4, 8), slice(4, 8))
    line = thin(ring)
    labels = np.pad(~line, 1, constant_values=True)
    import cv2

    assert cv2.connectedComponents(labels.astype(np.uint8), connectivity=4)[0] == 3  # itself, inside and outside


def test_recall_and_precision_within_a_tolerance():
    truth, found = band(slice(2, 3), slice(0, 10)), band(slice(4, 5), slice(0, 5))
    # Two rows below, as far as half of it reaches. A pixel is 0.5 mm high and 1 mm wide.
    assert within(found, truth, 1.0, (0.5, 1.0)) == 1.0
    assert within(found, truth, 0.9, (0.5, 1.0)) == 0.0
    assert within(truth, found, 1.0, (0.5, 1.0)) == 0.5
    # The sixth pixel lies 1 mm aside and 1 mm above: 1.41 mm.
    assert within(truth, found, 1.42, (0.5, 1.0)) == 0.6


def test_distances_of_tips_follow_the_spacing():
    truth = np.array([[3.0, 4.0], [0.0, 0.0]])
    found = np.array([[0.0, 0.0]])
    assert tip_distances(found, truth, (1, 1)).tolist() == [5.0, 0.0]
    assert tip_distances(found, truth, (0.5, 2.0))[0] == pytest.approx(math.hypot(6, 2))
    assert tip_distances(np.empty((0, 2)), truth, (1, 1)).tolist() == [math.inf, math.inf]


def test_the_tip_is_the_end_that_lies_in_the_direction_of_the_structure():
    hook = mask(
        "#.......",
        "#.......",
        "#.......",
        "#.....#.",
        "#....#..",
        ".####...",
        "........",
        ".......#",
    )
    assert tips(hook, np.array([0.0, -1.0])).tolist() == [[0.0, 0.0]]
    assert tips(hook, np.array([1.0, 0.0])).tolist() == [[6.0, 3.0]]  # a speck is no line
    assert tips(NONE, np.array([0.0, 1.0])).shape == (0, 2)


def test_the_mean_direction_of_lines():
    lines = [np.array([[0.0, 0.0], [1.0, 5.0], [0.0, 9.0]]), np.array([[4.0, 1.0], [4.0, 3.0]])]
    assert mean_direction(lines).tolist() == [0.0, 1.0]
    assert mean_direction([]).tolist() == [0.0, 1.0]
