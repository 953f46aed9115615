"""Spec of `scale`: the finished runs of a scaling study, judged together."""

from typing import Literal

from pydantic import Field

from pipelines.evaluate.spec import Spec as Evaluation
from pipelines.evaluate.spec import Task


class Spec(Evaluation):
    """As an evaluation; `models` are runs of one or more encoders at several sizes, each size under the same seeds."""

    tasks: tuple[Task, ...] = ("findings", "lines", "view")
    methods: tuple[Literal["linear"], ...] = ("linear",)
    similarity: Literal[0] = 0
    alpha: float = Field(0.05, gt=0, lt=0.5)
    """Error rate of the break-even over sizes and tasks together."""
