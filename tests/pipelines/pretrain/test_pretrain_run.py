"""The stage on a small cohort: it learns, resumes bit for bit, and ends with a model folder; wrong input is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.contract import Outcome, run_stage, sha256_file
from pipelines.encoders import load_encoder
from pipelines.encoders.folder import read_card, read_patients
from tests.cohorts import make_cohort
from tests.pipelines.pretrain.ends import same_end

ENCODERS = ("rad-dino-tiny", "mi2-tiny")


def spec(cohort: Path, encoder: str, **values: Any) -> dict[str, Any]:
    return {"cohort": str(cohort), "encoder": encoder, "budget": 24, "batch": 4, "checkpoint_every": 2} | values


def pretrain(out: Path, values: dict[str, Any], stop_after: int | None = None) -> Outcome:
    """Run the stage in this process; SIGTERM it when so many image forwards are done."""

    def listen(event: dict[str, Any]) -> None:
        if event["kind"] == "checkpoint" and event["step"] * values["batch"] == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    return run_stage("pretrain", values, out, listener=listen)


def metrics(out: Path, name: str) -> list[float]:
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [e["values"][name] for e in events if e["kind"] == "metric" and name in e["values"]]


def outcome(out: Path) -> str:
    return json.loads((out / "outcome.json").read_text())["message"]


@pytest.fixture(scope="module")
def finished(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An undisturbed run of each encoder."""
    folders = {}
    for encoder in ENCODERS:
        folders[encoder] = tmp_path_factory.mktemp("finished") / encoder
        assert pretrain(folders[encoder], spec(cohort, encoder)) is Outcome.DONE
    return folders


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_run_ends_with_a_model_and_its_start(finished: dict[str, Path], cohort: Path, encoder: str) -> None:
    out = finished[encoder]
    result = json.loads((out / "result.json").read_text())
    assert (result["steps"], result["image_forwards"], result["encoder"]) == (6, 24, encoder)
    assert result["final_loss"] == metrics(out, "loss")[-1]
    card, start = read_card(out / result["model"]), read_card(out / result["start"])
    assert (card.kind, start.kind, card.start) == ("run", "untrained", start.weights_sha256)
    assert card.practice and card.samples == result["samples"] and card.patients == result["patients"]
    assert card.cohort == json.loads((cohort / "result.json").read_text())["digest"]
    assert not any(str(cohort) in p.read_text() for p in (out / "model" / "card.json", out / "events.jsonl"))
    image = np.random.default_rng(0).integers(0, 255, (70, 64), dtype=np.uint8)
    before, after = (load_encoder(out / k) for k in ("start", "model"))
    x = before.prepare([image])
    assert not torch.allclose(before.features(x)[0], after.features(x)[0])
    assert len(read_patients(out / "model")) >= result["patients"]


