"""Key names and `config.json` of transformers' `Dinov2Model`, with and without registers, and of the dinov2 hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pipelines.contract import BadInput
from pipelines.encoders.vit import VitDims

_STEM = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "register_tokens": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_BLOCK = {
    "attn.proj": "attention.output.dense",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}
_QKV = ("query", "key", "value")


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hub keys to those of the published `model.safetensors`; the fused qkv becomes query, key and value."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        if match := re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", key):
            for name, part in zip(_QKV, value.chunk(3), strict=True):
                out[f"encoder.layer.{match[1]}.attention.attention.{name}.{match[2]}"] = part
        else:
            out[_to_transformers_name(key)] = value
    return out


def _to_transformers_name(key: str) -> str:
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", key):
        return f"encoder.layer.{match[1]}.{_swap_prefix(match[2], _BLOCK)}"
    return _swap_prefix(key, _STEM)


def to_hub(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of a transformers `Dinov2Model` file to hub keys. Keys that are neither stay, for the strict loader."""
    stem, block = {v: k for k, v in _STEM.items()}, {v: k for k, v in _BLOCK.items()}
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        if match := re.fullmatch(r"encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)", key):
            names = [key.replace(".query.", f".{name}.") for name in _QKV]
            if all(name in state and state[name].shape == value.shape for name in names):
                out[f"blocks.{match[1]}.attn.qkv.{match[2]}"] = torch.cat([state[name] for name in names])
        elif re.fullmatch(r"encoder\.layer\.\d+\.attention\.attention\.(key|value)\.(weight|bias)", key):
            continue
        elif match := re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", key):
            out[f"blocks.{match[1]}.{_swap_prefix(match[2], block)}"] = value
        else:
            out[_swap_prefix(key, stem)] = value
    return out


def _swap_prefix(key: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        if key == old or key.startswith(old + "."):
            return new + key[len(old) :]
    return key


def transformers_config(dims: VitDims) -> dict[str, Any]:
    """`config.json` of a transformers `Dinov2Model` or `Dinov2WithRegistersModel`."""
    kind = {"architectures": ["Dinov2Model"], "model_type": "dinov2"}
    if dims.registers:
        kind = {"architectures": ["Dinov2WithRegistersModel"], "model_type": "dinov2_with_registers"}
        kind["num_register_tokens"] = dims.registers
    return {
        **kind,
        "hidden_size": dims.dim,
        "num_hidden_layers": dims.depth,
        "num_attention_heads": dims.heads,
        "image_size": dims.image,
        "patch_size": dims.patch,
        "num_channels": 3,
        "mlp_ratio": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "layerscale_value": 1.0,
        "qkv_bias": True,
        "drop_path_rate": 0.0,
        "use_swiglu_ffn": False,
        "torch_dtype": "float32",
    }


def dims_from_config(config: Mapping[str, Any], head: Mapping[str, Tensor] | None) -> VitDims:
    """Size from `config.json` and, for the head, from its tensors; BadInput when it is no DINOv2 ViT."""
    try:
        if config["model_type"] not in ("dinov2", "dinov2_with_registers") or config.get("use_swiglu_ffn", False):
            raise BadInput("config.json is not that of a DINOv2 ViT with a plain MLP; get the folder of such a one.")
        sizes: dict[str, int] = {}
        if head:
            sizes = {
                "prototypes": head["last_layer.weight_v"].shape[0],
                "head_bottleneck": head["last_layer.weight_v"].shape[1],
                "head_hidden": head["mlp.0.weight"].shape[0],
            }
        return VitDims(
            image=int(config["image_size"]),
            dim=int(config["hidden_size"]),
            depth=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            patch=int(config["patch_size"]),
            registers=int(config.get("num_register_tokens", 0)),
            **sizes,
        )
    except (KeyError, TypeError, ValueError, IndexError):
        raise BadInput(
            "config.json or dino_head.safetensors does not describe a DINOv2 ViT; copy the folder again."
        ) from None
