"""Spec of `pretrain`: one continual pretraining of an encoder on N samples of a cohort."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipelines.contract import Ref
from pipelines.contract import Spec as Base

ENCODERS = ("rad-dino", "rad-dino-tiny", "mi2", "mi2-tiny")


Share = Annotated[float, Field(gt=0, lt=1)]


class Spec(Base):
    FREE: ClassVar[frozenset[str]] = frozenset({"micro_batch", "checkpoint_activations"})
    """What a run that ran out of memory may be resumed with; it changes rounding at most."""

    cohort: Annotated[Path, Ref("cohort")]
    encoder: Literal["rad-dino", "rad-dino-tiny", "mi2", "mi2-tiny"]
    start: Annotated[Path | None, Ref("model")] = None
    """Model folder to start from; required for the full-size encoders, none means the seeded start of a tiny form."""
    samples: int | None = Field(None, ge=1)
    """N: the prefix of whole train patients nearest N samples; none takes all."""
    budget: int = Field(ge=1)
    """Image forwards, the same for every N and supervision: steps = budget // batch."""
    batch: int = Field(ge=2)
    """Global batch in samples, over all ranks."""
    micro_batch: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Samples a rank takes at once; `auto` takes its share of the batch whole, or on a GPU the half, quarter, ... of it
    that fits. Changes memory and time, no statistics."""
    supervision: Literal["reports", "labels", "both"] = "both"
    """MI2 only."""
    seed: int = Field(0, ge=0)
    learning_rate: float | None = Field(None, gt=0)
    """None takes the encoder's default."""
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool | None = None
    """Compile the blocks: half a minute at the start. None does so where a gain was measured: RAD-DINO on a GPU."""
    packed: bool = False
    """RAD-DINO: global and local views go through the tower together; 2 % faster beside `compile`."""
    checkpoint_activations: bool = False
    """Compute activations twice instead of keeping them: a fifth of the memory at 0.86 times the speed."""
    checkpoint_every: int = Field(100, ge=1)
    """Optimiser steps between checkpoints; the last two are kept."""
    milestones: tuple[Share, ...] = (0.25, 0.5, 0.75)
    """Shares of the budget at which the model is also exported, to `milestones/`."""
    insight_every: int | None = Field(None, ge=1)
    """Optimiser steps between looks at validation images (`insight.py`); none takes a twentieth of the run."""
