"""What the GPU benchmark works on: a cohort of drawn chests, model sizes, and the training loop on tasks in memory."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipelines.cohort import Cohort
from pipelines.contract import RunFolder
from pipelines.encoders import vit
from pipelines.encoders.mi2 import MI2, MI2_TINY, Mi2, Mi2Dims
from pipelines.encoders.tokens import Tokenizer, train_tokenizer
from pipelines.pretrain import loop
from pipelines.pretrain.checkpoint import Checkpoints
from pipelines.pretrain.dino_task import DinoTask
from pipelines.pretrain.images import Images
from pipelines.pretrain.ranks import Ranks
from pipelines.pretrain.recipe import RECIPES
from pipelines.pretrain.sampler import Sampler
from pipelines.pretrain.speed import Speed
from pipelines.pretrain.task import Task
from pipelines.pretrain.unicl_task import UniclTask
from tests.cohorts import make_cohort


@dataclass(frozen=True)
class World:
    folder: Path
    out: Path
    tiny: bool
    cohort: Cohort
    device: torch.device
    dino: vit.VitDims
    mi2: Mi2Dims

    @property
    def suffix(self) -> str:
        return "-tiny" if self.tiny else ""

    def batch(self, full: int) -> int:
        """A batch of the full-size run, or a toy's."""
        return 2 if self.tiny else full

    def steps(self, full: int) -> int:
        return 2 if self.tiny else full

    @property
    def precision(self) -> str:
        """bf16 is emulated on most CPUs, a hundred times slower."""
        return "fp32" if self.tiny else "bf16"

    def new_run(self) -> RunFolder:
        return RunFolder(Path(tempfile.mkdtemp(dir=self.folder)))


def make_world(folder: Path, tiny: bool, out: Path) -> World:
    """A cohort at the encoders' size, and the sizes; everything else is made by the sections."""
    side, patients = (64, 16) if tiny else (518, 96)
    cohort = Cohort.open(make_cohort(folder / "cohort", patients=patients, side=side))
    device = torch.device("cpu" if tiny else "cuda")
    sizes = (vit.RAD_DINO_TINY, MI2_TINY) if tiny else (vit.RAD_DINO, MI2)
    out.mkdir(parents=True, exist_ok=True)
    return World(folder, out, tiny, cohort, device, *sizes)


def dino_task(world: World, batch: int, steps: int, speed: Speed, micro: int | None = None, **recipe: Any) -> DinoTask:
    """RAD-DINO's objective on random weights."""
    torch.manual_seed(0)
    settings = replace(RECIPES[f"rad-dino{world.suffix}"].objective, **recipe)
    micro = micro or batch
    with world.device:
        tower, head = vit.Vit(world.dino), vit.DinoHead(world.dino)
    images = Images(world.cohort, 0, world.device)
    return DinoTask("rad-dino", tower, head, world.dino, images, settings, steps, micro, world.precision, speed)


def mi2_task(world: World, micro: int, speed: Speed) -> UniclTask:
    """MI2's objective on random weights; the tokenizer is a small one, the text tower is whole."""
    torch.manual_seed(0)
    texts = [t for row in world.cohort.rows("train") if (t := world.cohort.text(int(row)))]
    tokenizer = Tokenizer(train_tokenizer(texts, 2048), world.mi2.context)
    with world.device:
        towers = Mi2(world.mi2)
    images = Images(world.cohort, 0, world.device)
    settings = RECIPES[f"mi2{world.suffix}"].objective
    return UniclTask("mi2", towers, tokenizer, images, settings, "both", (0, 1), micro, world.precision, speed)


def run_loop(world: World, task: Task, batch: int, steps: int, every: int = 5, fused: bool = True) -> dict[str, float]:
    """The training loop itself on a task in memory, without checkpoints; figures of its last `every` steps."""
    run = world.new_run()
    rows = world.cohort.rows("train")
    recipe = RECIPES[f"{task.name}{world.suffix}"]
    plan = loop.Plan(steps, batch, 1e-4, 10**9, world.cohort.digest, fused and not world.tiny)
    reset_peak(world.device)
    save, report = Checkpoints.save, loop.REPORT_EVERY
    Checkpoints.save = lambda self, step, state: None  # type: ignore[method-assign]
    loop.REPORT_EVERY = every
    try:
        loop.train(task, Sampler(rows, batch, 0), recipe.optimiser, plan, Ranks(world.device), run, world.device)
    finally:
        Checkpoints.save, loop.REPORT_EVERY = save, report  # type: ignore[method-assign]
    events = [json.loads(line) for line in (run.root / "events.jsonl").read_text().splitlines()]
    metrics = [e["values"] for e in events if e["kind"] == "metric"]
    last = metrics[-1]
    keys = ("images_per_second", "mfu", "data_wait", "gpu_memory_gb", "loss")
    figures = {k: round(last[k], 4) for k in keys if k in last}
    if len(metrics) > 2:
        figures["images_per_second_before"] = round(metrics[-2]["images_per_second"], 2)
    return figures | {"s_per_step": round(batch / last["images_per_second"], 4)}


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
