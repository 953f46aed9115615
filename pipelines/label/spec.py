"""Spec of `label`: a released de-identified folder in, structured labels of each source out."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipelines.contract import Ref
from pipelines.contract import Spec as Base

Source = Literal["site", "rules", "model"]


class Spec(Base):
    FREE: ClassVar[frozenset[str]] = frozenset({"workers", "batch", "device"})

    deid: Annotated[Path, Ref("deid")]
    release_key: Annotated[Path, Ref("internal")]
    """Public key that releases are signed with."""
    sources: tuple[Source, ...] = Field(("site", "rules"), min_length=1)
    """`site`: the export's own table. `rules`: phrases over the reports. `model`: a local language model."""
    phrases: Annotated[Path | None, Ref("internal")] = None
    """TOML file with the site's own phrases, added to those that come with the product."""
    model: Annotated[Path | None, Ref("weights")] = None
    """Folder of a causal language model as transformers saves it; needed for the source `model`."""
    prompt: Annotated[Path | None, Ref("internal")] = None
    """TOML file with a prompt of the site's own."""
    retries: int = Field(2, ge=0, le=5)
    """How often an answer that does not fit the schema is asked for again, the error told."""
    batch: int = Field(8, ge=1)
    """Reports the model reads at once; halved by itself where the GPU's memory does not hold them."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _model_given(self) -> Self:
        if len(set(self.sources)) < len(self.sources):
            raise ValueError("a source is named twice; name it once")
        if ("model" in self.sources) != (self.model is not None):
            raise ValueError("the source 'model' and a folder in 'model' belong together; give both or neither")
        return self
