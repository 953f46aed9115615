"""The encoders: architectures, published weight layouts, model folders and frozen feature extraction.

A model folder is what a run exports and `import` makes; `load_encoder` opens any of them. torch comes in only when
one is opened, so that light code may import this package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.encoders.encoder import Encoder

__all__ = ["Encoder", "load_encoder"]


def load_encoder(folder: Path, device: str = "cpu") -> Encoder:
    """The frozen encoder of a model folder on `device`.

    BadInput when the folder is not a model folder, its weights differ from their checksum, or keys are missing,
    surplus or misshapen.
    """
    from pipelines.encoders import encoder

    return encoder.open_encoder(Path(folder), device)


def __getattr__(name: str) -> Any:
    if name == "Encoder":
        from pipelines.encoders.encoder import Encoder

        return Encoder
    raise AttributeError(name)
