"""Spec of `picking`: leaves a file for each unit."""

from pathlib import Path

from pipelines.contract import Spec as Base


class Spec(Base):
    units: int = 40
    pause: float = 0.1
    """Seconds that a unit takes."""
    together: int = 1
    """No unit ends before so many jobs have begun with one."""
    share_of: Path | None = None
