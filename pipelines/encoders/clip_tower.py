"""open_clip models of any image and text tower, BiomedCLIP's BERT included, and OpenAI's layout (CheXzero)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor, nn

from pipelines.contract import BadInput
from pipelines.encoders.folder import WEIGHTS
from pipelines.encoders.library import Tower
from pipelines.encoders.strict import load_strict, read_safetensors


class ClipTower(Tower):
    """Image embedding, and the map of the last block after the norm."""

    text = True

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        out = self.model.visual.forward_intermediates(x_BCHW, indices=1, normalize_intermediates=True)
        return out["image_features"], out["image_intermediates"][-1].permute(0, 2, 3, 1)

    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        found = self.model.visual.forward_intermediates(x_BCHW, normalize_intermediates=True, intermediates_only=True)
        return [map_BDHW.permute(0, 2, 3, 1) for map_BDHW in found["image_intermediates"]]

    def embed_images(self, x_BCHW: Tensor) -> Tensor:
        return self.model.encode_image(x_BCHW)

    def embed_text(self, texts: Sequence[str], device: torch.device) -> Tensor:
        return self.model.encode_text(self.tokenizer(list(texts)).to(device))


def open_tower(folder: Path, architecture: dict[str, Any]) -> ClipTower:
    """`architecture` is the `model_cfg` of `open_clip_config.json`. A text tower of transformers takes its config and
    tokenizer from the folder, whatever name the config gives."""
    config = copy.deepcopy(architecture)
    if "multimodal_cfg" in config:
        raise BadInput("The open_clip model is a CoCa, which captions as well; use a model without a decoder.")
    text, custom = config.get("text_cfg", {}), config.pop("custom_text", False)
    if text.get("hf_model_name"):
        text |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
        custom = True
    try:
        model = (CustomTextCLIP if custom else CLIP)(**config)
        tokenizer = _tokenizer(folder, text)
    except (TypeError, ValueError, KeyError, OSError, RuntimeError, AssertionError):
        raise BadInput(
            "open_clip_config.json or the tokenizer beside it does not describe a model that open_clip here can "
            "build; get the whole folder again."
        ) from None
    load_strict(model, read_safetensors(folder / WEIGHTS), "this open_clip model")
    return ClipTower(model, tokenizer)


def _tokenizer(folder: Path, text: dict[str, Any]) -> Any:
    context = int(text.get("context_length", 77))
    if text.get("hf_tokenizer_name") or text.get("hf_model_name"):
        return HFTokenizer(str(folder), context_length=context, **text.get("tokenizer_kwargs", {}))
    return SimpleTokenizer(context_length=context)
