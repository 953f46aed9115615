"""What a run would take: sizes as counted by other means, what the budget means, the refusals of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from pipelines.cohort import Cohort
from pipelines.contract import BadInput, RunFolder, load_spec
from pipelines.encoders.folder import HUB, read_card
from pipelines.encoders.strict import read_safetensors
from pipelines.pretrain.estimate import KEPT, estimate
from pipelines.pretrain.ranks import Ranks
from pipelines.pretrain.sampler import Sampler
from pipelines.pretrain.start import build_task, prepare_start
from server.cli import command_line

ROOT = Path(__file__).resolve().parents[3]


def spec(cohort: Path, encoder: str = "rad-dino-tiny", **values: Any) -> Any:
    base = {"cohort": str(cohort), "encoder": encoder, "budget": 4000, "batch": 8, "device": "cpu"}
    return load_spec("pretrain", base | values)


@pytest.mark.parametrize("encoder", ["rad-dino-tiny", "mi2-tiny"])
def test_an_estimate_says_what_the_budget_means(cohort: Path, tmp_path: Path, encoder: str) -> None:
    found = estimate(spec(cohort, encoder, samples=10), 1, tmp_path)
    subset = Cohort.open(cohort).subset(10)
    actual = (found["samples"], found["studies"], found["patients"])
    assert actual == (subset.samples, subset.studies, len(subset.patients))
    assert (found["steps"], found["image_forwards"]) == (500, 4000)
    assert found["passes"] == pytest.approx(4000 / subset.samples)
    start = tmp_path / "start"
    weights = [path for path in start.glob("*.safetensors") if path.name != HUB]  # the tower once more
    assert read_card(start).kind == "untrained"
    # The head's weight-norm gains stand still and are in no optimiser; all else is trained.
    stored = sum(t.numel() for path in weights for t in read_safetensors(path).values())
    assert found["parameters"] == pytest.approx(stored, rel=0.01)
    assert found["flops_per_image"] > 1e6 and found["seconds_per_image"] > 0
    assert found["hours"] == pytest.approx(found["seconds_per_image"] * 4000 / 3600)
    assert (found["gpu_hours"], found["measured_memory_gb"]) == (None, None)
    # Ranks share the work; what each of them holds is for its share.
    two = estimate(spec(cohort, encoder, samples=10), 2, tmp_path)
    assert two["memory_gb"] < found["memory_gb"] and two["image_forwards"] == 4000


@pytest.mark.parametrize("encoder", ["rad-dino-tiny", "mi2-tiny"])
def test_blocks_keep_about_what_the_estimate_says(cohort: Path, tmp_path: Path, encoder: str) -> None:
    """Against what autograd really saves in a step, parameters aside."""
    cpu, given = torch.device("cpu"), spec(cohort, encoder)
    run, data, ranks = RunFolder(tmp_path), Cohort.open(cohort), Ranks(cpu)
    folder, _ = prepare_start(given, data, run, ranks)
    task = build_task(given, folder, data, 10, ranks, cpu, run)
    own = {p.untyped_storage().data_ptr() for m in task.trainable().values() for p in m.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = Sampler(data.rows("train"), 8, 0).batch(0)
    inputs = task.prepare(batch)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        task.step(batch, inputs)
    said = 8 * task.outputs() * KEPT / 2 * 4
    assert 0.6 < sum(saved.values()) / said < 1.6, (sum(saved.values()) / 1e6, said / 1e6)


def test_a_dry_run_refuses_what_a_run_would(cohort: Path, tmp_path: Path) -> None:
    for values, said in (({"budget": 4}, "less than one batch"), ({"samples": 10**6}, "lower N")):
        with pytest.raises(BadInput, match=said):
            estimate(spec(cohort, **values), 1, tmp_path)
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"cohort": str(cohort), "encoder": "rad-dino", "budget": 64, "batch": 8}))
    command = [sys.executable, "-m", "pipelines.pretrain.estimate", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "open weights" in done.stderr and "Traceback" not in done.stderr


def test_the_command_prints_it_and_begins_no_run(cohort: Path, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(f'cohort = "{cohort}"\nencoder = "rad-dino-tiny"\nbudget = 4000\nbatch = 8\n')
    done = CliRunner().invoke(command_line(), ["pretrain", str(path), str(tmp_path / "run"), "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["steps"] == 500
    assert not (tmp_path / "run").exists()
