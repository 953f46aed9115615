"""Spec of `import`: bring open weights in, verified, from a local path (never downloaded)."""

from pathlib import Path
from typing import Annotated, Literal

from pipelines.contract import Ref
from pipelines.contract import Spec as Base


class Spec(Base):
    source: Annotated[Path, Ref("weights")]
    """Folder or file as published; on a server it must lie under a configured weights root."""
    family: Literal["rad-dino", "mi2", "dinov2", "dinov3"]
