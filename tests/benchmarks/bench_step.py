"""A whole training step on a CPU beside lightly-train's DINOv2 method: same model, crops, batch, precision and images.

ViT-S/14 without registers, two views of 112 px and eight of 56 px, 16 images a step, 65,536 prototypes, EMA centre,
float32, data included, one thread, in seconds of the processor, so that what else the machine does counts for neither.
The median step counts. Ours also says where its time goes.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pipelines.cohort import Cohort
from pipelines.encoders import vit
from pipelines.pretrain import dino_task
from pipelines.pretrain.images import Images
from pipelines.pretrain.optim import build_optimiser, clip_gradients
from pipelines.pretrain.recipe import RECIPES
from pipelines.pretrain.sampler import Sampler
from pipelines.pretrain.speed import Speed, keep_freed_memory
from tests.benchmarks import peers
from tests.benchmarks.record import record
from tests.cohorts import make_cohort

SMALL = vit.VitDims(image=518, dim=384, depth=12, heads=6)
GLOBAL, LOCAL, BATCH, STEPS = 112, 56, 16, 6


class Clock:
    """Processor seconds spent in named parts, each without the parts within it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.process_time()
        self._inner.append(0.0)
        yield
        took = time.process_time() - began
        self.seconds[name] += took - self._inner.pop()
        self._inner[-1] += took

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Count every call of `owner.attribute` under `name`."""
        plain: Callable[..., Any] = getattr(owner, attribute)

        def counted(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return plain(*arguments, **named)

        setattr(owner, attribute, counted)


class Ours:
    """Our objective on random weights with its optimiser, stepped by hand as the loop does it."""

    def __init__(self, cohort: Cohort) -> None:
        keep_freed_memory()
        torch.manual_seed(0)
        self.recipe = RECIPES["rad-dino"]
        settings = replace(self.recipe.objective, global_side=GLOBAL, local_side=LOCAL)
        images = Images(cohort, 0, torch.device("cpu"))
        towers = vit.Vit(SMALL), vit.DinoHead(SMALL)
        self.task = dino_task.DinoTask("rad-dino", *towers, SMALL, images, settings, 100, BATCH, "fp32", Speed())
        self.optimiser = build_optimiser(self.task.trainable(), self.recipe.optimiser)
        self.parameters = [p for g in self.optimiser.param_groups for p in g["params"]]
        self.sampler, self.clock, self.done = Sampler(cohort.rows("train"), BATCH, 0), Clock(), 0
        self._watch()

    def _watch(self) -> None:
        for owner, attribute, name in (
            (self.task, "_teach", "teacher"),
            (self.task, "_student", "student forward"),
            (self.task.head, "bottleneck", "student forward"),
            (dino_task, "prototype_loss", "loss and its gradient"),
            (torch.Tensor, "backward", "backward"),
            (self.task, "after_step", "EMA teacher"),
        ):
            self.clock.wrap(owner, attribute, name)

    def step(self) -> float:
        """Processor seconds of one step."""
        began = time.process_time()
        batch = self.sampler.batch(self.done)
        with self.clock.part("views"):
            inputs = self.task.prepare(batch)
        with self.clock.part("the rest"):
            self.task.step(batch, inputs)
        with self.clock.part("clipping and AdamW"):
            clip_gradients(self.parameters, self.recipe.optimiser.clip)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
        self.task.after_step(self.done)
        self.done += 1
        return time.process_time() - began


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        cohort = Cohort.open(make_cohort(Path(scratch) / "cohort", patients=BATCH * STEPS, side=224))
        folder = Path(scratch) / "files"
        folder.mkdir()
        for row in cohort.rows("train")[: BATCH * STEPS]:
            Image.fromarray(cohort.image(int(row))).convert("RGB").save(folder / f"{row}.jpg", quality=95)
        settings = {
            "what": "steps", "images": str(folder), "model": "dinov2/vits14-noreg-notpretrained", "side": GLOBAL,
            "local": LOCAL, "batch": BATCH, "steps": STEPS, "prototypes": SMALL.prototypes, "accelerator": "cpu",
            "precision": "32-true", "workers": 0, "threads": 1, "processor": True,
        }  # fmt: skip
        peer = peers.run("lightly-train", "peer_lightly.py", settings)
        ours = Ours(cohort)
        ours.step()
        ours.clock.seconds.clear()
        step = statistics.median(ours.step() for _ in range(STEPS // 2))
    total = sum(ours.clock.seconds.values())
    parts = sorted(ours.clock.seconds.items(), key=lambda item: -item[1])
    where = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in parts)
    record(
        f"processor seconds of a training step, one thread: ViT-S/14, views of 2 x {GLOBAL} and 8 x {LOCAL} px, "
        f"batch {BATCH}, 65,536 prototypes, float32, data included (where ours goes: {where})",
        f"{step:.2f}",
        f"lightly-train {peer['step_s']:.2f} ({peer['step_data_ready_s']:.2f} with its data ready)",
        peer["step_s"] / step,
    )


if __name__ == "__main__":
    main()
