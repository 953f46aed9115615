"""Who is compared with whom, and how models are called."""

import pytest

from pipelines.contract import BadInput
from pipelines.evaluate.models import open_contest
from pipelines.evaluate.spec import Spec
from tests.pipelines.evaluate.folders import bare_model, digest


def contest(models, baselines=()):
    return open_contest(Spec(cohort="c", models=tuple(models), baselines=tuple(baselines)))


def run_with_start(folder, name="run", encoder="rad-dino-tiny"):
    start = bare_model(folder / "start", f"{name} start", "untrained", encoder=encoder)
    return bare_model(folder / "model", name, "run", encoder=encoder, start=digest(start))


def test_a_tiny_run_is_compared_with_its_own_start_by_itself(tmp_path):
    found = contest([run_with_start(tmp_path / "a", "one"), run_with_start(tmp_path / "b", "two")])
    assert found.pairs == {("one", "one start"): "its untrained start", ("two", "two start"): "its untrained start"}
    assert [m.name for m in found.all] == ["one", "two", "one start", "two start"]


def test_a_full_size_run_is_not(tmp_path):
    assert contest([run_with_start(tmp_path, encoder="rad-dino")]).pairs == {}


def test_the_start_given_as_baseline_stands_once(tmp_path):
    model = run_with_start(tmp_path)
    found = contest([model], [tmp_path / "start"])
    assert list(found.pairs) == [("run", "run start")] and len(found.all) == 2


def test_every_model_is_compared_with_every_given_baseline(tmp_path):
    open_weight = bare_model(tmp_path / "open", "RAD-DINO", "open-weight")
    models = [bare_model(tmp_path / name, name, start=digest(open_weight)) for name in ("one", "two")]
    found = contest(models, [open_weight, models[1]])
    assert found.pairs == {
        ("one", "RAD-DINO"): "its open-weight start",
        ("one", "two"): "two",
        ("two", "RAD-DINO"): "its open-weight start",
    }
    assert [m.name for m in found.baselines] == ["RAD-DINO"]


def test_equal_names_are_told_apart(tmp_path):
    models = [bare_model(tmp_path / kind, "same", kind) for kind in ("run", "untrained")]
    names = [m.name for m in contest(models).models]
    assert names == [f"same ({digest(m)[:8]})" for m in models]


def test_a_model_named_twice_is_refused(tmp_path):
    model = bare_model(tmp_path / "m", "one")
    with pytest.raises(BadInput, match="more than once"):
        contest([model, model])
