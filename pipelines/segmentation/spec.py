"""Settings of segmentation in an evaluation."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Head = Literal["upernet", "linear"]


class Segmentation(BaseModel):
    """How heads are trained and predictions judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: int = Field(default=256, ge=32, le=2048)
    """Side in pixels of the square in which all models are judged; not above the cohort's own."""
    heads: tuple[Head, ...] = Field(default=("upernet", "linear"), min_length=1)
    steps: int = Field(default=400, ge=1)
    """Optimiser steps of a head; the best of eight looks at the validation split is kept."""
    batch: int = Field(default=16, ge=2)
    dicom: int = Field(default=100, ge=0)
    """Test images of each model whose predicted masks are written as DICOM SEG."""
