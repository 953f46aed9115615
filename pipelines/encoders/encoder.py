"""Frozen encoders for evaluation, and building and saving the towers that training starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.contract import BadInput, read_json
from pipelines.encoders import dinov3, mi2, vit, vit_names
from pipelines.encoders.folder import HEAD, TOWER, WEIGHTS, ModelCard, check_weights, read_card
from pipelines.encoders.prepare import prepare
from pipelines.encoders.strict import load_strict, read_safetensors
from pipelines.encoders.tokens import Tokenizer
from pipelines.preprocessing import DINO, MI2, RAD_DINO, Preprocessing

RAD_DINO_KINDS = ("rad-dino", "rad-dino-tiny")
MI2_KINDS = ("mi2", "mi2-tiny")
DINO_KINDS = ("dinov2", "dinov3")


class Encoder(nn.Module):
    """A frozen image encoder in evaluation mode."""

    name: str
    """`rad-dino`, `rad-dino-tiny`, `mi2`, `mi2-tiny`, `dinov2`, `dinov3`, or the name of another baseline."""
    pooled_dim: int
    patch_dim: int
    image: int
    """Side of the prepared images in pixels."""
    how: Preprocessing
    """The published scaling that `prepare` applies."""
    card: ModelCard
    text = False
    """Whether `embed_images` and `embed_text` work."""

    def prepare(self, images: Sequence[np.ndarray]) -> Tensor:
        """Stored grey images (uint8 [H, W], any shapes) to float32 [B, 3, image, image] by the published scaling."""
        return prepare(images, self.how).to(self.device)

    def features(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """pooled_BD and patches_BHWD, float32, without gradients."""
        raise NotImplementedError

    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        """Patch features [B, h, w, D] after each block, or stage of a network in stages, first to last, without
        gradients. The last is that of `features`; h, w and D may change from stage to stage."""
        raise NotImplementedError

    def embed_images(self, x_BCHW: Tensor) -> Tensor:
        """Unit vectors [B, P] comparable with `embed_text`; BadInput for an encoder without text."""
        raise BadInput(f"{self.name} has no text tower; zero-shot needs a model with one.")

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [T, P] of texts; BadInput for an encoder without text."""
        raise BadInput(f"{self.name} has no text tower; zero-shot needs a model with one.")

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def _freeze(self, card: ModelCard, device: str) -> None:
        self.card, self.name = card, card.encoder
        self.eval().requires_grad_(False).to(device)


class VitEncoder(Encoder):
    """RAD-DINO, DINOv2 and DINOv3: CLS token and patch tokens after the final norm."""

    def __init__(self, tower: nn.Module, dims: vit.VitDims | dinov3.Dinov3Dims, card: ModelCard, device: str) -> None:
        super().__init__()
        self.tower, self.image = tower, dims.image
        self.pooled_dim = self.patch_dim = dims.dim
        self.how = (RAD_DINO if card.encoder in RAD_DINO_KINDS else DINO).at(dims.image)
        self._freeze(card, device)

    @torch.no_grad()
    def features(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return self.tower(x_BCHW)

    @torch.no_grad()
    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        return self.tower.maps(x_BCHW)


class Mi2Encoder(Encoder):
    """MedImageInsight: pooled and normed vector before the projection, and the map of the last DaViT stage."""

    text = True

    def __init__(self, towers: mi2.Mi2, tokenizer: Tokenizer, card: ModelCard, device: str) -> None:
        super().__init__()
        self.towers, self.tokenizer, self.image = towers, tokenizer, towers.dims.image
        self.how = MI2.at(self.image)
        self.pooled_dim = self.patch_dim = towers.dims.dims[-1]
        self._freeze(card, device)

    @torch.no_grad()
    def features(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return self.towers.image_features(x_BCHW)

    @torch.no_grad()
    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        return self.towers.image_maps(x_BCHW)

    @torch.no_grad()
    def embed_images(self, x_BCHW: Tensor) -> Tensor:
        return self.towers.embed_image(x_BCHW)

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        ids, mask = self.tokenizer(texts)
        return self.towers.embed_text(ids.to(self.device), mask.to(self.device))


def open_encoder(folder: Path, device: str) -> Encoder:
    """See `pipelines.encoders.load_encoder`."""
    card = read_card(folder)
    check_weights(folder, card)
    if (folder / TOWER).exists():
        from pipelines.encoders.library import open_library_encoder

        return open_library_encoder(folder, card, device)
    if card.encoder in (*RAD_DINO_KINDS, "dinov2"):
        tower, dims, _ = load_rad_dino(folder)
        return VitEncoder(tower, dims, card, device)
    if card.encoder == "dinov3":
        return VitEncoder(*load_dinov3(folder), card, device)
    if card.encoder in MI2_KINDS:
        towers, tokenizer = load_mi2(folder)
        return Mi2Encoder(towers, tokenizer, card, device)
    raise BadInput(f"{folder.name} is of the unknown encoder '{card.encoder}'; this version cannot open it.")


def load_rad_dino(folder: Path, drop_path: float = 0.0) -> tuple[vit.Vit, vit.VitDims, vit.DinoHead | None]:
    """Tower of RAD-DINO or DINOv2, its size and, when the folder has one, the DINO head."""
    head_state = read_safetensors(folder / HEAD) if (folder / HEAD).exists() else None
    dims = vit_names.dims_from_config(read_json(folder / "config.json"), head_state)
    tower = vit.Vit(dims, drop_path)
    load_strict(tower, vit_names.to_hub(read_safetensors(folder / WEIGHTS)), "this DINOv2 tower")
    head = None
    if head_state is not None:
        head = vit.DinoHead(dims)
        load_strict(head, head_state, "this DINO head")
    return tower, dims, head


def load_dinov3(folder: Path) -> tuple[dinov3.Dinov3, dinov3.Dinov3Dims]:
    """Tower and size."""
    dims = dinov3.dims_from_config(read_json(folder / "config.json"))
    tower = dinov3.Dinov3(dims)
    load_strict(tower, dinov3.from_transformers(read_safetensors(folder / WEIGHTS)), "this DINOv3 tower")
    return tower, dims


def load_mi2(folder: Path, drop_path: float = 0.0) -> tuple[mi2.Mi2, Tokenizer]:
    """Both towers and the tokenizer."""
    dims = mi2.dims_from_json(read_json(folder / "mi2.json"))
    towers = mi2.Mi2(dims, drop_path)
    state = mi2.from_published(read_safetensors(folder / WEIGHTS), towers.state_dict())
    load_strict(towers, state, "this MI2 model")
    tokenizer = Tokenizer.load(folder / "tokenizer.json", dims.context)
    if tokenizer.size > dims.vocabulary:
        raise BadInput("The tokenizer has more tokens than the weights; use the one published with the weights.")
    return towers, tokenizer
