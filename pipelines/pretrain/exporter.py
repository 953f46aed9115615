"""Models that a run writes: milestones on its way, and the one at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines.contract import RunFolder
from pipelines.encoders.folder import ModelCard, new_model_folder
from pipelines.pretrain.task import Task

MILESTONES = "milestones"


class Exporter:
    """Writes model folders, whole or not at all, from rank 0."""

    def __init__(self, run: RunFolder, task: Task, card: ModelCard, patients: set[str], batch: int) -> None:
        self.run, self.task, self.card, self.patients, self.batch = run, task, card, patients, batch

    def export(self, name: str, step: int, metrics: dict[str, float], title: str = "") -> None:
        """The model after `step` steps, as the folder `name` of the run."""
        if self.run.rank != 0:
            return
        folder = self.run.root / name
        card = self.card.model_copy(
            update={"name": self.card.name + title, "budget": step * self.batch, "metrics": metrics}
        )
        with new_model_folder(folder, card, self.patients) as part:
            self.task.write(part)
        self.run.artifact(name, folder)

    def milestones(self, shares: Sequence[float], steps: int) -> Callable[[int], bool]:
        """Whether a milestone is due after so many steps; the end is none."""
        return ({round(share * steps) for share in shares} - {0, steps}).__contains__

    def milestone(self, step: int) -> dict[str, float]:
        """Keep the model as it is now."""
        self.export(f"{MILESTONES}/step-{step:08d}", step, {}, f", step {step}")
        return {}
