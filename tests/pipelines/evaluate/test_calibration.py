"""Reliability bins and the expected calibration error."""

import numpy as np
import pytest

from pipelines.evaluate import calibration


def log_odds(p):
    return np.log(p / (1 - p))


def test_bins_hold_equal_numbers_and_the_error_is_their_mean_distance():
    probability = np.linspace(0.05, 0.95, 40)
    target = (np.arange(40) % 2).astype(int)
    found = calibration.reliability(target, log_odds(probability), bins=4)
    assert found.images.tolist() == [10] * 4
    assert found.predicted == pytest.approx(probability.reshape(4, 10).mean(1))
    assert found.observed == pytest.approx([0.5] * 4)
    assert found.error == pytest.approx(np.abs(probability.reshape(4, 10).mean(1) - 0.5).mean())


def test_true_probabilities_have_a_small_error_and_overconfident_ones_a_large_one():
    rng = np.random.default_rng(0)
    odds = rng.normal(size=20000)
    target = (rng.random(20000) < 1 / (1 + np.exp(-odds))).astype(int)
    assert calibration.reliability(target, odds).error < 0.02
    assert calibration.reliability(target, 4 * odds).error > 0.1


def test_fewer_images_than_bins():
    found = calibration.reliability(np.array([0, 1, 1]), np.array([-1.0, 0.0, 2.0]))
    assert found.images.tolist() == [1, 1, 1]
