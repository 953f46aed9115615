"""Break-even: the smallest size from which on all intervals lie above zero, with its error rates kept."""

import numpy as np
import pytest

from pipelines.scale.breakeven import Curve, break_evens

SIZES = np.array([10_000, 30_000, 100_000])


def curve(value, error=0.01, draws=1000, seed=0, shared=0.0):
    rng = np.random.default_rng(seed)
    value = np.asarray(value, float)
    noise = rng.normal(0, error, (len(value), draws)) + shared * rng.normal(0, error, draws)
    return Curve(SIZES[: len(value)], value, value[:, None] + noise)


@pytest.mark.parametrize(
    ("value", "samples"),
    [
        ([0.05, 0.06, 0.07], 10_000),
        ([0.00, 0.06, 0.07], 30_000),
        ([0.06, 0.00, 0.07], 100_000),  # it must stay so
        ([0.06, 0.07, 0.00], None),
        ([-0.1, -0.1, -0.1], None),
        ([0.015, 0.015, 0.015], None),  # 1.5 standard errors
    ],
)
def test_the_smallest_size_that_stays_above_zero(value, samples):
    assert break_evens({"findings": curve(value)})["findings"].samples == samples


def test_tasks_share_the_error_rate_by_holms_steps():
    weak = curve([0.0, 0.0, 0.0255], seed=1)  # by itself just significant
    alone = break_evens({"lines": weak})["lines"]
    assert alone.samples == 100_000 and alone.level == pytest.approx(0.95)
    beside = break_evens({"lines": weak, "view": curve([0, 0, 0], seed=2)})
    assert beside["lines"].level == pytest.approx(0.975) and beside["lines"].samples is None
    strong = break_evens({"lines": weak, "findings": curve([0.2, 0.2, 0.2], seed=3)})
    assert strong["findings"].samples == 10_000
    assert strong["lines"].level == pytest.approx(0.95) and strong["lines"].samples == 100_000


def test_after_a_task_that_fails_no_other_is_reached():
    first = curve([0.0, 0.0, 0.024], seed=4)
    curves = {"a": first, "b": curve([0.0, 0.0, 0.0235], seed=5)}
    assert all(found.samples is None for found in break_evens(curves).values())


def test_an_equal_model_is_called_better_at_most_as_often_as_stated():
    rng, false, trials = np.random.default_rng(8), 0, 400
    for trial in range(trials):
        curves = {}
        for k, task in enumerate(("findings", "lines", "view")):
            truth = np.zeros(3)
            seen = truth + rng.normal(0, 0.01, 3)
            draws = seen[:, None] + np.random.default_rng([trial, k]).normal(0, 0.01, (3, 400))
            curves[task] = Curve(SIZES, seen, draws)
        false += any(found.samples is not None for found in break_evens(curves).values())
    assert false / trials <= 0.05


def test_draws_that_a_label_left_undefined_are_left_out():
    whole = curve([0.05, 0.06, 0.07])
    draws = whole.draws.copy()
    draws[1, ::7] = np.nan
    assert break_evens({"f": Curve(SIZES, whole.value, draws)})["f"].samples == 10_000
