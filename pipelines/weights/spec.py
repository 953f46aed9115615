"""Spec of `import`: bring open weights in, verified, from a local path (never downloaded)."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from pipelines.contract import BadInput, Ref
from pipelines.contract import Spec as Base
from pipelines.weights.baselines import NAMES, find_baseline


def _known(name: str) -> str:
    try:
        return find_baseline(name).name
    except BadInput as error:
        raise ValueError(str(error)) from None


class Spec(Base):
    source: Annotated[Path, Ref("weights")]
    """Folder or file as published; on a server it must lie under a configured weights root."""
    family: Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(NAMES)})]
    """Name of a row of `baselines.BASELINES`."""
    seen: tuple[str, ...] = ()
    """Public sets the weights were trained on, besides those that the row names."""
