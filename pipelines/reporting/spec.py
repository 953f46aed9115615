"""Settings of report generation in an evaluation."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Adapt = Literal["projector", "lora", "all"]


class Reporting(BaseModel):
    """How report writers are trained and what they are shown. Lengths are in tokens of the language model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    indication: bool = False
    """Show the indication of the study beside the image."""
    prior: bool = False
    """Show the findings of the patient's study before, where there is one."""
    adapt: Adapt = "projector"
    """What of a given language model learns beside the projector. The embedded one always learns wholly."""
    grid: int = Field(default=8, ge=0, le=64)
    """Patch tokens are averaged to at most grid x grid; 0 shows every one, as MAIRA-2 does."""
    projector_layers: int = Field(default=2, ge=1, le=8)
    """Linear layers with GELU between: 2 as LLaVA-1.5, 4 as MAIRA-2 (arXiv 2406.04449)."""
    studies: int = Field(default=5000, ge=8)
    """The most train studies that are learnt from: every patch token of each is stored."""
    seeds: int = Field(default=3, ge=1)
    """How many of the evaluation's seeds a writer is trained under, from the lowest; fewer than 3 is below protocol."""
    steps: int = Field(default=1000, ge=1)
    """The most optimiser steps; training ends earlier when the validation loss no longer falls."""
    patience: int = Field(default=4, ge=1)
    """Validations without a lower loss after which training ends."""
    batch: int = Field(default=16, ge=1)
    rate: float | None = Field(default=None, gt=0)
    """Peak learning rate; None takes 1e-3 for new parts and 2e-5 where a given language model learns wholly."""
    tokens: int = Field(default=150, ge=8, le=1024)
    """The longest report that is written."""
    examples: int = Field(default=4, ge=0, le=20)
    """Studies whose reports are printed side by side."""