def test_only_the_last_two_checkpoints_stay(finished: dict[str, Path]) -> None:
    names = sorted(p.name for p in (finished["mi2-tiny"] / "checkpoints").iterdir())
    assert names == [f"step-0000000{s}.{e}" for s in (4, 6) for e in ("pt", "sha256")]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_stopped_run_goes_on_as_if_it_had_not(
    finished: dict[str, Path], cohort: Path, tmp_path: Path, encoder: str
) -> None:
    values = spec(cohort, encoder)
    assert pretrain(tmp_path, values, stop_after=8) is Outcome.STOPPED
    assert not (tmp_path / "result.json").exists()
    # The newest checkpoint is damaged on disk; the one before it carries the run.
    newest = max((tmp_path / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    assert pretrain(tmp_path, values) is Outcome.DONE
    start = "start/model.safetensors"
    assert sha256_file(tmp_path / start) == sha256_file(finished[encoder] / start)
    same_end(tmp_path, finished[encoder])


def test_a_run_killed_between_export_and_result_ends_the_same(finished: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished["mi2-tiny"], out)
    (out / "result.json").unlink()
    values = json.loads((out / "spec.json").read_text())["spec"]
    assert pretrain(out, values) is Outcome.DONE
    assert (out / "result.json").read_text() == (finished["mi2-tiny"] / "result.json").read_text()


def test_a_changed_cohort_is_not_resumed(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", patients=12, side=48)
    values = spec(cohort, "mi2-tiny")
    assert pretrain(tmp_path / "run", values, stop_after=8) is Outcome.STOPPED
    shutil.rmtree(cohort)
    make_cohort(cohort, patients=12, side=48, seed=1)
    assert pretrain(tmp_path / "run", values) is Outcome.BAD_INPUT
    assert "cohort was changed" in outcome(tmp_path / "run")


@pytest.mark.parametrize(("encoder", "term"), [("rad-dino-tiny", "dino"), ("mi2-tiny", "loss")])
def test_the_loss_goes_down(cohort: Path, tmp_path: Path, encoder: str, term: str) -> None:
    values = spec(cohort, encoder, budget=320, batch=8, checkpoint_every=5)
    assert pretrain(tmp_path, values) is Outcome.DONE
    losses = metrics(tmp_path, term)
    assert np.mean(losses[-3:]) < np.mean(losses[:2]) - 0.1


def test_micro_batches_change_no_contrast(finished: dict[str, Path], cohort: Path, tmp_path: Path) -> None:
    assert pretrain(tmp_path, spec(cohort, "mi2-tiny", micro_batch=3)) is Outcome.DONE
    assert metrics(tmp_path, "loss") == pytest.approx(metrics(finished["mi2-tiny"], "loss"), abs=1e-4)


@pytest.mark.parametrize("supervision", ["reports", "labels"])
def test_every_supervision_costs_the_same_forwards(cohort: Path, tmp_path: Path, supervision: str) -> None:
    assert pretrain(tmp_path, spec(cohort, "mi2-tiny", supervision=supervision, budget=8)) is Outcome.DONE
    assert json.loads((tmp_path / "result.json").read_text())["image_forwards"] == 8
    # Labels alone: three names. Reports alone: at most one text an image.
    assert (metrics(tmp_path, "texts")[-1] == 3) if supervision == "labels" else (metrics(tmp_path, "texts")[-1] <= 4)


def test_runs_on_runs_remember_all_patients_and_sets_nest(
    finished: dict[str, Path], cohort: Path, tmp_path: Path
) -> None:
    small, large = (
        spec(cohort, "rad-dino-tiny", samples=n, budget=8, start=str(finished["rad-dino-tiny"] / "model"))
        for n in (6, 14)
    )
    trained = []
    for name, values in (("small", small), ("large", large)):
        assert pretrain(tmp_path / name, values) is Outcome.DONE
        result = json.loads((tmp_path / name / "result.json").read_text())
        assert result["start"] is None and not (tmp_path / name / "start").exists()
        trained.append(result)
        card = read_card(tmp_path / name / "model")
        assert card.start == read_card(finished["rad-dino-tiny"] / "model").weights_sha256
        assert read_patients(tmp_path / name / "model") == read_patients(finished["rad-dino-tiny"] / "model")
    assert (
        trained[0]["samples"] < trained[1]["samples"] and trained[0]["image_forwards"] == trained[1]["image_forwards"]
    )
    alone = tmp_path / "alone"
    assert pretrain(alone, spec(cohort, "rad-dino-tiny", samples=6, budget=8)) is Outcome.DONE
    assert read_patients(alone / "model") < read_patients(finished["rad-dino-tiny"] / "model")


def test_a_start_without_a_head_gets_one(finished: dict[str, Path], cohort: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    shutil.copytree(finished["rad-dino-tiny"] / "model", start)
    (start / "dino_head.safetensors").unlink()
    card = json.loads((start / "card.json").read_text())
    del card["files"]["dino_head.safetensors"]
    (start / "card.json").write_text(json.dumps(card))
    assert pretrain(tmp_path / "run", spec(cohort, "rad-dino-tiny", budget=8, start=str(start))) is Outcome.DONE
    assert "no DINO head" in (tmp_path / "run" / "events.jsonl").read_text()
    assert (tmp_path / "run" / "model" / "dino_head.safetensors").exists()


def test_wrong_specs_are_refused_in_a_sentence(finished: dict[str, Path], cohort: Path, tmp_path: Path) -> None:
    real = make_cohort(tmp_path / "real", patients=8, side=48, practice=False)
    model = str(finished["mi2-tiny"] / "model")
    wrong = [
        (spec(cohort, "rad-dino"), "open weights"),
        (spec(cohort, "mi2-tiny", budget=3), "less than one batch"),
        (spec(cohort, "mi2-tiny", samples=10_000), "fewer than the 10000"),
        (spec(cohort, "rad-dino-tiny", start=model), "is a mi2-tiny, not a rad-dino-tiny"),
        (spec(real, "mi2-tiny", start=model), "practice data"),
        (spec(tmp_path / "nothing", "mi2-tiny"), "not finished"),
        (spec(cohort, "mi2-tiny", start=str(cohort)), "not a model folder"),
    ]
    if not torch.cuda.is_available():
        wrong.append((spec(cohort, "mi2-tiny", device="cuda"), "No GPU"))
    for number, (values, sentence) in enumerate(wrong):
        out = tmp_path / f"run{number}"
        assert pretrain(out, values) is Outcome.BAD_INPUT
        assert sentence in outcome(out)
        assert not (out / "crash.txt").exists() and not (out / "result.json").exists()


def test_a_loss_that_is_no_number_never_reaches_a_checkpoint(
    finished: dict[str, Path], cohort: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start"
    shutil.copytree(finished["mi2-tiny"] / "start", start)
    weights = load_file(start / "model.safetensors")
    weights["image_projection"][0, 0] = float("nan")
    save_file(weights, start / "model.safetensors")
    card = json.loads((start / "card.json").read_text())
    card["weights_sha256"] = sha256_file(start / "model.safetensors")
    (start / "card.json").write_text(json.dumps(card))
    assert pretrain(tmp_path / "run", spec(cohort, "mi2-tiny", start=str(start))) is Outcome.BAD_INPUT
    assert "no longer a number at step 1, also after going back" in outcome(tmp_path / "run")
    # The state of the start itself is all there is.
    assert [p.name for p in (tmp_path / "run").glob("checkpoints/*.pt")] == ["step-00000000.pt"]
