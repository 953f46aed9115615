"""A set that is all test, scored by text alone: who answers, what is shown, texts of the site's own, refusals."""

import csv
import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines import tables
from pipelines.contract import Outcome, run_stage
from pipelines.evaluate.promotion import rule
from server.cli import command_line
from server.cli.stages import read_spec
from tests.cohorts import SENTENCES, draw
from tests.pipelines.evaluate.folders import tiny_mi2, tiny_model

TEXTS = [text for pair in SENTENCES.values() for text in pair]
OWN = {"positive": ["white bases"], "negative": ["dark bases", "clear bases"]}
SPEC = """
cohort = "set"
models = ["model"]
baselines = ["other", "image only"]
tasks = ["findings", "lines"]
resamples = 200
minimum_positives = 4
device = "cpu"

[prompts."Pleural Effusion"]
positive = ["white bases"]
negative = ["dark bases", "clear bases"]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The evaluation of two models with a text tower and one without on a set of test patients only."""
    root = tmp_path_factory.mktemp("zero-shot")
    rng = np.random.default_rng(5)
    (root / "folder").mkdir()
    rows = []
    for i in range(30):
        truth = {label: bool(rng.random() < 0.5) for label in SENTENCES}
        shown = draw(rng, 48, truth, "PA")["pixels"]
        assert cv2.imwrite(str(root / "folder" / f"{i}.png"), shown)
        rows.append(
            {"image": f"{i}.png", "patient": f"p{i // 2}", "view": "PA"} | {k: int(v) for k, v in truth.items()}
        )
    with (root / "folder" / "labels.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    external = {"folder": str(root / "folder"), "name": "Next door", "side": 48, "workers": 1}
    assert run_stage("external", external, root / "set") is Outcome.DONE
    tiny_mi2(root / "model", "first", "run", 0, TEXTS)
    tiny_mi2(root / "other", "second", "open-weight", 1, TEXTS)
    tiny_model(root / "image only", "blind to text", "open-weight", 2)
    (root / "spec.toml").write_text(SPEC)
    assert run_stage("evaluate", read_spec(root / "spec.toml"), root / "eval") is Outcome.DONE
    spec = {"cohort": str(root / "set"), "models": [str(root / "model")], "methods": ["zero-shot"], "device": "cpu"}
    return root, spec | {"tasks": ["findings", "lines"], "resamples": 100, "minimum_positives": 4}


def result(folder):
    return json.loads((folder / "result.json").read_text())


def values(folder, model="first"):
    """AUROC by label."""
    by_task = result(folder)["tasks"]
    return {label: v["auroc"]["value"] for task in by_task.values() for label, v in task[model].items()}


def test_zero_shot_answers_where_nothing_can_be_learnt(world):
    root, _ = world
    found = result(root / "eval")
    assert found["answered_by"] == {"findings": "zero-shot", "lines": "zero-shot"} and not found["not_scored"]
    assert set(found["tasks"]["findings"]) == {"first", "second"}, "the third has no text tower"
    assert {(v["model"], v["baseline"]) for v in found["verdicts"]} == {("first", "second")}
    scores = tables.read_table(root / "eval" / "scores.parquet", tables.SCORES)
    assert set(scores["method"].to_pylist()) == {"zero-shot"} and set(scores["seed"].to_pylist()) == {0}
    assert not list((root / "eval" / "features").glob("pooled-*")), "nobody reads pooled features"


def test_the_report_says_who_read_and_leaves_out_what_learns(world):
    html = (world[0] / "eval" / "report.html").read_text()
    for words in ("Read by text alone (zero-shot)", "Zero-shot: the image", "Macro AUROC of zero-shot within groups"):
        assert words in html
    for words in ("one linear probe a label", "Probe: L2", "With less teaching", "training the probes", "3 seeds"):
        assert words not in html


def test_the_texts_of_the_spec_are_those_that_are_asked(world, tmp_path):
    root, spec = world
    swapped = {"positive": OWN["negative"], "negative": OWN["positive"]}
    for name, texts in (("own", OWN), ("swapped", swapped), ("none", None)):
        given = {"prompts": {"Pleural Effusion": texts}} if texts else {}
        shared = {"store": str(root / "eval")}
        assert run_stage("evaluate", spec | given | shared, tmp_path / name) is Outcome.DONE
    own, swapped, known = (values(tmp_path / name) for name in ("own", "swapped", "none"))
    label = "Pleural Effusion"
    assert own[label] == pytest.approx(values(root / "eval")[label])
    assert own[label] == pytest.approx(1 - swapped[label]) and own[label] != known[label]
    assert own["Cardiomegaly"] == swapped["Cardiomegaly"] == known["Cardiomegaly"]


def test_no_champion_is_made_by_text_alone(world):
    found = result(world[0] / "eval")
    ruling = rule(found, "findings", found["models"][0]["weights_sha256"], None, 0.02)
    assert not ruling.allowed and "Zero-shot alone" in ruling.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": "image only"}, "no model has a text tower"),
        ({"methods": ["linear", "knn"]}, "both classes to learn from"),
        ({"methods": ["knn", "zero-shot"]}, "or 'zero-shot' alone"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(world, tmp_path, capsys, change, words):
    root, spec = world
    change = {k: [str(root / v)] if k == "models" else v for k, v in change.items()}
    assert run_stage("evaluate", spec | change, tmp_path / "eval") is Outcome.BAD_INPUT
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_line_says_the_same(world, tmp_path):
    root, _ = world
    done = CliRunner().invoke(command_line(["stages"]), ["evaluate", str(root / "spec.toml"), str(tmp_path / "eval")])
    assert done.exit_code == 0, done.output
    told, first = result(tmp_path / "eval"), result(root / "eval")
    assert told["looks"] > first["looks"] and told | {"looks": 0} == first | {"looks": 0}
    assert " ".join(result(root / "eval")["answer"].split()) in " ".join(done.output.split())
