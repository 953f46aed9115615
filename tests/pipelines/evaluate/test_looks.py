"""Looks at a test split are counted once each, in order, and never silently not."""

import json

import pytest

from pipelines.cohort import Cohort
from pipelines.contract import RunFolder
from pipelines.evaluate import looks
from pipelines.evaluate.models import Model
from tests.cohorts import make_cohort
from tests.pipelines.evaluate.folders import bare_model


@pytest.fixture
def cohort(tmp_path):
    return Cohort.open(make_cohort(tmp_path / "cohort", patients=4, side=32))


def folder(path):
    path.mkdir(exist_ok=True)
    return RunFolder(path)


def test_every_run_is_a_look_and_a_resumed_one_the_look_it_was(cohort, tmp_path):
    models = [Model.open(bare_model(tmp_path / "m", "seen"))]
    first, second = folder(tmp_path / "a"), folder(tmp_path / "b")
    assert [looks.count(cohort, models, run, None) for run in (first, second, first, second)] == [1, 2, 1, 2]
    lines = [json.loads(line) for line in (cohort.folder / looks.LEDGER).read_text().splitlines()]
    assert [line["look"] for line in lines] == [1, 2] and lines[0]["models"] == [models[0].digest]
    assert Cohort.open(cohort.folder).digest == cohort.digest, "the ledger is no part of what was built"


def test_a_control_plane_gives_its_own_count(cohort, tmp_path):
    assert looks.count(cohort, [], folder(tmp_path / "a"), 7) == 7
    assert not (cohort.folder / looks.LEDGER).exists() and not (tmp_path / "a" / looks.OWN).exists()


def test_a_cohort_that_cannot_be_written_says_that_nothing_was_counted(cohort, tmp_path):
    (cohort.folder / looks.LEDGER).mkdir()
    run = folder(tmp_path / "a")
    assert looks.count(cohort, [], run, None) is None
    assert "not counted" in (tmp_path / "a" / "events.jsonl").read_text()
    assert "were not counted" in looks.in_words(None) and looks.in_words(3).endswith("among them: 3.")
