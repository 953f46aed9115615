"""Spec of `similarity`: which images of a cohort are shown, and around which points."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.contract import Ref
from pipelines.contract import Spec as Base

Share = Annotated[float, Field(ge=0, le=1)]


class Place(BaseModel):
    """An image by its number in the cohort, from 0, and a point in it as shares of its width and height."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: int = Field(ge=0)
    x: Share | None = None
    y: Share | None = None
    """Without a point no picture is drawn; the page of the maps asks for one."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.x is None) != (self.y is None):
            raise ValueError("must give x and y, or neither")
        return self


class Spec(Base):
    cohort: Annotated[Path, Ref("cohort")]
    models: Annotated[tuple[Path, ...], Ref("model"), Field(min_length=1, max_length=8)]
    """Drawn one below the other, in this order."""
    places: tuple[Place, ...] = Field((), max_length=20)
    label: str | None = None
    """Without places: the first four test images whose study is positive for this label, to be pointed at. Without
    either: the first test image of each kind of line or tube whose tip is drawn, at its tip."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
