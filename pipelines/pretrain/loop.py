"""The one training loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.contract import BadInput, RunFolder, Stopped
from pipelines.pretrain.checkpoint import Checkpoints
from pipelines.pretrain.fit import fit_micro_batch
from pipelines.pretrain.guard import GIVE_UP, Guard, Trouble
from pipelines.pretrain.meter import Meter
from pipelines.pretrain.optim import build_optimiser, clip_gradients, cosine, learning_rate, set_schedule
from pipelines.pretrain.prefetch import Prefetch, map_tensors
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
    fit: bool = False
    """Find the largest micro-batch that fits the GPU, from the task's downwards."""


@dataclass(frozen=True)
class Occasion:
    """Something else that is done after some steps, when the losses up to there are known to be sound."""

    due: Callable[[int], bool]
    """By the number of steps done."""
    do: Callable[[int], dict[str, float]]
    """Returns values to report. Changes nothing that training depends on; may happen twice for a step."""


@dataclass(frozen=True)
class Trained:
    """How a run ended."""

    last: dict[str, float]
    """Reported values of the last step."""
    skipped: int
    """Batches left out because of trouble."""


class _Trouble(Exception):
    """Carries a Trouble out of the steps."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble


def train(
    task: Task,
    sampler: Sampler,
    settings: Optimiser,
    plan: Plan,
    ranks: Ranks,
    run: RunFolder,
    device: torch.device,
    occasions: Sequence[Occasion] = (),
    report: Callable[[int, dict[str, float]], None] | None = None,
) -> Trained:
    """Train to the end, from the newest checkpoint where there is one. `report` takes values by step, else `run` does.

    Raises Stopped, on every rank at the same step and after a checkpoint, when any rank was asked to stop; BadInput
    when the run keeps going wrong (`guard.py`) or not even one sample fits the GPU.
    """
    training = _Training(task, sampler, settings, plan, ranks, run, device)
    training.occasions = occasions
    training.report = report or (lambda step, values: run.metric(step, **values))
    training.begin()
    while training.done < plan.steps:
        try:
            training.go_on()
        except _Trouble as error:
            training.go_back(error.trouble)
    return Trained(training.last, training.guard.skipped)


class _Training:
    """`done` steps are in the models and the optimiser; `seen` holds losses and gradient norms nobody has judged."""

    occasions: Sequence[Occasion]
    report: Callable[[int, dict[str, float]], None]

    def __init__(
        self,
        task: Task,
        sampler: Sampler,
        settings: Optimiser,
        plan: Plan,
        ranks: Ranks,
        run: RunFolder,
        device: torch.device,
    ) -> None:
        self.task, self.sampler, self.settings, self.plan = task, sampler, settings, plan
        self.ranks, self.run, self.device = ranks, run, device
        self.optimiser = build_optimiser(task.trainable(), settings, plan.fused)
        self.parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.checkpoints = Checkpoints(run, plan.checkpoint_every)
        self.guard = Guard()
        self.meter = Meter(task, plan.batch, ranks.world, device)
        self.done, self.fitted = 0, 0
        self.last: dict[str, float] = {}
        self.seen: list[tuple[Tensor, Tensor]] = []

    def begin(self) -> None:
        """Load the newest checkpoint, or write one of step 0, which shows at once whether the disk takes it."""
        found = self.checkpoints.newest() if self.ranks.rank == 0 else None
        found = self.ranks.agree(-1 if found is None else found)
        if found < 0:
            self._save()
            self.ranks.agree(0)  # nobody reads before rank 0 has written
        else:
            self.fitted = self._load(found)["micro"]
            self.run.log(f"Resumed after step {self.done} of {self.plan.steps}.")
        if self.plan.fit:
            self.task.micro = self.fitted or self.task.micro
            fit_micro_batch(self.task, self._try, self.ranks, self.run)
            self.fitted = self.task.micro
            self._load(self.done)
        if found < 0:
            self._do(self._due())

    def go_on(self) -> None:
        """Steps from `done` to the last. Raises _Trouble."""
        prefetch = Prefetch(
            lambda step: self.task.prepare(self.sampler.batch(step)), self.done, self.plan.steps, self.device
        )
        self.meter.restart(self.done, prefetch.waited)
        with contextlib.closing(iter(prefetch)) as stream:
            for step, inputs in enumerate(stream, self.done):
                values, rate = self._step(step, inputs)
                self.done = step + 1
                stop = self.ranks.any(self.run.stopping)
                save = stop or self.done % self.plan.checkpoint_every == 0 or self.done == self.plan.steps
                due = self._due()
                if save or due or self.done % REPORT_EVERY == 0:
                    self._judge(values)
                    speed = self.meter.read(self.done, prefetch.waited)
                    self.report(self.done, {**self.last, "learning_rate": rate, **speed})
                self.run.progress(self.done * self.plan.batch, self.plan.steps * self.plan.batch, "image forwards")
                if due:
                    self._do(due)
                if save:
                    self._save()
                if save or due:
                    self.meter.restart(self.done, prefetch.waited)
                if stop and self.done < self.plan.steps:
                    raise Stopped

    def go_back(self, trouble: Trouble) -> None:
        """To a checkpoint from before the trouble; the batches since are left out. BadInput after too many times."""
        if self.guard.failures == GIVE_UP:
            raise BadInput(
                f"{trouble.what}, also after going back {GIVE_UP} times; the checkpoints before it are kept. "
                "Check the start model, or begin a new run with a lower learning_rate."
            )
        target = self.ranks.agree(self.checkpoints.before(trouble.onset) if self.ranks.rank == 0 else 0)
        guard, state = self.guard, self._load(target)
        guard.went_back(trouble, target, state["guard"])
        self.guard, self.sampler.skipped = guard, guard.skipped
        self.checkpoints.forget_after(target)
        self.run.log(
            f"{trouble.what}. Went back to step {target}; the {trouble.step + 1 - target} batches since are left out.",
            "warning",
        )

    def _step(self, step: int, inputs: Any) -> tuple[dict[str, Tensor], float]:
        """Reported values and the learning rate."""
        task, plan = self.task, self.plan
        rate = learning_rate(self.settings, plan.peak, step, plan.steps)
        decay = cosine(*self.settings.weight_decay, step, plan.steps)
        set_schedule(self.optimiser, rate, decay, lambda part: task.moves(part, step))
        values = task.step(self.sampler.batch(step), inputs)
        average_gradients(self.parameters)
        values["gradient_norm"] = clip_gradients(self.parameters, self.settings.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        task.after_step(step)
        self.seen.append((values["loss"].detach(), values["gradient_norm"].detach()))
        return values, rate

    def _try(self) -> None:
        """A step of which nothing is to be kept."""
        self.optimiser.zero_grad(set_to_none=True)
        batch = self.sampler.batch(self.done)
        self._step(self.done, map_tensors(self.task.prepare(batch), lambda t: t.to(self.device)))

    def _judge(self, values: dict[str, Tensor]) -> None:
        """Make `last` of the values of the newest step, in one transfer with all that nobody has judged yet. Raises
        _Trouble; what is in trouble must never reach a checkpoint."""
        first = self.done - len(self.seen)
        tensors = [*values.values(), *(t for pair in self.seen for t in pair)]
        numbers = torch.stack([t.detach().float().reshape(()).to(self.device) for t in tensors]).tolist()
        self.last = dict(zip(values, numbers, strict=False))
        pairs = zip(numbers[len(values) :: 2], numbers[len(values) + 1 :: 2], strict=True)
        self.seen.clear()
        for step, (loss, norm) in enumerate(pairs, first):
            if trouble := self.guard.judge(step, loss, norm):
                raise _Trouble(trouble)

    def _due(self) -> list[Occasion]:
        return [occasion for occasion in self.occasions if occasion.due(self.done)]

    def _do(self, due: Sequence[Occasion]) -> None:
        for occasion in due:
            if values := occasion.do(self.done):
                self.report(self.done, values)

    def _save(self) -> None:
        if self.done % self.plan.checkpoint_every == 0:
            self.guard.reached(self.done)
        state = {
            "task": self.task.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "cohort": self.plan.cohort,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "last": self.last,
            "guard": self.guard.state_dict(),
            "micro": self.fitted,
        }
        self.checkpoints.save(self.done, state)

    def _load(self, step: int) -> dict[str, Any]:
        state = self.checkpoints.load(step, self.device, self.plan.cohort)
        torch.set_num_threads(state["threads"])  # another number of threads would round sums in another order
        self.task.load_state_dict(state["task"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.optimiser.zero_grad(set_to_none=True)
        self.guard = Guard()
        self.guard.load_state_dict(state["guard"])
        self.sampler.skipped = self.guard.skipped
        self.done, self.last = step, state["last"]
        self.seen.clear()
        return state
