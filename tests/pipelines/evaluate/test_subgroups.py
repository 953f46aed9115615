"""Subgroups: values against scikit-learn on the group's rows, gaps, floors, attributes that say nothing."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from pipelines import tables
from pipelines.evaluate import subgroups
from tests.pipelines.evaluate.test_results import row, score_table


@pytest.fixture(scope="module")
def world():
    """A model that ranks women well and men by chance; two images a patient, one of each view."""
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(90), 2)
    woman, target = patient % 2 == 0, (rng.random(180) < 0.5).astype(float)
    score = rng.normal(size=(2, 180)) + 3 * target * woman
    scores = score_table({"m": {"A": score}}, {"A": target}, patient)
    images = pa.table(
        {
            "image": np.arange(180),
            "patient": [f"P{p:03d}" for p in patient],
            "view": ["AP", "PA"] * 90,
            "sex": np.where(woman, "F", "M").tolist(),
            "age": pa.array([None if p == 0 else 30 + 30 * (p % 3 == 0) for p in patient], pa.int16()),
            "modality": ["DX"] * 180,
            "site": [None] * 180,
        },
        schema=tables.SCORED_IMAGES,
    )
    return scores, images, score, target, woman


def test_a_group_has_the_auroc_of_its_own_images(world):
    scores, images, score, target, woman = world
    rows = subgroups.analyse(scores, images, 5, 200)
    for name, of in (("F", woman), ("M", ~woman)):
        found = row(rows, attribute="sex", group=name, label="A")
        expected = np.mean([roc_auc_score(target[of], s[of].astype(np.float32)) for s in score])
        assert found["value"] == pytest.approx(expected) and found["low"] < expected < found["high"]
        assert found["images"] == of.sum() and found["patients"] == 45


def test_a_planted_gap_is_shown_with_its_groups(world):
    rows = subgroups.analyse(world[0], world[1], 5, 200)
    gap = row(rows, attribute="sex", group="gap", label="macro")
    women, men = (row(rows, attribute="sex", group=g, label="macro")["value"] for g in "FM")
    assert gap["value"] == pytest.approx(women - men) and gap["low"] > 0 and gap["between"] == "F and M"
    assert row(rows, attribute="view", group="gap", label="A")["low"] < 0.1


def test_attributes_of_one_value_are_left_out_and_small_groups_have_no_value(world):
    rows = subgroups.analyse(world[0], world[1], 5, 100)
    assert {r["attribute"] for r in rows} == {"sex", "age", "view"}
    unknown = row(rows, attribute="age", group="unknown", label="A")
    assert unknown["value"] is None and unknown["patients"] == 1
    assert row(rows, attribute="age", group="18 to 39", label="A")["value"] is not None
    assert pa.Table.from_pylist(rows, schema=tables.SUBGROUPS).num_rows == len(rows)
