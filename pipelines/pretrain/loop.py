"""The one training loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.contract import Retry, RunFolder, Stopped
from pipelines.pretrain.checkpoint import Checkpoints
from pipelines.pretrain.meter import Meter
from pipelines.pretrain.optim import build_optimiser, clip_gradients, cosine, learning_rate, set_schedule
from pipelines.pretrain.prefetch import Prefetch
from pipelines.pretrain.ranks import Ranks, average_gradients
from pipelines.pretrain.recipe import Optimiser
from pipelines.pretrain.sampler import Sampler
from pipelines.pretrain.task import Task

REPORT_EVERY = 5


@dataclass(frozen=True)
class Plan:
    """What the loop needs to know of a run."""

    steps: int
    batch: int
    peak: float
    """Highest learning rate."""
    checkpoint_every: int
    cohort: str
    """Digest: a checkpoint belongs to its data."""
    fused: bool = False
    """AdamW in fused kernels, for a GPU."""


def train(
    task: Task,
    sampler: Sampler,
    settings: Optimiser,
    plan: Plan,
    ranks: Ranks,
    run: RunFolder,
    device: torch.device,
) -> dict[str, float]:
    """Train to the end, from the newest checkpoint where there is one; the reported values of the last step.

    Raises Stopped, on every rank at the same step and after a checkpoint, when any rank was asked to stop; Retry when
    the loss is no longer a number.
    """
    optimiser = build_optimiser(task.trainable(), settings, plan.fused)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    checkpoints = Checkpoints(run)
    done, last = _resume(task, optimiser, checkpoints, plan, ranks, device)
    meter = Meter(task, plan.batch, ranks.world, device, done)
    inputs_of = Prefetch(lambda step: task.prepare(sampler.batch(step)), done, plan.steps, device)
    for step, inputs in enumerate(inputs_of, done):
        rate = learning_rate(settings, plan.peak, step, plan.steps)
        decay = cosine(*settings.weight_decay, step, plan.steps)
        set_schedule(optimiser, rate, decay, lambda part, step=step: task.moves(part, step))
        values = task.step(sampler.batch(step), inputs)
        average_gradients(parameters)
        values["gradient_norm"] = clip_gradients(parameters, settings.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        task.after_step(step)
        done = step + 1
        stop = ranks.any(run.stopping)
        save = stop or done % plan.checkpoint_every == 0 or done == plan.steps
        if save or done % REPORT_EVERY == 0:
            last = _numbers(values, done)
            run.metric(done, **last, learning_rate=rate, **meter.read(done, inputs_of.waited))
        run.progress(done * plan.batch, plan.steps * plan.batch, "image forwards")
        if save:
            checkpoints.save(done, _state(task, optimiser, plan, last))
        if stop and done < plan.steps:
            raise Stopped
    return last


def _resume(
    task: Task,
    optimiser: torch.optim.Optimizer,
    checkpoints: Checkpoints,
    plan: Plan,
    ranks: Ranks,
    device: torch.device,
) -> tuple[int, dict[str, float]]:
    """Steps done and last values, with task and optimiser as they were then."""
    found = checkpoints.newest() if ranks.rank == 0 else None
    done = ranks.agree(found or 0)
    if not done:
        return 0, {}
    state = checkpoints.load(done, device, plan.cohort)
    torch.set_num_threads(state["threads"])  # another number of threads would round sums in another order
    task.load_state_dict(state["task"])
    optimiser.load_state_dict(state["optimiser"])
    checkpoints.run.log(f"Resumed after step {done} of {plan.steps}.")
    return done, state["last"]


def _state(task: Task, optimiser: torch.optim.Optimizer, plan: Plan, last: dict[str, float]) -> dict[str, Any]:
    return {
        "task": task.state_dict(),
        "optimiser": optimiser.state_dict(),
        "cohort": plan.cohort,
        "threads": torch.get_num_threads(),
        "last": last,
    }


def _numbers(values: dict[str, Tensor], done: int) -> dict[str, float]:
    """Reported values as floats, in one transfer. A loss that is no number must never reach a checkpoint."""
    stacked = torch.stack([v.detach().float().reshape(()).cpu() for v in values.values()]).tolist()
    numbers = dict(zip(values, stacked, strict=True))
    if not math.isfinite(numbers["loss"]):
        raise Retry(
            f"The loss was no longer a number at step {done}; the last checkpoint is kept. "
            "Start again, or begin a new run with a lower learning rate."
        )
    return numbers
