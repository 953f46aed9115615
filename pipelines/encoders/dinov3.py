"""DINOv3's ViT (arXiv 2508.10104): patch positions by rotation, register tokens, no bias of keys.

A baseline: no objective here trains it. Names of parameters follow the dinov2 hub; `to_transformers` and
`from_transformers` translate to and from a transformers `DINOv3ViTModel`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.contract import BadInput
from pipelines.encoders.depths import watch

EPS = 1e-5


@dataclass(frozen=True)
class Dinov3Dims:
    """Size of a DINOv3 ViT with a plain MLP (S, B, L)."""

    dim: int
    depth: int
    heads: int
    image: int = 512
    """Side of the images it is evaluated at, in pixels; any multiple of the patch will do."""
    patch: int = 16
    registers: int = 4
    theta: float = 100.0


class Dinov3(nn.Module):
    """Images to the CLS token and patch tokens after the final norm."""

    def __init__(self, dims: Dinov3Dims) -> None:
        super().__init__()
        self.dims = dims
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims.dim))
        self.storage_tokens = nn.Parameter(torch.zeros(1, dims.registers, dims.dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dims.dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dims.dim, dims.patch, dims.patch)})
        self.blocks = nn.ModuleList([Dinov3Block(dims.dim, dims.heads) for _ in range(dims.depth)])
        self.norm = nn.LayerNorm(dims.dim, EPS)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """CLS token [B, D] and patch tokens [B, H, W, D]."""
        x_BDHW = self.patch_embed["proj"](x_BCHW)
        B, D, H, W = x_BDHW.shape
        front = [t.expand(B, -1, -1) for t in (self.cls_token, self.storage_tokens)]
        x_BND = torch.cat([*front, x_BDHW.flatten(2).mT], 1)
        angles_NE = rotary_angles(H, W, D // self.dims.heads, self.dims.theta).to(x_BCHW.device)
        turn = angles_NE.cos(), angles_NE.sin()
        for block in self.blocks:
            x_BND = block(x_BND, turn)
        return self._split(self.norm(x_BND), H, W)

    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        """Patch tokens [B, H, W, D] after each block, through the final norm."""
        with watch(self.blocks) as seen:
            self(x_BCHW)
        height, width = (side // self.dims.patch for side in x_BCHW.shape[2:])
        return [self._split(self.norm(x_BND), height, width)[1] for x_BND in seen]

    def _split(self, x_BND: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        return x_BND[:, 0], x_BND[:, 1 + self.dims.registers :].unflatten(1, (height, width))


class Dinov3Block(nn.Module):
    """Attention and MLP, each on its normed input, scaled and added back."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, EPS), nn.LayerNorm(dim, EPS)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})
        self.ls1, self.ls2 = (nn.ParameterDict({"gamma": nn.Parameter(torch.ones(dim))}) for _ in range(2))

    def forward(self, x_BND: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        x_BND = x_BND + self.ls1["gamma"] * self._attend(self.norm1(x_BND), turn)
        hidden = F.gelu(self.mlp["fc1"](self.norm2(x_BND)))
        return x_BND + self.ls2["gamma"] * self.mlp["fc2"](hidden)

    def _attend(self, x_BND: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        B, N, D = x_BND.shape
        q, k, v = self.attn["qkv"](x_BND).view(B, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(_rotate(q, turn), _rotate(k, turn), v)
        return self.attn["proj"](out.transpose(1, 2).reshape(B, N, D))


def rotary_angles(height: int, width: int, dim: int, theta: float) -> Tensor:
    """float32 [height * width, dim] angles of a head's channels: a quarter of the channels turns with the row, a
    quarter with the column, and the second half as the first. Places run from -1 to 1 whatever the size."""
    rows, columns = ((torch.arange(n, dtype=torch.float32) + 0.5) / n * 2 - 1 for n in (height, width))
    place_N2 = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)
    periods = theta ** torch.arange(0, 1, 4 / dim, dtype=torch.float32)
    return (2 * math.pi * place_N2[..., None] / periods).flatten(1).tile(2)


def _rotate(x_BHND: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the patch tokens, which come last."""
    cos, sin = turn
    front, patches = x_BHND.split([x_BHND.shape[2] - len(cos), len(cos)], 2)
    first, second = patches.chunk(2, -1)
    return torch.cat([front, patches * cos + torch.cat([-second, first], -1) * sin], 2)


# ---- key names ---------------------------------------------------------------------------------------------------

_STEM = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "storage_tokens": "embeddings.register_tokens",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.bias",
}
_BLOCK = {
    "attn.proj": "attention.o_proj",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
    "mlp.fc1": "mlp.up_proj",
    "mlp.fc2": "mlp.down_proj",
}


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our keys to those of the published `model.safetensors`."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias|gamma)", key)
        if key == "mask_token":
            out[_STEM[key]] = value[None]
        elif match is None:
            out[_STEM.get(key, key)] = value
        elif match[2] == "attn.qkv":
            for name, part in zip("qkv", value.chunk(3), strict=True):
                if (name, match[3]) != ("k", "bias"):  # zeros
                    out[f"layer.{match[1]}.attention.{name}_proj.{match[3]}"] = part
        elif match[3] == "gamma":
            out[f"layer.{match[1]}.{_BLOCK[match[2] + '.gamma']}"] = value
        else:
            out[f"layer.{match[1]}.{_BLOCK.get(match[2], match[2])}.{match[3]}"] = value
    return out


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of a published file to ours, with zeros for the bias of keys. Unknown keys stay, for the strict loader."""
    stem, block = {v: k for k, v in _STEM.items()}, {v: k for k, v in _BLOCK.items()}
    state = {key.removeprefix("model."): value for key, value in state.items()}  # as transformers 5 spells them
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        if match := re.fullmatch(r"layer\.(\d+)\.attention\.q_proj\.(weight|bias)", key):
            parts = [state.get(key.replace("q_proj", f"{name}_proj")) for name in "qkv"]
            if match[2] == "bias":
                parts[1] = torch.zeros_like(value)
            if all(part is not None and part.shape == value.shape for part in parts):
                out[f"blocks.{match[1]}.attn.qkv.{match[2]}"] = torch.cat(parts)
        elif re.fullmatch(r"layer\.\d+\.attention\.(k_proj\.weight|v_proj\.(weight|bias))", key):
            continue
        elif match := re.fullmatch(r"layer\.(\d+)\.(.+?)(\.weight|\.bias)?", key):
            out[f"blocks.{match[1]}.{block.get(match[2], match[2])}{match[3] or ''}"] = value
        else:
            out[stem.get(key, key)] = value[0] if key == "embeddings.mask_token" else value
    return out


def transformers_config(dims: Dinov3Dims) -> dict[str, Any]:
    """`config.json` of a transformers `DINOv3ViTModel`."""
    return {
        "architectures": ["DINOv3ViTModel"],
        "model_type": "dinov3_vit",
        "hidden_size": dims.dim,
        "intermediate_size": 4 * dims.dim,
        "num_hidden_layers": dims.depth,
        "num_attention_heads": dims.heads,
        "num_register_tokens": dims.registers,
        "image_size": dims.image,
        "patch_size": dims.patch,
        "rope_theta": dims.theta,
        "layer_norm_eps": EPS,
        "hidden_act": "gelu",
        "use_gated_mlp": False,
        "query_bias": True,
        "key_bias": False,
        "value_bias": True,
        "proj_bias": True,
        "mlp_bias": True,
        "torch_dtype": "float32",
    }


def dims_from_config(config: Mapping[str, Any]) -> Dinov3Dims:
    """Size from `config.json`; BadInput when it is no DINOv3 ViT with a plain MLP of four times the width."""
    try:
        plain = config["model_type"] == "dinov3_vit" and not config.get("use_gated_mlp", False)
        if not plain or config["intermediate_size"] != 4 * config["hidden_size"]:
            raise BadInput("config.json is not that of a DINOv3 ViT-S, -B or -L; get the folder of such a one.")
        return Dinov3Dims(
            dim=int(config["hidden_size"]),
            depth=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            patch=int(config["patch_size"]),
            registers=int(config["num_register_tokens"]),
            theta=float(config.get("rope_theta", 100.0)),
        )
    except (KeyError, TypeError, ValueError):
        raise BadInput("config.json does not describe a DINOv3 ViT; copy the folder again.") from None
