"""Spec of `practice`: a synthetic PACS export with planted identities and an answer key."""

from pathlib import Path

from pydantic import Field

from pipelines.contract import Spec as Base


class Spec(Base):
    out: Path
    """New folder for the export; `OUT.key.json` is written beside it."""
    studies: int = Field(40, ge=1, le=100_000)
    seed: int = Field(1, ge=0)
    side: int = Field(1024, ge=256, le=4096)
    """Shorter side of the radiographs in pixels."""
