"""Encoders that a library builds: timm, transformers, open_clip, and torchxrayvision's DenseNet.

Such a model folder holds `tower.json` (family, architecture in the library's own words, preprocessing), the weights
under their published keys, and what else the library wants to read (a tokenizer, its own config). Everything is built
from the folder alone.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.contract import BadInput, read_json, write_atomic
from pipelines.encoders.encoder import Encoder
from pipelines.encoders.folder import TOWER, ModelCard
from pipelines.preprocessing import Preprocessing

# Family -> module whose `open_tower(folder, architecture)` builds the tower and loads its weights strictly.
FAMILIES = {
    "timm": "pipelines.encoders.timm_tower",
    "transformers": "pipelines.encoders.transformers_tower",
    "open_clip": "pipelines.encoders.clip_tower",
    "torchxrayvision": "pipelines.encoders.densenet",
}


@dataclass(frozen=True)
class TowerFacts:
    """`tower.json`."""

    family: str
    architecture: dict[str, Any]
    preprocessing: Preprocessing

    def write(self, folder: Path) -> None:
        """Write `tower.json`, atomically."""
        values = asdict(self) | {"preprocessing": self.preprocessing.to_json()}
        write_atomic(folder / TOWER, json.dumps(values, indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> TowerFacts:
        """BadInput when `tower.json` is damaged or of a family this version does not know."""
        values = read_json(folder / TOWER)
        try:
            facts = TowerFacts(
                values["family"], values["architecture"], Preprocessing.from_json(values["preprocessing"])
            )
        except (KeyError, TypeError):
            raise BadInput(f"{TOWER} in {folder.name} is damaged; import the weights again.") from None
        if facts.family not in FAMILIES:
            raise BadInput(f"{folder.name} is of the unknown family '{facts.family}'; this version cannot open it.")
        return facts


class Tower(nn.Module):
    """What a family builds: one image tower and, for some, a text tower in the same space."""

    text = False
    """Whether `embed_images` and `embed_text` work."""

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """pooled_BD and patches_BHWD."""
        raise NotImplementedError

    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        """patches_BHWD after each block or stage; the last is that of `forward`."""
        raise NotImplementedError

    def embed_images(self, x_BCHW: Tensor) -> Tensor:
        """[B, P], of any length."""
        raise NotImplementedError

    def embed_text(self, texts: Sequence[str], device: torch.device) -> Tensor:
        """[T, P], of any length."""
        raise NotImplementedError


class LibraryEncoder(Encoder):
    """A frozen tower with its published preprocessing."""

    def __init__(self, tower: Tower, how: Preprocessing, card: ModelCard, device: str) -> None:
        super().__init__()
        self.tower, self.how, self.image, self.text = tower, how, how.size, tower.text
        self._freeze(card, device)
        probe = torch.zeros(1, how.channels, how.size, how.size, device=self.device)
        pooled_BD, patches_BHWD = self.features(probe)
        self.pooled_dim, self.patch_dim = pooled_BD.shape[-1], patches_BHWD.shape[-1]

    @torch.no_grad()
    def features(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return self.tower(x_BCHW)

    @torch.no_grad()
    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        return self.tower.maps(x_BCHW)

    @torch.no_grad()
    def embed_images(self, x_BCHW: Tensor) -> Tensor:
        self._require_text()
        return nn.functional.normalize(self.tower.embed_images(x_BCHW), dim=-1)

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        self._require_text()
        return nn.functional.normalize(self.tower.embed_text(texts, self.device), dim=-1)

    def _require_text(self) -> None:
        if not self.tower.text:
            raise BadInput(f"{self.name} has no text tower; zero-shot needs a model with one.")


def open_tower(folder: Path, facts: TowerFacts) -> Tower:
    """The tower of a model folder. BadInput names missing, surplus and misshapen keys."""
    tower: Tower = importlib.import_module(FAMILIES[facts.family]).open_tower(folder, facts.architecture)
    return tower.eval()


def open_library_encoder(folder: Path, card: ModelCard, device: str) -> LibraryEncoder:
    """The frozen encoder of a model folder with `tower.json`."""
    facts = TowerFacts.read(folder)
    return LibraryEncoder(open_tower(folder, facts), facts.preprocessing, card, device)


def to_grid(tokens_BND: Tensor) -> Tensor:
    """Patch tokens of a square image, row by row, to [B, H, W, D]."""
    side = round(tokens_BND.shape[1] ** 0.5)
    return tokens_BND.unflatten(1, (side, side))
