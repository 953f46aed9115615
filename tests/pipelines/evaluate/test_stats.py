"""Metrics against scikit-learn, the bootstrap against a plain double loop, and the laws of intervals and p values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from pipelines.evaluate import stats

# Few distinct scores, so that ties are the rule.
ROWS = st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(0, 4)), min_size=2, max_size=40).filter(
    lambda rows: len({r[0] for r in rows}) == 2
)


def by_scikit_learn(target, score):
    """stats.METRICS."""
    false, true, _ = roc_curve(target, score, drop_intermediate=False)
    return [
        roc_auc_score(target, score),
        average_precision_score(target, score),
        true[false <= 1 - stats.SPECIFICITY + 1e-9].max(),
        brier_score_loss(target, expit(score.astype(float))),
    ]


def columns(rows):
    target, score, cluster = (np.array(column) for column in zip(*rows, strict=True))
    return target.astype(int), score.astype(np.float32), cluster


@settings(deadline=None)
@given(ROWS)
def test_metrics_equal_scikit_learn_with_ties(rows):
    target, score, _ = columns(rows)
    assert stats.auroc(target, score) == pytest.approx(roc_auc_score(target, score), abs=1e-12)
    assert stats.auprc(target, score) == pytest.approx(average_precision_score(target, score), abs=1e-12)
    np.testing.assert_allclose(stats.Ranking.of(target, score).value(), by_scikit_learn(target, score), atol=1e-12)


@settings(deadline=None)
@given(ROWS, st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_weights_of_clusters_equal_rows_written_several_times(rows, weights):
    target, score, cluster = columns(rows)
    times = np.array(weights)[cluster]
    again, ranked = np.repeat(target, times), np.repeat(score, times)
    measured = stats.Ranking.of(target, score, cluster).measure(np.array(weights, float)[:, None])[:, 0]
    if len(set(again)) < 2:
        assert np.isnan(measured).all()
    else:
        np.testing.assert_allclose(measured, by_scikit_learn(again, ranked), atol=1e-12)


def test_bootstrap_equals_a_plain_loop_over_drawn_patients():
    rng = np.random.default_rng(3)
    patient = np.sort(rng.integers(30, size=90))
    target = (rng.random(90) < 0.4).astype(int)
    score = (target + rng.normal(size=90)).astype(np.float32)
    ranking = stats.Ranking.of(target, score, patient)
    for counts, _ in stats.draw_patients(30, 1, 50, state=9):
        fast = ranking.measure(counts)
        for d in range(counts.shape[1]):
            rows = [i for p in range(30) for _ in range(int(counts[p, d])) for i in np.flatnonzero(patient == p)]
            np.testing.assert_allclose(fast[:, d], by_scikit_learn(target[rows], score[rows]), atol=1e-12)


def test_draws_resample_whole_patients_and_take_every_seed(monkeypatch):
    blocks = list(stats.draw_patients(20, 3, 500, state=1))
    counts, taken = np.concatenate([b[0] for b in blocks], 1), np.concatenate([b[1] for b in blocks])
    assert (counts.sum(0) == 20).all()
    assert counts.mean(1).min() > 0.9 and counts.mean(1).max() < 1.1
    assert set(taken) == {0, 1, 2}
    monkeypatch.setattr(stats, "BLOCK", 7)
    small = list(stats.draw_patients(20, 3, 500, state=1))
    assert np.array_equal(counts, np.concatenate([b[0] for b in small], 1))


def test_interval_is_the_percentile_interval_of_defined_draws():
    draws = np.r_[np.arange(1001.0), np.nan]
    assert stats.interval(draws) == pytest.approx((25.0, 975.0))
    assert np.isnan(stats.interval(np.array([np.nan]))).all()


def test_the_expanded_interval_reaches_as_far_as_students_t_and_ends_at_the_percentiles():
    draws = np.random.default_rng(0).normal(size=200_000)
    low, high = stats.interval(draws, patients=10)
    assert high == pytest.approx(2.262 * np.sqrt(10 / 9), rel=0.02) and low == pytest.approx(-high, rel=0.02)
    assert stats.interval(draws, patients=100_000) == pytest.approx(stats.interval(draws), rel=0.001)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 200), st.floats(-3.5, 3.5))
def test_p_is_below_five_percent_where_the_expanded_interval_leaves_zero_out(patients, shift):
    draws = shift + np.linspace(-3, 3, 1999)
    low, high = stats.interval(draws, patients=patients)
    if min(abs(low), abs(high)) > 0.05:
        assert (stats.two_sided_p(draws, patients) < 0.05) == (low > 0 or high < 0)


def test_a_gap_of_two_shares_cannot_be_more_than_one():
    draws = np.random.default_rng(0).normal(0.1, 0.1, 2000)
    low, high = stats.interval(draws, patients=2)
    assert low < -1 and high > 1
    assert stats.interval_of_gap(draws, 2) == (-1, 1)
    assert stats.interval_of_gap(draws, 200) == stats.interval(draws, patients=200)


def test_the_interval_of_a_share_is_students_t_on_the_log_odds():
    draws = 0.9 + 0.02 * np.random.default_rng(0).normal(size=50_000)
    low, high = stats.interval_of_share(0.9, draws, 30)
    step = stats.reach(0.95, 30) * 0.02 / 0.09
    odds = np.log(9)
    assert (low, high) == pytest.approx((1 / (1 + np.exp(step - odds)), 1 / (1 + np.exp(-step - odds))), abs=1e-3)
    assert 0 < low < 0.9 < high < 1 and 0.9 - low > high - 0.9


def test_a_perfect_share_has_the_exact_bound_of_no_error():
    # Clopper and Pearson: 30 of 30 right, 88.4 % to 100 %.
    assert stats.interval_of_share(1.0, np.ones(99), 30) == pytest.approx((0.884, 1.0), abs=5e-4)
    assert stats.interval_of_share(0.0, np.zeros(99), 30) == pytest.approx((0.0, 0.116), abs=5e-4)
    assert np.isnan(stats.interval_of_share(float("nan"), np.full(9, np.nan), 30)).all()


def test_p_is_small_only_when_draws_lie_on_one_side():
    assert stats.two_sided_p(np.full(999, 0.1)) == pytest.approx(2 / 1000)
    assert stats.two_sided_p(np.full(999, -0.1)) == pytest.approx(2 / 1000)
    assert stats.two_sided_p(np.zeros(999)) == 1.0
    assert stats.two_sided_p(np.r_[np.full(500, 1.0), np.full(499, -1.0)]) == 1.0


def test_holm_follows_the_published_example():
    # Holm (1979) steps: 0.01 * 4, max(., 0.02 * 3), max(., 0.03 * 2), max(., 0.04 * 1).
    np.testing.assert_allclose(stats.holm(np.array([0.03, 0.01, 0.04, 0.02])), [0.06, 0.04, 0.06, 0.06])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_and_lies_below_bonferroni(p):
    adjusted = stats.holm(np.array(p))
    assert (adjusted >= np.array(p)).all() and (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
