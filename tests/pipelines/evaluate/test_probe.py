"""The linear probe on planted features, and the seeds' subsamples."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.evaluate import probe


def planted(images, dimensions=12, seed=0, strength=2.0):
    rng = np.random.default_rng(seed)
    target = (rng.random(images) < 0.4).astype(np.float32)
    features = rng.normal(size=(images, dimensions))
    features[:, 3] += strength * target
    patient = np.array([f"P{i // 2:03d}" for i in range(images)])
    return probe.Part(features, target, patient)


def fit(train, validation, test, minimum=5):
    x = probe.standardise(train.features, validation.features, test.features)
    parts = [probe.Part(f, p.target, p.patient) for f, p in zip(x, (train, validation, test), strict=True)]
    odds, penalty = probe.probe(parts[0], parts[1], parts[2].features, minimum)
    return roc_auc_score(test.target, odds), penalty


def test_probe_learns_a_planted_signal():
    area, _ = fit(planted(300), planted(60, seed=1), planted(200, seed=2))
    assert area > 0.88


def test_probe_learns_nothing_from_noise():
    area, _ = fit(planted(300, strength=0), planted(60, seed=1, strength=0), planted(400, seed=2, strength=0))
    assert 0.35 < area < 0.65


def test_unknown_labels_leave_the_fit():
    train, validation, test = planted(300), planted(60, seed=1), planted(200, seed=2)
    lies = planted(100, seed=3)
    lies.features[:, 3] *= -50
    lies.target[:] = np.nan
    mixed = [np.concatenate([getattr(p, k) for p in (train, lies)]) for k in ("features", "target", "patient")]
    mean, deviation = train.features.mean(0), train.features.std(0)
    odds = []
    for features, target, patient in ((train.features, train.target, train.patient), mixed):
        learn = probe.Part((features - mean) / deviation, target, patient)
        odds.append(probe.probe(learn, validation, test.features, 5)[0])
    np.testing.assert_allclose(odds[0], odds[1])


def test_validation_with_too_few_patients_of_a_class_is_not_asked():
    """A validation split that would demand the weakest penalty must not decide with one positive patient."""
    train = planted(120, strength=0.3)
    alone = planted(40, seed=1, strength=60)
    alone.target[:] = 0
    alone.target[0] = 1
    _, by_folds = fit(train, alone, planted(50, seed=2))
    _, empty = fit(train, probe.Part(alone.features[:0], alone.target[:0], alone.patient[:0]), planted(50, seed=2))
    assert by_folds == empty


@pytest.mark.parametrize("positives", [0, 1])
def test_hardly_any_positive_patient_still_gives_scores(positives):
    train = planted(20)
    train.target[:] = 0
    train.target[:positives] = 1
    odds, penalty = probe.probe(train, planted(10, seed=1), planted(30, seed=2).features, 50)
    assert np.isfinite(odds).all() and penalty == probe.DEFAULT_PENALTY


def test_a_seed_takes_nine_tenths_of_the_patients_whole():
    patient = np.repeat([f"P{i:03d}" for i in range(50)], 3)
    taken = {seed: probe.subsample(patient, seed) for seed in range(3)}
    for places in taken.values():
        assert len(places) == 135 and len(set(patient[places])) == 45
    assert set(taken[0]) != set(taken[1])
    shuffled = np.random.default_rng(0).permutation(150)
    assert set(patient[shuffled][probe.subsample(patient[shuffled], 0)]) == set(patient[taken[0]])


def test_constant_features_do_not_disturb():
    train = np.c_[np.ones(10), np.arange(10.0)]
    scaled, other = probe.standardise(train, np.c_[np.full(3, 7.0), np.arange(3.0)])
    assert (scaled[:, 0] == 0).all() and (other[:, 0] == 0).all()
    assert scaled[:, 1].std() == pytest.approx(1)
