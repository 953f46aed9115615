"""Spec of `score`: leaks and losses of a de-identified folder against an answer key."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipelines.contract import Ref
from pipelines.contract import Spec as Base


class Spec(Base):
    deid: Annotated[Path, Ref("deid")]
    export: Annotated[Path, Ref("export")]
    """The source, for the comparison of pixels and clinical attributes."""
    key: Annotated[Path, Ref("internal")]
    """The answer key, EXPORT.key.json."""
    secret: Annotated[Path, Ref("internal")]
    """To find the output of each planted instance (source_id, new UID)."""
    workers: int = Field(0, ge=0)
