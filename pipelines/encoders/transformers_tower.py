"""SigLIP, SigLIP 2 of fixed resolution, CLIP and ViT in the folder form of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from pipelines.contract import BadInput
from pipelines.encoders.library import Tower, to_grid
from pipelines.encoders.strict import list_faults, read_safetensors

# model_type -> whether the image tower puts a CLS token before the patches.
CLS = {
    "siglip": False,
    "siglip_vision_model": False,
    "clip": True,
    "clip_vision_model": True,
    "vit": True,
}
# model_type -> the norm between the last block and the patch tokens; CLIP has none there.
NORM = {"siglip": "post_layernorm", "siglip_vision_model": "post_layernorm", "vit": "layernorm"}


class TransformersTower(Tower):
    """Pooled output (CLS token where the model has no pooler) and patch tokens of the last block."""

    def __init__(self, model: nn.Module, cls: bool, tokenizer: Any, context: int) -> None:
        super().__init__()
        self.model, self.cls, self.tokenizer, self.context = model, cls, tokenizer, context
        self.text = tokenizer is not None
        self.image_tower = [getattr(model, "vision_model", None) or model.base_model]  # in a list: not a second module

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        out = self.image_tower[0](pixel_values=x_BCHW)
        tokens_BND = out.last_hidden_state
        pooled_BD = getattr(out, "pooler_output", None)
        return tokens_BND[:, 0] if pooled_BD is None else pooled_BD, to_grid(tokens_BND[:, int(self.cls) :])

    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        tower = self.image_tower[0]
        norm = getattr(tower, NORM.get(self.model.config.model_type, ""), nn.Identity())
        _, *blocks = tower(pixel_values=x_BCHW, output_hidden_states=True).hidden_states
        return [to_grid(norm(tokens_BND)[:, int(self.cls) :]) for tokens_BND in blocks]

    def embed_images(self, x_BCHW: Tensor) -> Tensor:
        return _embedding(self.model.get_image_features(pixel_values=x_BCHW))

    def embed_text(self, texts: Sequence[str], device: torch.device) -> Tensor:
        ids = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.context, return_tensors="pt"
        )
        known = {k: ids[k].to(device) for k in ("input_ids", "attention_mask") if k in ids}
        if not self.cls:  # SigLIP was trained without a mask, pads included
            known.pop("attention_mask", None)
        return _embedding(self.model.get_text_features(**known))


def _embedding(out: Any) -> Tensor:
    tensor: Tensor = out if isinstance(out, Tensor) else out.pooler_output
    return tensor


def open_tower(folder: Path, architecture: dict[str, Any]) -> TransformersTower:
    """`architecture` is transformers' `config.json`, which lies in the folder as well."""
    kind = str(architecture.get("model_type"))
    if kind not in CLS:
        known = ", ".join(CLS)
        hint = " SigLIP 2 comes in forms of fixed resolution too; take one of those." if kind.startswith("sig") else ""
        raise BadInput(f"config.json is of the type '{kind}', not one of {known}; use another baseline's name.{hint}")
    model = _load(folder, architecture)
    text = architecture.get("text_config") is not None or kind in ("siglip", "clip")
    tokenizer, context = None, 0
    if text and any((folder / name).exists() for name in ("tokenizer.json", "spiece.model", "vocab.json")):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        context = model.config.text_config.max_position_embeddings
    return TransformersTower(model, CLS[kind], tokenizer, context)


def _load(folder: Path, architecture: dict[str, Any]) -> nn.Module:
    """The model by transformers' own loader, which knows how keys were spelt over time; held to be complete."""
    read_safetensors(folder / "model.safetensors")  # says in our words what a damaged file is
    names = architecture.get("architectures") or [""]
    kind = getattr(transformers, str(names[0]), None)
    if kind is None:
        raise BadInput("config.json names no architecture that transformers has; get the whole folder again.")
    try:
        model, info = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, TypeError, RuntimeError):
        raise BadInput("config.json does not fit the weights; get the whole folder again.") from None
    misshapen = [f"{key} {list(found)} for {list(wanted)}" for key, found, wanted in info["mismatched_keys"]]
    list_faults(sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), misshapen, f"this {names[0]}")
    loaded: nn.Module = model
    return loaded
