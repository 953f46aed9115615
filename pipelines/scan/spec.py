"""Spec of `scan`: what is in an export, as a partitioned inventory."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipelines.contract import Ref
from pipelines.contract import Spec as Base
from pipelines.parallel import ITEM_SECONDS


class Spec(Base):
    export: Annotated[Path, Ref("export")]
    secret: Annotated[Path, Ref("internal")]
    vault_key: Annotated[Path, Ref("internal")]
    issuer: Annotated[str, Ref("internal")] = ""
    """The site's default issuer of patient IDs."""
    workers: int = Field(0, ge=0)
    """Processes; 0 takes one per core."""
    item_seconds: float = Field(ITEM_SECONDS, ge=1)
    """A file may take so long, and a second more for each megabyte; one that takes longer is quarantined."""
