"""DeLong's variance and paired test against their definition in plain loops, and against the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from pipelines.evaluate import delong, stats

ROWS = st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(-3, 3)), min_size=6, max_size=30).filter(
    lambda rows: 2 <= sum(r[0] for r in rows) <= len(rows) - 2
)


def columns(rows):
    target, first, second = (np.array(column) for column in zip(*rows, strict=True))
    return target.astype(int), first.astype(np.float32), second.astype(np.float32)


def by_loops(target, *scores):
    """AUROCs and their covariance as the paper defines them, pair by pair."""
    ups, downs = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
    won = np.zeros((len(scores), len(ups), len(downs)))
    for k, score in enumerate(scores):
        for i, up in enumerate(ups):
            for j, down in enumerate(downs):
                won[k, i, j] = 1.0 if score[up] > score[down] else 0.5 if score[up] == score[down] else 0.0
    covariance = np.cov(won.mean(2)) / len(ups) + np.cov(won.mean(1)) / len(downs)
    return won.mean((1, 2)), covariance.reshape(len(scores), len(scores))


@settings(deadline=None)
@given(ROWS)
def test_variance_and_p_equal_the_definition_with_ties(rows):
    target, first, second = columns(rows)
    areas, covariance = by_loops(target, first, second)
    ours = [delong.placements(target, s) for s in (first, second)]
    for k, placed in enumerate(ours):
        assert placed.auroc == pytest.approx(roc_auc_score(target, (first, second)[k]), abs=1e-12)
        assert placed.variance == pytest.approx(covariance[k, k], abs=1e-12)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance > 1e-12:
        expected = 2 * norm.sf(abs(areas[0] - areas[1]) / np.sqrt(variance))
        assert delong.paired_p(*ours) == pytest.approx(expected, abs=1e-9)


def test_equal_rankings_have_a_p_of_one():
    target, score = np.array([0, 1, 0, 1, 1, 0]), np.array([1.0, 2, 3, 4, 5, 6])
    assert delong.paired_p(*[delong.placements(target, s) for s in (score, 10 * score)]) == 1.0


def test_one_image_of_a_class_gives_no_variance_and_no_claim():
    target = np.array([0, 1, 0, 0])
    ours, theirs = (delong.placements(target, np.array(s)) for s in ([1, 2, 0, 1], [3, 2, 0, 1]))
    assert np.isnan(ours.variance) and delong.paired_p(ours, theirs) == 1.0


def test_mean_over_seeds_is_the_mean_auroc_and_its_variance_that_of_the_mean():
    rng = np.random.default_rng(0)
    target = (rng.random(60) < 0.4).astype(int)
    scores = rng.normal(size=(3, 60)) + target
    _, covariance = by_loops(target, *scores)
    mean = delong.mean([delong.placements(target, s) for s in scores])
    assert mean.auroc == pytest.approx(np.mean([roc_auc_score(target, s) for s in scores]))
    assert mean.variance == pytest.approx(covariance.mean())


def test_the_bootstrap_of_single_images_agrees():
    rng = np.random.default_rng(1)
    target = (rng.random(800) < 0.3).astype(int)
    shared = rng.normal(size=800)
    first, second = (shared + rng.normal(size=800) + gain * target for gain in (1.2, 1.0))
    ours, theirs = delong.placements(target, first), delong.placements(target, second)
    rankings = [stats.Ranking.of(target, s) for s in (first, second)]
    draws = np.concatenate(
        [rankings[0].measure(w)[0] - rankings[1].measure(w)[0] for w, _ in stats.draw_patients(800, 1, 4000)]
    )
    z = (ours.auroc - theirs.auroc) / draws.std()
    assert delong.paired_p(ours, theirs) == pytest.approx(2 * norm.sf(abs(z)), rel=0.15)
