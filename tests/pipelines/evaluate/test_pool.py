"""A teacher for a set that is all test: who teaches, who is asked, whose features are read, who may not be both."""

import json

import numpy as np
import pytest

from pipelines import tables
from pipelines.cohort import Cohort
from pipelines.contract import BadInput, Outcome, run_stage
from pipelines.evaluate import features
from pipelines.evaluate.pool import Pool, Stacked, make_pool
from pipelines.evaluate.tasks import choose, frontal_images
from tests.cohorts import make_cohort
from tests.pipelines.evaluate.folders import tiny_model

TASKS = ("findings", "lines")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A site's cohort and one of elsewhere, both with every label."""
    root = tmp_path_factory.mktemp("pool")
    site = make_cohort(root / "site", patients=50, side=32, practice=False)
    elsewhere = make_cohort(root / "elsewhere", patients=60, side=32, seed=9, practice=False)
    return root, site, elsewhere


def test_the_teacher_teaches_and_the_cohort_is_asked(world):
    _, site, elsewhere = (world[0], *(Cohort.open(folder) for folder in world[1:]))
    images, theirs = frontal_images(elsewhere), frontal_images(site)
    pool, asked = make_pool(elsewhere, images, site, TASKS)
    learnt, test = np.flatnonzero(theirs.split != "test"), images.of("test")
    assert pool.images.split.tolist() == [*theirs.split[learnt], *images.split[test]]
    for split, own, source in (("train", theirs, site), ("validation", theirs, site), ("test", images, elsewhere)):
        assert pool.images.rows[pool.images.of(split)].tolist() == own.rows[own.of(split)].tolist()
        for question in asked:
            expected = source.label_matrix([question.label])[own.rows[own.of(split)], 0]
            np.testing.assert_array_equal(question.target[pool.images.of(split)], expected)
    scored, reasons = choose(asked, pool.images, 3, ("linear",))
    assert [q.label for q in scored] == ["Cardiomegaly", "Effusion", "ETT"] and not reasons
    alone, _ = make_pool(elsewhere, images, None, TASKS)
    assert alone.digest == elsewhere.digest != pool.digest, "without a teacher what stands in the store stays good"


def test_features_of_a_place_are_those_of_its_cohort(world, monkeypatch, tmp_path):
    site, elsewhere = (Cohort.open(folder) for folder in world[1:])
    pool, _ = make_pool(elsewhere, frontal_images(elsewhere), site, TASKS)

    def extract(model, cohort, rows, device, run, store, kind):
        return np.stack([np.full(len(rows), float(cohort is elsewhere)), rows], 1)

    monkeypatch.setattr(features, "extract", extract)
    expected = np.stack([pool.images.split == "test", pool.images.rows], 1).astype(float)
    ask = lambda places=None: pool.features(None, "cpu", None, tmp_path, places)  # noqa: E731
    np.testing.assert_array_equal(np.concatenate(ask()), expected)
    some = np.array([0, 5, len(expected) - 3, len(expected) - 1])
    stacked = Stacked(ask(some))
    assert stacked.shape == (4, 2)
    np.testing.assert_array_equal(np.stack([stacked[i] for i in range(4)]), expected[some])
    (test_alone,) = ask(pool.images.of("test"))
    assert (test_alone[:, 0] == 1).all(), "the teacher is not opened for what only the asked cohort has"


def test_a_patient_never_teaches_and_is_asked(world):
    cohort = Cohort.open(world[1])
    images = frontal_images(cohort)
    again, asked = make_pool(cohort, images, cohort, TASKS)
    assert isinstance(again, Pool) and len(asked) == 3, "a cohort may be its own teacher: its splits are apart"
    moved = images.split.copy()
    moved[images.of("train")[:1]] = "test"
    torn = type(images)(images.rows, moved, images.patient, images.view)
    with pytest.raises(BadInput, match="1 patients would teach the probes and be asked about"):
        make_pool(cohort, torn, cohort, TASKS)


def test_an_evaluation_with_a_teacher_scores_the_set_alone(world, tmp_path):
    root, site, elsewhere = world
    model = tiny_model(root / "m", "ours", "run", 1, practice=False)
    values = {"cohort": str(elsewhere), "teacher": str(site), "models": [str(model)], "tasks": list(TASKS)}
    values |= {"methods": ["linear", "attentive"], "attentive": {"steps": 10, "batch": 8}, "seeds": [0]}
    values |= {"resamples": 100, "minimum_positives": 3, "device": "cpu"}
    assert run_stage("evaluate", values, tmp_path / "e") is Outcome.DONE
    result = json.loads((tmp_path / "e" / "result.json").read_text())
    taught = Cohort.open(site)
    assert result["cohort"]["teacher"] == taught.digest and not result["practice"]
    assert result["cohort"]["splits"]["train"]["images"] == len(taught.rows("train"))
    scores = tables.read_table(tmp_path / "e" / "scores.parquet", tables.SCORES)
    index = Cohort.open(elsewhere).index.to_pydict()
    assert set(scores["method"].to_pylist()) == {"linear", "attentive"}
    for image, patient in set(zip(scores["image"].to_pylist(), scores["patient"].to_pylist(), strict=True)):
        assert (index["split"][image], index["patient"][image]) == ("test", patient)
    macro = result["tasks"]["findings"]["ours"]["macro"]["auroc"]["value"]
    assert macro > 0.6, "what the site's images taught holds elsewhere: both draw their findings alike"
    assert "Probes learnt from another cohort" in (tmp_path / "e" / "report.html").read_text()
