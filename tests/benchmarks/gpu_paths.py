"""What only a GPU can show of a run's ends: the micro-batch that fits, stop and resume, a GPU that fails or is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pipelines.contract import run_stage
from pipelines.encoders import export, vit
from pipelines.encoders.folder import ModelCard, new_model_folder
from pipelines.pretrain.dino_task import DinoTask
from tests.benchmarks.gpu_world import World

STEPS = 6
SHORT = vit.VitDims(image=518, dim=768, depth=2, heads=12, layer_scale=0.1, prototypes=4096)


def spec(world: World, dims: vit.VitDims, **values: Any) -> dict[str, Any]:
    """Of a run on random weights of these sizes."""
    start = world.folder / f"start-{dims.depth}"
    if not start.exists():
        card = ModelCard(name="random weights", encoder=f"rad-dino{world.suffix}", kind="open-weight", practice=True)
        torch.manual_seed(0)
        with new_model_folder(start, card, ()) as part:
            export.write_rad_dino(part, vit.Vit(dims), dims, vit.DinoHead(dims))
    batch = world.batch(24)
    few = {"budget": STEPS * batch, "batch": batch, "checkpoint_every": 2, "milestones": [], "insight_every": 1000}
    fixed = {"cohort": str(world.folder / "cohort"), "encoder": f"rad-dino{world.suffix}", "start": str(start)}
    return fixed | few | {"precision": world.precision, "compile": False} | values


def new_folder(world: World) -> Path:
    return Path(tempfile.mkdtemp(dir=world.folder)) / "run"


def loss(out: Path) -> float:
    return round(json.loads((out / "result.json").read_text())["final_loss"], 5)


def end(out: Path) -> str:
    found = json.loads((out / "outcome.json").read_text())
    return f"{found['outcome']}: {found['message']}"


def largest_difference(first: Path, second: Path) -> float:
    """Between the weights of two runs' models."""
    one, other = (load_file(out / "model" / "model.safetensors") for out in (first, second))
    return max(float((one[k] - other[k]).abs().max()) for k in one)


def fit(world: World) -> dict[str, Any]:
    """A full-size run that gets a quarter of the memory finds its micro-batch and trains as one that was told it."""
    dims = vit.RAD_DINO_TINY if world.tiny else vit.RAD_DINO
    batch = world.batch(24)
    values = spec(world, dims, budget=2 * batch)
    fitted, told = new_folder(world), new_folder(world)
    gpu = world.device.type == "cuda"
    if gpu:
        torch.cuda.set_per_process_memory_fraction(0.25)
    outcome = run_stage("pretrain", values, fitted).value
    if gpu:
        torch.cuda.set_per_process_memory_fraction(1.0)
    state = torch.load(fitted / "checkpoints" / "step-00000002.pt", map_location="cpu", weights_only=True)
    micro = state["micro"] or batch
    run_stage("pretrain", {**values, "micro_batch": micro}, told)
    whole = new_folder(world)
    run_stage("pretrain", {**values, "micro_batch": batch}, whole)
    logs = [json.loads(line) for line in (fitted / "events.jsonl").read_text().splitlines()]
    return {
        "outcome": outcome,
        "micro": micro,
        "said": [e["message"] for e in logs if e["kind"] == "log" and "do not fit" in e["message"]],
        "loss": {"fitted": loss(fitted), "told": loss(told), "whole": loss(whole)},
        "weights_to_told": largest_difference(fitted, told),
        "weights_to_whole": largest_difference(fitted, whole),
    }


def resume(world: World) -> dict[str, Any]:
    """Stopped by SIGTERM, and killed, then gone on with, against never stopped; and that run once more."""
    values = spec(world, vit.RAD_DINO_TINY if world.tiny else SHORT)

    def stop(event: dict[str, Any]) -> None:
        if event["kind"] == "checkpoint" and event["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    whole, again, stopped, killed = (new_folder(world) for _ in range(4))
    found: dict[str, Any] = {}
    for name, out in (("whole", whole), ("again", again)):
        found[name] = [run_stage("pretrain", values, out).value, loss(out)]
    found["stopped"] = [run_stage("pretrain", values, stopped, listener=stop).value]
    found["stopped"] += [run_stage("pretrain", values, stopped).value, loss(stopped)]
    found["killed"] = [child(world, values, killed, "kill")]
    found["killed"] += [run_stage("pretrain", values, killed).value, loss(killed)]
    differences = {
        n: largest_difference(whole, o) for n, o in (("again", again), ("stopped", stopped), ("killed", killed))
    }
    return found | {"largest_difference": differences}


def lost(world: World) -> dict[str, Any]:
    """A GPU that fails in a step, once among compiled kernels; then none to be seen; then all is well again."""
    found: dict[str, Any] = {}
    for compiled in (False, True):
        values, out = spec(world, vit.RAD_DINO_TINY if world.tiny else SHORT, compile=compiled), new_folder(world)
        found[f"failed, {compiled=}"] = [child(world, values, out, "break"), end(out)]
        found[f"gone, {compiled=}"] = [child(world, values, out, "hide"), end(out)]
        found[f"back, {compiled=}"] = [child(world, values, out, "none"), end(out)]
    values, out = spec(world, vit.RAD_DINO_TINY if world.tiny else SHORT, device="cuda"), new_folder(world)
    found["never there, device cuda"] = [child(world, values, out, "hide"), end(out)]
    return found


def child(world: World, values: dict[str, Any], out: Path, harm: str) -> int:
    """Exit code of the stage in a process of its own, to which something happens at its fourth step."""
    path = Path(tempfile.mkdtemp(dir=world.folder)) / "spec.json"
    path.write_text(json.dumps(values))
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if harm == "hide" else {})
    command = [sys.executable, "-m", "tests.benchmarks.gpu_paths", str(path), str(out), harm]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    print(f"  {harm}: {done.returncode} {done.stderr[-300:]}", flush=True)
    return done.returncode


def main(path: str, out: str, harm: str) -> None:
    """The stage, with a harm done at its fourth step."""
    from pipelines.contract import main as stage

    step = DinoTask.step

    def harmed(self: DinoTask, batch: Any, inputs: Any) -> Any:
        if batch.step == 3 and harm == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if batch.step == 3 and harm == "break":
            row = torch.zeros(1, device=self.images.device)
            row[torch.tensor([1], device=self.images.device)] += 1  # an index out of bounds: an assertion of the device
        return step(self, batch, inputs)

    DinoTask.step = harmed  # type: ignore[method-assign]
    sys.exit(stage(["pretrain", path, out]))


if __name__ == "__main__":
    main(*sys.argv[1:])
