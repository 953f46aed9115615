"""Spec of `build`: released de-identified folders in, a cohort out."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipelines.contract import Ref
from pipelines.contract import Spec as Base


class Spec(Base):
    deid: Annotated[tuple[Path, ...], Ref("deid"), Field(min_length=1)]
    release_key: Annotated[Path, Ref("internal")]
    """Public key that releases are signed with."""
    side: int = Field(518, ge=32, le=2048)
    """Shorter side of the stored images in pixels."""
    views: tuple[str, ...] = ("AP", "PA", "LATERAL", "unknown")
    minimum_age: int = Field(18, ge=0)
    workers: int = Field(0, ge=0)
