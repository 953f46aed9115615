"""Maps of tubes' tips in an evaluation: which images, what lies where, and that nothing is computed twice."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.cohort import Cohort
from pipelines.contract import RunFolder
from pipelines.evaluate import features
from pipelines.evaluate.models import Model
from pipelines.evaluate.tasks import Images, frontal_images
from pipelines.similarity import report
from tests.cohorts import add_masks, make_cohort, tubes
from tests.pipelines.evaluate.folders import tiny_model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Images, list[Model]]:
    root = tmp_path_factory.mktemp("similarity")
    folder = make_cohort(root / "cohort", patients=30, side=56)
    add_masks(folder, tubes(Cohort.open(folder)))
    cohort = Cohort.open(folder)
    models = [Model.open(tiny_model(root / name, name, "run", seed)) for seed, name in enumerate(("one", "two"))]
    return cohort, frontal_images(cohort), models


def test_tips_are_the_first_test_images_with_a_tube_and_lie_where_it_ends(world) -> None:
    cohort, images, _ = world
    tips = report.choose_tips(cohort, images, 2)
    index, ett = cohort.index.to_pylist(), cohort.label_matrix(["ETT"])[:, 0]
    expected = [r["image"] for r in index if r["split"] == "test" and ett[r["image"]] == 1 and r["view"] != "LATERAL"]
    assert [t.image for t in tips] == expected[:2] and [t.number for t in tips] == [1, 2]
    for tip in tips:
        assert tip.point == pytest.approx((0.5, 0.45))
    assert report.choose_tips(cohort, images, 0) == []


def test_a_tip_outside_of_the_square_is_passed_over(world) -> None:
    cohort, images, _ = world
    first, second = report.choose_tips(cohort, images, 2)
    rows = cohort.masks.to_pylist()
    for row in rows:
        if row["image"] == first.image and row["structure"] == "ett":
            row["points"] = [0.0, 0.0, 0.0, -9.0]
    other = Cohort.open(cohort.folder)
    other.__dict__["masks"] = cohort.masks.from_pylist(rows, cohort.masks.schema)
    assert report.choose_tips(other, images, 1)[0].image == second.image


def test_pictures_are_made_once_and_say_nothing_of_the_patient(world, tmp_path: Path, monkeypatch) -> None:
    cohort, images, models = world
    run = RunFolder(tmp_path / "run")
    shown = report.write_panels(cohort, images, models, 2, "cpu", run, tmp_path / "store")
    assert [s["file"] for s in shown] == ["similarity/ett-1.png", "similarity/ett-2.png"]
    (section,) = report.sections(shown, run.root)
    assert section.html.count("data:image/png") == 2 and "ETT" in section.html and "not" in section.html
    said = json.dumps(shown) + section.html.split("base64")[0] + (run.root / "events.jsonl").read_text()
    for column in ("patient", "accession", "instance", "study"):
        assert not any(value in said for value in cohort.index[column].to_pylist())

    def load(model: Model, device: str) -> None:
        raise AssertionError("opened again")

    monkeypatch.setattr(features, "load", load)
    again = RunFolder(tmp_path / "again")
    assert report.write_panels(cohort, images, models, 2, "cpu", again, tmp_path / "store") == shown
    for one in shown:
        assert (again.root / one["file"]).read_bytes() == (run.root / one["file"]).read_bytes()


def test_maps_come_back_from_the_store_as_they_were(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    seen = report.Seen(0.1, 0, 0.9, 1)
    found = [report.ModelMaps("m", seen, [report.Map(3, 12, (1, 2), values)]), report.ModelMaps("m", seen, [])]
    report._save(tmp_path / "a.npz", found)
    first, second = report._read(tmp_path / "a.npz", "other name")
    assert (first.model, first.seen, second.maps) == ("other name", seen, [])
    assert (first.maps[0].block, first.maps[0].blocks, first.maps[0].patch) == (3, 12, (1, 2))
    np.testing.assert_array_equal(first.maps[0].values, values)


def test_a_report_without_tips_says_nothing(tmp_path: Path) -> None:
    assert report.sections([], tmp_path) == []
