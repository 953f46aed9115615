"""Labels, their targets on the images, and why some are not scored."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines import tables
from pipelines.cohort import Cohort
from pipelines.evaluate.tasks import Images, Question, frontal_images, questions, why_not
from tests.cohorts import make_cohort


@pytest.fixture
def cohort(tmp_path):
    cohort = Cohort.open(make_cohort(tmp_path / "cohort", side=32))
    rows = cohort.index.to_pylist()
    rows[3]["view"], rows[5]["view"] = "LATERAL", "unknown"
    cohort.index = pa.Table.from_pylist(rows, schema=tables.INDEX)
    return cohort


def test_lateral_images_are_left_out_and_unknown_views_stay(cohort):
    images = frontal_images(cohort)
    assert 3 not in images.rows and 5 in images.rows and len(images.rows) == len(cohort.index) - 1


def test_targets_belong_to_their_images(cohort):
    images = frontal_images(cohort)
    found = {(q.task, q.label): q.target for q in questions(cohort, images, ("findings", "lines", "view"))}
    assert list(found) == [("findings", "Cardiomegaly"), ("findings", "Effusion"), ("lines", "ETT"), ("view", "AP")]
    truth = {(r["accession"], r["label"]): r["value"] for r in cohort.labels.to_pylist()}
    for place, row in enumerate(images.rows):
        index = cohort.index.slice(row, 1).to_pylist()[0]
        for (task, label), target in found.items():
            value = truth.get((index["accession"], label), -1)
            if task == "view":
                value = {"AP": 1, "PA": 0}.get(index["view"], -1)
            assert target[place] == value if value >= 0 else np.isnan(target[place])


@pytest.mark.parametrize(
    ("test", "train", "reason"),
    [
        ([1, 1, 0], [1, 0], None),
        ([1, 0, 0], [1, 0], "fewer than 2 positive test patients"),
        ([1, 1, 1], [1, 0], "no negative test patient"),
        ([1, 1, 0], [1, np.nan], "the train split lacks one of the two classes"),
    ],
)
def test_a_label_is_scored_or_says_why_not(test, train, reason):
    n = len(test) + len(train)
    split = np.array(["test"] * len(test) + ["train"] * len(train), object)
    patient = np.array([f"P{i}" for i in range(n)], object)
    images = Images(np.arange(n), split, patient, np.array(["AP"] * n, object))
    found = why_not(Question("findings", "X", np.array(test + train, np.float32)), images, 2)
    assert (found and found["reason"]) == reason


def test_positive_patients_are_counted_not_images():
    patient = np.array(["P1", "P1", "P2", "P3", "P4"], object)
    images = Images(np.arange(5), np.array(["test"] * 3 + ["train"] * 2, object), patient, np.array(["AP"] * 5, object))
    found = why_not(Question("findings", "X", np.array([1, 1, 0, 1, 0], np.float32)), images, 2)
    assert found["positives"] == 1 and found["images"] == 3
