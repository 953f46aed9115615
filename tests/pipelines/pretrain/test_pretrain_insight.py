"""What a run tells of itself while it trains: feature rank, neighbours, a picture, milestones, TensorBoard files."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.io import decode_png, read_file

from pipelines.cohort import Cohort
from pipelines.contract import Outcome, run_stage
from pipelines.encoders import load_encoder
from pipelines.encoders.folder import read_card, read_patients
from pipelines.pretrain.insight import SHOWN, SIDE, draw, knn_auroc, rankme
from tests.cohorts import make_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort") / "c", patients=160, side=64)


@pytest.fixture(scope="module", params=["rad-dino-tiny", "mi2-tiny"])
def run(request: pytest.FixtureRequest, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    out = tmp_path_factory.mktemp("run") / request.param
    values = {"cohort": str(cohort), "encoder": request.param, "budget": 32, "batch": 4}
    few = {"insight_every": 4, "milestones": [0.5, 0.51, 0.99]}
    assert run_stage("pretrain", values | few, out) is Outcome.DONE
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)
    return out


def metrics(out: Path, name: str) -> dict[int, float]:
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return {e["step"]: e["values"][name] for e in events if e["kind"] == "metric" and name in e["values"]}


def artifacts(out: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [e for e in events if e["kind"] == "artifact"]


def test_a_run_looks_at_validation_images_from_its_start_to_its_end(run: Path, cohort: Path) -> None:
    for name in ("rankme", "knn_auroc"):
        assert list(metrics(run, name)) == [0, 4, 8]
    assert all(1 <= rank <= 48 for rank in metrics(run, "rankme").values()) or "mi2" in run.name
    assert all(0 <= value <= 1 for value in metrics(run, "knn_auroc").values())
    assert (
        "neighbours tell view AP" in (run / "events.jsonl").read_text()
        or "view PA" in (run / "events.jsonl").read_text()
    )
    data = Cohort.open(cohort)
    monitored = set(data.index.take(data.rows("validation"))["patient"].to_pylist())
    assert monitored and monitored <= read_patients(run / "model")
    assert not read_patients(run / "model") & set(data.index.take(data.rows("test"))["patient"].to_pylist())


def test_the_values_are_those_of_the_exported_model(run: Path, cohort: Path) -> None:
    data, encoder = Cohort.open(cohort), load_encoder(run / "model")
    images = [data.image(int(row)) for row in data.rows("validation")]
    pooled = torch.cat([encoder.features(encoder.prepare([image]))[0] for image in images])
    assert metrics(run, "rankme")[8] == pytest.approx(rankme(pooled), rel=1e-3)


def test_the_picture_shows_images_above_their_patches(run: Path) -> None:
    shown = [e["path"] for e in artifacts(run) if e["name"] == "patch features"]
    assert shown == [f"pictures/step-0000000{n}.png" for n in (0, 4, 8)]
    first, last = (decode_png(read_file(str(run / shown[n]))) for n in (0, 2))
    assert last.shape == (3, 2 * SIDE, SHOWN * SIDE)
    above, below = last[:, :SIDE].float(), last[:, SIDE:].float()
    assert torch.equal(above[0], above[1]) and above.std() > 20
    assert (below[0] - below[1]).abs().max() > 50
    assert torch.equal(first[:, :SIDE], last[:, :SIDE]) and not torch.equal(first[:, SIDE:], last[:, SIDE:])


def test_milestones_are_whole_models_of_their_part_of_the_budget(run: Path) -> None:
    kept = sorted((run / "milestones").iterdir())
    assert [k.name for k in kept] == ["step-00000004"]
    card, end = read_card(kept[0]), read_card(run / "model")
    assert (card.budget, end.budget, card.kind) == (16, 32, "run")
    assert "step 4" in card.name and card.weights_sha256 != end.weights_sha256
    assert read_patients(kept[0]) == read_patients(run / "model")
    assert (
        load_encoder(kept[0]).features(load_encoder(kept[0]).prepare([np.eye(64, dtype=np.uint8)]))[0].isfinite().all()
    )


def test_tensorboard_files_hold_what_the_events_say(run: Path) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    (path,) = (run / "tensorboard").iterdir()
    data, place, found, pictures = path.read_bytes(), 0, {}, 0
    while place < len(data):
        # A TFRecord: length, its checksum, the event, its checksum.
        length = int.from_bytes(data[place : place + 8], "little")
        event = Event.FromString(data[place + 12 : place + 12 + length])
        place += length + 16
        for value in event.summary.value:
            pictures += value.HasField("image")
            if not value.HasField("image"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    for name in ("loss", "rankme", "learning_rate"):
        assert found[name] == pytest.approx(metrics(run, name), rel=1e-5)
    assert pictures == 3


def test_rankme_counts_directions() -> None:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(200, 8)).Q
    assert rankme(basis) == pytest.approx(8, rel=1e-3)
    assert rankme(torch.ones(50, 8)) == pytest.approx(1, abs=0.01)
    assert rankme(torch.zeros(50, 8)) < 8.1


def test_neighbours_are_of_other_patients() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 2).astype(str).astype(object)
    own = np.repeat(rng.normal(size=(60, 16)), 2, 0)  # tells the patient and nothing else
    target = np.repeat(rng.permutation(60) % 2, 2).astype(np.float32)
    assert abs(knn_auroc(own.astype(np.float32), target, patient) - 0.5) < 0.2
    told = own + 8 * target[:, None]
    assert knn_auroc(told.astype(np.float32), target, patient) == 1.0
    target[:10] = math.nan
    assert knn_auroc(told.astype(np.float32), target, patient) == 1.0


def test_colours_keep_their_sign() -> None:
    torch.manual_seed(1)
    patches = torch.randn(2, 4, 4, 12) * torch.arange(12, 0, -1)
    grey = torch.rand(2, 20, 20)
    assert torch.equal(draw(grey, patches), draw(grey, patches.double().float()))
    assert torch.equal(draw(grey, patches)[:, SIDE:], draw(grey, patches + 100)[:, SIDE:])
