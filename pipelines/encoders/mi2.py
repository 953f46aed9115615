"""MedImageInsight (arXiv 2410.06542): a DaViT image tower and a bidirectional text transformer in one space.

The image tower is timm's `davit_huge_fl` (the same blocks as the published davit_v1); the text tower follows the
public UniCL model. `to_published` and `from_published` translate to the 601 keys of the released file, old spellings
included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.davit import DaVit
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipelines.contract import BadInput
from pipelines.encoders.depths import watch
from pipelines.encoders.stream import norms_keep_type, to_stream


@dataclass(frozen=True)
class Mi2Dims:
    """Size of both towers."""

    image: int
    """Side of the square input in pixels."""
    depths: tuple[int, ...]
    dims: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    text_dim: int
    text_layers: int
    text_heads: int
    vocabulary: int
    projection: int
    context: int = 77
    logit_scale: float = 1.0
    """Start value of the scalar whose exponential multiplies the cosine similarities."""


MI2 = Mi2Dims(
    image=480,
    depths=(1, 1, 9, 1),
    dims=(256, 512, 1024, 2048),
    heads=(8, 16, 32, 64),
    window=12,
    text_dim=1024,
    text_layers=16,
    text_heads=16,
    vocabulary=49408,
    projection=1024,
)
MI2_TINY = Mi2Dims(
    image=128,
    depths=(1, 1, 1, 1),
    dims=(32, 64, 96, 128),
    heads=(1, 2, 3, 4),
    window=4,
    text_dim=96,
    text_layers=2,
    text_heads=3,
    vocabulary=2048,
    projection=96,
    # ln(1 / 0.07), CLIP's start: a tower that starts from nothing has not learned its own.
    logit_scale=2.6592,
)


class Mi2(nn.Module):
    """Both towers and their projections."""

    def __init__(self, dims: Mi2Dims, drop_path: float = 0.0) -> None:
        super().__init__()
        self.dims = dims
        self.image_encoder = DaVit(
            depths=dims.depths,
            embed_dims=dims.dims,
            num_heads=dims.heads,
            window_size=dims.window,
            down_kernel_size=3,
            channel_attn_v2=True,
            named_blocks=True,
            drop_path_rate=drop_path,
            num_classes=0,
        )
        norms_keep_type(self.image_encoder.stem)
        norms_keep_type(self.image_encoder.stages)
        self.lang_encoder = TextTower(dims)
        self.image_projection = nn.Parameter(torch.empty(dims.dims[-1], dims.projection))
        self.lang_projection = nn.Parameter(torch.empty(dims.text_dim, dims.projection))
        self.logit_scale = nn.Parameter(torch.tensor(dims.logit_scale))
        for projection in (self.image_projection, self.lang_projection):
            nn.init.trunc_normal_(projection, std=0.02)

    def checkpoint_blocks(self, on: bool) -> None:
        """Forget the blocks' activations and compute them again in the backward pass."""
        self.image_encoder.set_grad_checkpointing(on)
        self.lang_encoder.checkpoint_blocks = on

    def image_features(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled and normed vector [B, D] and the map of the last stage [B, H, W, D]."""
        map_BDHW = self.image_encoder.forward_features(x_BCHW)
        return self.image_encoder.forward_head(map_BDHW), map_BDHW.permute(0, 2, 3, 1)

    def image_maps(self, x_BCHW: Tensor) -> list[Tensor]:
        """Map [B, H, W, D] of each stage: H and W halve and D grows from one to the next."""
        with watch(self.image_encoder.stages) as seen:
            self.image_encoder.forward_features(x_BCHW)
        return [map_BDHW.permute(0, 2, 3, 1) for map_BDHW in seen]

    def project_image(self, pooled_BD: Tensor) -> Tensor:
        """Unit vectors [B, P] in the shared space."""
        return F.normalize(pooled_BD.float() @ self.image_projection, dim=-1)

    def embed_image(self, x_BCHW: Tensor) -> Tensor:
        """Unit vectors [B, P] of images."""
        return self.project_image(self.image_features(x_BCHW)[0])

    def embed_text(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Unit vectors [B, P] of tokenised texts."""
        return F.normalize(self.lang_encoder(ids_BT, mask_BT).float() @ self.lang_projection, dim=-1)


class TextTower(nn.Module):
    """Pre-norm transformer over the whole text, pooled at the end-of-text token."""

    checkpoint_blocks = False

    def __init__(self, dims: Mi2Dims) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(dims.vocabulary, dims.text_dim)
        self.positional_embedding = nn.Parameter(torch.empty(dims.context, dims.text_dim))
        self.resblocks = nn.ModuleList([TextBlock(dims.text_dim, dims.text_heads) for _ in range(dims.text_layers)])
        self.ln_final = Fp32LayerNorm(dims.text_dim)
        nn.init.trunc_normal_(self.token_embedding.weight, std=0.02)
        nn.init.trunc_normal_(self.positional_embedding, std=0.02)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Vector [B, D] at the first end-of-text token, the last one that `mask_BT` (bool) keeps.

        The published code takes argmax(ids): CLIP's end-of-text has the largest id, and padding repeats it later.
        """
        x_BTD = to_stream(self.token_embedding(ids_BT) + self.positional_embedding[: ids_BT.shape[1]])
        keep_B11T = mask_BT[:, None, None, :]
        for block in self.resblocks:
            if self.checkpoint_blocks and torch.is_grad_enabled():
                x_BTD = checkpoint(block, x_BTD, keep_B11T, use_reentrant=False)
            else:
                x_BTD = block(x_BTD, keep_B11T)
        ends_B = mask_BT.sum(1) - 1
        return self.ln_final(x_BTD[torch.arange(len(ends_B), device=ends_B.device), ends_B])


class TextBlock(nn.Module):
    """Attention and MLP, each on its normed input and added back."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn = TextAttention(dim, heads)
        self.ln_1 = Fp32LayerNorm(dim)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(dim, 4 * dim), "c_proj": nn.Linear(4 * dim, dim)})
        self.ln_2 = Fp32LayerNorm(dim)
        for layer in self.mlp.values():
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x_BTD: Tensor, keep_B11T: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attn(self.ln_1(x_BTD), keep_B11T)
        hidden = self.mlp["c_fc"](self.ln_2(x_BTD))
        return x_BTD + self.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))  # QuickGELU


