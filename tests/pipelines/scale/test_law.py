"""The law against curves of known exponent, scipy's own least squares, and data that hold no answer."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from pipelines.scale import law

SIZES = np.array([10e3, 30e3, 50e3, 100e3, 300e3, 1e6])


def curve(b, c=0.08, at_30k=0.1, sizes=SIZES):
    return at_30k * (sizes / 30e3) ** -b + c


def squares(residual):
    return (residual**2).sum()


def spread(errors_SK, patient_sd, draws, rng):
    """What a bootstrap of patients gives: a shift that all sizes share."""
    shift = rng.normal(0, patient_sd, draws)
    return law.resample_seeds(errors_SK, np.repeat(errors_SK[:, :, None], draws, 2) + shift, rng)


@pytest.mark.parametrize("b", [0.05, 0.15, 0.3, 0.8, 1.5])
def test_a_curve_without_noise_is_found_again(b):
    fit = law.fit_laws(SIZES, curve(b)[:, None], "offset")
    assert fit.b[0] == pytest.approx(b, rel=1e-3)
    assert fit.error(2e6)[0] == pytest.approx(0.1 * (2e6 / 30e3) ** -b + 0.08, abs=2e-5)
    power = law.fit_laws(SIZES, curve(b, c=0.0)[:, None], "power")
    assert power.b[0] == pytest.approx(b, rel=1e-3) and power.c[0] == 0


def test_it_fits_no_worse_than_scipy():
    rng = np.random.default_rng(1)
    for _ in range(20):
        error = curve(rng.uniform(0.1, 0.6)) + rng.normal(0, 0.002, len(SIZES))
        ours = law.fit_laws(SIZES, error[:, None], "offset")
        theirs, _ = curve_fit(
            lambda n, a, b, c: a * (n / 1e5) ** -b + c, SIZES, error, (0.1, 0.3, 0.05), bounds=(0, [5, 3, 1]),
            maxfev=20000,
        )  # fmt: skip
        best = squares(theirs[0] * (SIZES / 1e5) ** -theirs[1] + theirs[2] - error)
        assert squares(np.array([ours.error(n)[0] for n in SIZES]) - error) <= best * 1.02 + 1e-9


def test_a_and_c_are_never_negative():
    rng = np.random.default_rng(2)
    rising = np.sort(rng.uniform(0, 0.2, (len(SIZES), 200)), 0)
    for form in law.FORMS:
        fit = law.fit_laws(SIZES, rising, form)
        assert (fit.a >= 0).all() and (fit.c >= 0).all() and np.isfinite(fit.error(1e6)).all()


@pytest.mark.parametrize(("b", "sd"), [(0.3, 0.001), (0.3, 0.003), (0.15, 0.001)])
def test_the_interval_of_the_exponent_covers_the_truth_as_often_as_it_says(b, sd):
    rng, covered, draws = np.random.default_rng(3), 0, 120
    for _ in range(draws):
        errors = curve(b)[:, None] + rng.normal(0, sd, (len(SIZES), 3)) + rng.normal(0, 0.004)
        fit = law.fit(SIZES, errors, spread(errors, 0.004, 300, rng), "offset")
        assert not law.why_not_identified(SIZES, fit)
        low, high = fit.interval
        covered += low <= b <= high
    assert covered / draws >= 0.89  # 95 % less three binomial deviations


def test_the_form_without_a_floor_looks_precise_where_it_is_wrong_and_is_not_preferred():
    rng = np.random.default_rng(4)
    errors = curve(0.3)[:, None] + rng.normal(0, 0.001, (len(SIZES), 3))
    fits = {form: law.fit(SIZES, errors, spread(errors, 0, 300, rng), form) for form in law.FORMS}
    low, high = fits["power"].interval
    assert high - low < 0.02 and high < 0.25
    assert law.prefer(fits)[0] == "offset"


def test_a_pure_power_law_is_preferred_where_there_is_no_floor_to_see():
    rng = np.random.default_rng(5)
    errors = curve(0.2, c=0.0)[:, None] + rng.normal(0, 0.0005, (len(SIZES), 3))
    fits = {form: law.fit(SIZES, errors, spread(errors, 0, 300, rng), form) for form in law.FORMS}
    assert law.prefer(fits)[0] == "power"


@pytest.mark.parametrize(
    ("sizes", "error", "sd"),
    [
        (SIZES[:3], curve(0.3)[:3], 0.001),  # three sizes
        (SIZES, np.full(len(SIZES), 0.2), 0.003),  # no trend
        (SIZES, curve(0.3), 0.05),  # all noise
        (SIZES, curve(2.0), 0.06),  # over after the first size
    ],
)
def test_it_says_when_the_data_cannot_identify_the_curve(sizes, error, sd):
    rng, told = np.random.default_rng(6), 0
    for _ in range(20):
        errors = error[:, None] + rng.normal(0, sd, (len(sizes), 3))
        told += bool(law.why_not_identified(sizes, law.fit(sizes, errors, spread(errors, 0, 300, rng), "offset")))
    assert told >= 18


def test_three_seeds_are_spread_as_wide_as_their_mean_varies():
    rng = np.random.default_rng(7)
    errors = rng.normal(0, 1, (400, 3))
    draws = law.resample_seeds(errors, np.repeat(errors[:, :, None], 200, 2), rng)
    of_a_mean = (errors.var(1, ddof=1).mean() / 3) ** 0.5
    assert (draws - errors.mean(1)[:, None]).std() == pytest.approx(of_a_mean, rel=0.02)
