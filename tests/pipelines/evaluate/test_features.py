"""Features are computed once, in the order of rows, and go on where a killed extraction stopped."""

import numpy as np
import pytest
import torch

from pipelines.cohort import Cohort
from pipelines.contract import RunFolder
from pipelines.evaluate import features
from pipelines.evaluate.models import Model
from tests.cohorts import make_cohort
from tests.pipelines.evaluate.folders import bare_model


class Counting:
    """Mean grey and largest grey of an image, counting what it was asked for; dies after `die_after` batches."""

    def __init__(self, die_after=None):
        self.seen, self.batches, self.die_after = 0, 0, die_after

    def prepare(self, images):
        return images

    def features(self, x):
        if self.batches == self.die_after:
            raise MemoryError
        self.batches += 1
        self.seen += len(x)
        pooled = torch.tensor([[float(i.mean())] for i in x])
        patches = torch.tensor([[float(i.max()), float(i.min())] for i in x])[:, None, None].repeat(1, 2, 2, 1)
        return pooled, patches


@pytest.fixture
def world(tmp_path, monkeypatch):
    cohort = Cohort.open(make_cohort(tmp_path / "cohort", side=32))
    model = Model.open(bare_model(tmp_path / "model", "m"))
    monkeypatch.setattr(features, "SAVE_EVERY", 2)
    rows = np.arange(2, 72)

    def extract(encoder, of=cohort, rows=rows, kind="pooled"):
        monkeypatch.setattr(features, "load", lambda *_: encoder)
        return features.extract(model, of, rows, "cpu", RunFolder(tmp_path / "run"), tmp_path / "run", kind)

    return extract, cohort, rows


def test_a_feature_is_the_pooled_output_and_the_mean_patch_of_its_row(world):
    extract, cohort, rows = world
    expected = [[cohort.image(r).mean(), cohort.image(r).max(), cohort.image(r).min()] for r in rows]
    np.testing.assert_allclose(extract(Counting()), expected, rtol=1e-6)


def test_a_killed_extraction_goes_on_from_what_was_saved(world):
    extract, _, rows = world
    with pytest.raises(MemoryError):
        extract(Counting(die_after=3))
    rest = Counting()
    resumed = np.array(extract(rest))
    assert rest.seen == len(rows) - 2 * features.BATCH
    again = Counting()
    assert np.array_equal(extract(again), resumed) and again.seen == 0


def test_features_of_another_cohort_are_not_taken(world, tmp_path):
    extract, _, rows = world
    extract(Counting())
    fresh = Counting()
    extract(fresh, Cohort.open(make_cohort(tmp_path / "other", side=32, seed=1)))
    assert fresh.seen == len(rows)


def test_patches_of_other_rows_stand_beside_and_resume_too(world):
    extract, cohort, rows = world
    extract(Counting())
    some = rows[5:40]
    with pytest.raises(MemoryError):
        extract(Counting(die_after=2), rows=some, kind="patches")
    found = extract(Counting(), rows=some, kind="patches")
    assert found.dtype == np.float16 and found.shape == (35, 2, 2, 2)
    expected = np.array([[cohort.image(r).max(), cohort.image(r).min()] for r in some])
    np.testing.assert_array_equal(found[:, 1, 0], expected.astype(np.float16))
    kept = Counting()
    extract(kept)
    assert kept.seen == 0


def test_a_token_too_large_for_half_precision_stays_finite(world):
    class Loud(Counting):
        def features(self, x):
            pooled, patches = super().features(x)
            return pooled, patches * 1e6

    extract, _, _ = world
    assert np.isfinite(extract(Loud(), kind="patches")).all()