class TextAttention(nn.Module):
    """Multi-head self-attention under the key names of `torch.nn.MultiheadAttention`."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.in_proj_weight, std=0.02)
        nn.init.trunc_normal_(self.out_proj.weight, std=0.02)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BTD: Tensor, keep_B11T: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        qkv = F.linear(x_BTD, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=keep_B11T)
        return self.out_proj(out.transpose(1, 2).reshape(B, T, D))


class Fp32LayerNorm(nn.LayerNorm):
    """The text tower's norm: eps 1e-12, which only float32 can hold."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


# ---- key names of the released file ------------------------------------------------------------------------------

_TO_PUBLISHED = (
    (r"^stem\.conv\.", "convs.0.proj."),
    (r"^stem\.norm\.", "convs.0.norm."),
    (r"^stages\.(\d+)\.downsample\.conv\.", r"convs.\1.proj."),
    (r"^stages\.(\d+)\.downsample\.norm\.", r"convs.\1.norm."),
    (r"^stages\.(\d+)\.blocks\.", r"blocks.\1."),
    (r"^head\.norm\.", "norms."),
    (r"(spatial)_block\.norm1\.", r"\1_block.window_attn.norm."),
    (r"(channel)_block\.norm1\.", r"\1_block.channel_attn.norm."),
    (r"(spatial)_block\.attn\.", r"\1_block.window_attn.fn."),
    (r"(channel)_block\.attn\.", r"\1_block.channel_attn.fn."),
    (r"_block\.norm2\.", "_block.ffn.norm."),
    (r"_block\.mlp\.", "_block.ffn.fn.net."),
    (r"_block\.cpe([12])\.proj\.", r"_block.conv\1.fn.dw."),
)
# What the official loader also accepts, in this order.
_OLD_SPELLINGS = (
    (r"^visual\.", "image_encoder."),
    (r"^text\.", "lang_encoder."),
    (r"^vision_projection$", "image_projection"),
    (r"^text_projection$", "lang_projection"),
    (r"^image_encoder\.conv_embeds\.", "image_encoder.convs."),
    (r"^image_encoder\.main_blocks\.", "image_encoder.blocks."),
    (r"(blocks\.\d+\.\d+)\.0\.cpe\.0\.proj\.", r"\1.spatial_block.conv1.fn.dw."),
    (r"(blocks\.\d+\.\d+)\.0\.cpe\.1\.proj\.", r"\1.spatial_block.conv2.fn.dw."),
    (r"(blocks\.\d+\.\d+)\.0\.attn\.", r"\1.spatial_block.window_attn.fn."),
    (r"(blocks\.\d+\.\d+)\.0\.mlp\.", r"\1.spatial_block.ffn.fn.net."),
    (r"(blocks\.\d+\.\d+)\.0\.norm1\.", r"\1.spatial_block.window_attn.norm."),
    (r"(blocks\.\d+\.\d+)\.0\.norm2\.", r"\1.spatial_block.ffn.norm."),
    (r"(blocks\.\d+\.\d+)\.1\.cpe\.0\.proj\.", r"\1.channel_block.conv1.fn.dw."),
    (r"(blocks\.\d+\.\d+)\.1\.cpe\.1\.proj\.", r"\1.channel_block.conv2.fn.dw."),
    (r"(blocks\.\d+\.\d+)\.1\.attn\.", r"\1.channel_block.channel_attn.fn."),
    (r"(blocks\.\d+\.\d+)\.1\.mlp\.", r"\1.channel_block.ffn.fn.net."),
    (r"(blocks\.\d+\.\d+)\.1\.norm1\.", r"\1.channel_block.channel_attn.norm."),
    (r"(blocks\.\d+\.\d+)\.1\.norm2\.", r"\1.channel_block.ffn.norm."),
)
_IMAGE = "image_encoder."


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our keys (timm's names in the image tower) to those of the released file."""
    return {_published_name(key): value for key, value in state.items()}


def from_published(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of a released file, in any accepted spelling, to those of `wanted`. Unknown keys stay as they are."""
    names = {_published_name(key): key for key in wanted}
    spelled = {_substitute(key, _OLD_SPELLINGS): value for key, value in state.items()}
    if len(spelled) < len(state):
        raise BadInput("The MI2 weights hold one tensor under two spellings; get the released file again.")
    return {names.get(key, key): value for key, value in spelled.items()}


def _published_name(key: str) -> str:
    return _IMAGE + _substitute(key[len(_IMAGE) :], _TO_PUBLISHED) if key.startswith(_IMAGE) else key


def _substitute(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def dims_to_json(dims: Mi2Dims) -> dict[str, Any]:
    """`mi2.json`."""
    return asdict(dims)


def dims_from_json(values: Mapping[str, Any]) -> Mi2Dims:
    """Size from `mi2.json`; BadInput when it is not one."""
    try:
        return Mi2Dims(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError:
        raise BadInput("mi2.json does not describe an MI2 model; copy the model folder again.") from None
