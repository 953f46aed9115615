"""Tasks that are no probe: each a module that measures images one by one and tells its part of the report.

Adding one is an entry in MODULES, a name in `pipelines.evaluate.spec.Task` and its words in `pipelines.evaluate.tasks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import pyarrow as pa

from pipelines.contract import RunFolder

if TYPE_CHECKING:
    from pipelines.evaluate.models import Model
    from pipelines.evaluate.run import Bench
    from pipelines.evaluate.spec import Spec

ALL = "all"
MODULES: dict[str, str] = {
    "segmentation": "pipelines.segmentation.task",
    "reports": "pipelines.reporting.task",
}
"""Task -> module. Imported when asked for: they bring torch."""


@dataclass(frozen=True)
class Section:
    """A part of the report. `html` is finished: everything in it is escaped and nothing comes from outside."""

    title: str
    html: str


class MeasuredTask(Protocol):
    """What such a module offers."""

    def why_not(self, bench: Bench, spec: Spec) -> list[dict[str, Any]]:
        """What cannot be scored: task, label, images, positives, negatives, reason; label `ALL` when nothing can."""

    def measure(self, bench: Bench, models: Sequence[Model], spec: Spec, run: RunFolder, store: Path) -> pa.Table:
        """Rows of tables.MEASURES on the test split; what stands in the store is not computed again."""

    def on_validation(
        self, bench: Bench, models: Sequence[Model], spec: Spec, run: RunFolder, store: Path
    ) -> dict[str, float]:
        """How each model did on the validation split, from what `measure` left in the store; larger is better. A
        scaling study chooses by it which baseline is the one to beat."""

    def sections(self, rows: list[dict[str, Any]], result: dict[str, Any], root: Path) -> list[Section]:
        """Parts of the report, from this task's rows of tables.RESULTS and files that `measure` left in `root`."""


def open_task(name: str) -> MeasuredTask:
    """The module of a task."""
    return cast(MeasuredTask, import_module(MODULES[name]))


def measurable(names: Sequence[str], bench: Bench, spec: Spec) -> tuple[dict[str, MeasuredTask], list[dict[str, Any]]]:
    """Of the tasks asked for, those that the cohort allows, and what cannot be scored."""
    tasks = {name: open_task(name) for name in names if name in MODULES}
    reasons = {name: task.why_not(bench, spec) for name, task in tasks.items()}
    able = {name: task for name, task in tasks.items() if all(r["label"] != ALL for r in reasons[name])}
    return able, [reason for said in reasons.values() for reason in said]
