"""What a run would take, before it is begun: `intramural pretrain SPEC.toml RUN --dry-run`.

    python -m pipelines.pretrain.estimate SPEC.json [PROCESSES]        prints one JSON object

Sizes are counted. Speed is measured: steps are taken on this device, on samples of the cohort, and forgotten.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pipelines.cohort import Cohort
from pipelines.contract import EXIT_CODES, BadInput, Outcome, Retry, RunFolder, load_spec, read_json
from pipelines.pretrain.fit import too_small
from pipelines.pretrain.optim import build_optimiser
from pipelines.pretrain.prefetch import map_tensors
from pipelines.pretrain.ranks import Ranks
from pipelines.pretrain.recipe import RECIPES
from pipelines.pretrain.run import check_sizes, use_device
from pipelines.pretrain.sampler import Sampler
from pipelines.pretrain.spec import Spec
from pipelines.pretrain.start import build_task, prepare_start
from pipelines.pretrain.task import Task

# Bytes that a transformer block keeps for its backward pass per number it puts out, at 2 bytes a number and without the
# attention matrix, which fused attention never holds (arXiv 2205.05198, table 2).
KEPT = 34
CPU_SAMPLES = 4
LONG_ENOUGH = 2.0
"""Seconds of steps to measure, at least one and at most so many:"""
STEPS = 10


def estimate(spec: Spec, processes: int, scratch: Path) -> dict[str, Any]:
    """See the module. BadInput as the run itself would raise it."""
    device = use_device(spec.device)
    cohort = Cohort.open(spec.cohort)
    subset = cohort.subset(spec.samples)
    steps = check_sizes(spec, subset, processes)
    run, ranks = RunFolder(scratch), Ranks(torch.device("cpu"))
    folder, _ = prepare_start(spec, cohort, run, ranks)
    share = spec.batch // processes
    alone = spec.model_copy(update={"batch": share})
    task = build_task(alone, folder, cohort, steps, ranks, device, run)
    trained = sum(p.numel() for m in task.trainable().values() for p in m.parameters())
    memory = _memory(task, spec, trained, share)
    seconds, peak = _measure(task, spec, Sampler(subset.rows, _tried(task, device), spec.seed), device)
    forwards = steps * spec.batch
    return {
        "encoder": spec.encoder,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processes": processes,
        "parameters": trained,
        "flops_per_image": task.flops(),
        "samples": subset.samples,
        "studies": subset.studies,
        "patients": len(subset.patients),
        "steps": steps,
        "image_forwards": forwards,
        "passes": forwards / subset.samples,
        "memory_gb": memory / 1e9,
        "measured_memory_gb": peak,
        "seconds_per_image": seconds,
        "hours": seconds * forwards / processes / 3600,
        "gpu_hours": seconds * forwards / 3600 if device.type == "cuda" else None,
    }


def _memory(task: Task, spec: Spec, trained: int, share: int) -> float:
    """Bytes: weights, gradients and AdamW's two moments, whatever else the task holds, and what blocks keep."""
    held = sum(t.numel() for t in _tensors(task.state_dict()))
    width = 2 if spec.precision == "bf16" else 4
    kept = width if spec.checkpoint_activations else KEPT / 2 * width
    micro = share if spec.micro_batch == "auto" else min(spec.micro_batch, share)
    return 4.0 * (held + 3 * trained) + micro * task.outputs() * kept


def _tensors(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    return [t for value in state.values() for t in _tensors(value)] if isinstance(state, dict) else []


def _tried(task: Task, device: torch.device) -> int:
    """Samples of a measured step: as many as go through a GPU at once; few on a CPU, where more are no quicker."""
    return max(2, task.micro) if device.type == "cuda" else min(max(2, task.micro), CPU_SAMPLES)


def _measure(task: Task, spec: Spec, sampler: Sampler, device: torch.device) -> tuple[float, float | None]:
    """Seconds a sample on one process, the first step left out, and a GPU's peak memory in GB."""
    gpu = device.type == "cuda"
    optimiser = build_optimiser(task.trainable(), RECIPES[spec.encoder].optimiser, fused=gpu)
    began, taken, step = 0.0, 0.0, 0
    try:
        while step < 2 or (taken < LONG_ENOUGH and step <= STEPS):
            batch = sampler.batch(step)
            values = task.step(batch, map_tensors(task.prepare(batch), lambda t: t.to(device)))
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            task.after_step(step)
            float(values["loss"])  # the GPU has caught up
            now, step = time.monotonic(), step + 1
            began = began or now
            taken = now - began
    except torch.OutOfMemoryError:
        raise BadInput(too_small(task.micro)) from None
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if gpu else None
    return taken / ((step - 1) * sampler.size), peak


def main(argv: list[str]) -> int:
    """Entry of the module: the estimate as JSON, or the sentence that a run would end with."""
    try:
        spec = load_spec("pretrain", read_json(Path(argv[0])))
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(estimate(spec, int(argv[1]) if argv[1:] else 1, Path(scratch))))  # noqa: T201
    except (BadInput, Retry) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return EXIT_CODES[Outcome.BAD_INPUT]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
