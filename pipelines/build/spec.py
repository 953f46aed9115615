"""Spec of `build`: released de-identified folders in, a cohort out."""

from pathlib import Path
from typing import Annotated, Literal

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
    labels: Annotated[tuple[Path, ...], Ref("labels")] = ()
    """Finished label runs of these exports, at most one each; without, an export brings its site's own table."""
    label_sources: tuple[Literal["site", "rules", "model"], ...] = Field(("site", "rules"), min_length=1)
    """Which sources of labels are used; of two that speak of one label of a study, the one named first is heard."""
    workers: int = Field(0, ge=0)
