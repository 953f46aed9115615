"""Spec of `external`: a labelled folder from outside the site into a cohort to evaluate on."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipelines.contract import Ref
from pipelines.contract import Spec as Base

Layout = Literal["auto", "chestx-ray14", "ranzcr-clip", "vindr-cxr", "candid-ptx", "table"]


class Spec(Base):
    folder: Annotated[Path, Ref("internal")]
    """Holds the images and their tables, as published."""
    layout: Layout = "auto"
    """`auto` goes by the names of the tables."""
    name: str = ""
    """Name of the set, by which models that were trained on it are known; a published layout has its own."""
    split: Literal["published", "test", "divide"] = "published"
    """`published` takes the splits that the set states, and all patients as test where it states none; `test` takes all
    as test; `divide` draws train, validation and test by a hash of the patient."""
    side: int = Field(518, ge=32, le=2048)
    """Shorter side of the stored images in pixels."""
    workers: int = Field(0, ge=0)
