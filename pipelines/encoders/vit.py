"""The RAD-DINO image tower: timm's DINOv2 ViT with the mask token of iBOT, its head.

The module's own keys are those of the dinov2 hub (`backbone_compatible.safetensors`); `vit_names` translates to and
from those of transformers. Sources: arXiv 2304.07193 (DINOv2), 2309.16588 (registers), 2401.10815 (RAD-DINO).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipelines.encoders.depths import watch
from pipelines.encoders.fold import linear_scale, norm_linear
from pipelines.encoders.stream import outside_autocast, to_stream


@dataclass(frozen=True)
class VitDims:
    """Size of a DINOv2 ViT and of its DINO head."""

    image: int
    """Side of the images it is published for, in pixels; others work through interpolated positions."""
    dim: int
    depth: int
    heads: int
    patch: int = 14
    layer_scale: float = 1e-5
    """Start value of LayerScale."""
    prototypes: int = 65536
    head_hidden: int = 2048
    head_bottleneck: int = 256
    registers: int = 0
    """Tokens without content that DINOv2 with registers adds; RAD-DINO has none."""


RAD_DINO = VitDims(image=518, dim=768, depth=12, heads=12)
# LayerScale starts at 1: at 1e-5 the blocks of a small ViT say nothing for the few hundred steps it is trained.
RAD_DINO_TINY = VitDims(
    image=112, dim=64, depth=3, heads=2, layer_scale=1.0, prototypes=256, head_hidden=128, head_bottleneck=64
)


class VitBlock(Block):
    """timm's block, which also takes images of several sizes packed into one row of tokens."""

    def forward(self, x_BND: Tensor, packed: tuple[tuple[int, int], ...] = ()) -> Tensor:
        """Tokens to tokens. With `packed` = ((images, tokens of each), ...) the input is [1, all tokens, D]: norms and
        linear layers see it whole, attention each size by itself."""
        shapes = packed or (tuple(x_BND.shape[:2]),)
        attended_BND = linear_scale(self._attend(x_BND, shapes), self.attn.proj, self.ls1.gamma)
        x_BND = x_BND + self._drop(self.drop_path1, attended_BND, shapes)
        return x_BND + self._drop(self.drop_path2, self._mlp(x_BND), shapes)

    def some(self, x_BND: Tensor, packed: tuple[tuple[int, int], ...], places_M: Tensor) -> Tensor:
        """[M, D]: what `forward` gives at places of the flattened tokens; the others are only attended to. Not for
        `compile`: M differs from batch to batch."""
        if not isinstance(self.drop_path1, nn.Identity):  # paths are dropped for whole images
            return self(x_BND, packed).flatten(0, 1).index_select(0, places_M)
        attended_BND = self._attend(x_BND, packed or (tuple(x_BND.shape[:2]),))
        x_MD, attended_MD = (t.flatten(0, 1).index_select(0, places_M) for t in (x_BND, attended_BND))
        x_MD = x_MD + linear_scale(attended_MD, self.attn.proj, self.ls1.gamma)
        return x_MD + self._mlp(x_MD)

    def _attend(self, x_BND: Tensor, shapes: tuple[tuple[int, int], ...]) -> Tensor:
        """Joined heads, before their projection."""
        heads, lead = self.attn.num_heads, x_BND.shape[:2]
        parts = norm_linear(x_BND, self.norm1, self.attn.qkv).flatten(0, 1).split([b * n for b, n in shapes])
        out = []
        for part, (b, n) in zip(parts, shapes, strict=True):
            q, k, v = part.view(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
            out.append(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b * n, -1))
        return (out[0] if len(out) == 1 else torch.cat(out)).view(*lead, -1)

    def _mlp(self, x_BND: Tensor) -> Tensor:
        return linear_scale(self.mlp.act(norm_linear(x_BND, self.norm2, self.mlp.fc1)), self.mlp.fc2, self.ls2.gamma)

    def _drop(self, drop: nn.Module, x_BND: Tensor, shapes: tuple[tuple[int, int], ...]) -> Tensor:
        """Drop paths of whole images, which packed tokens would otherwise share."""
        if isinstance(drop, nn.Identity) or len(shapes) == 1:
            return drop(x_BND)
        parts = x_BND.flatten(0, 1).split([b * n for b, n in shapes])
        dropped = [drop(p.view(b, n, -1)).flatten(0, 1) for p, (b, n) in zip(parts, shapes, strict=True)]
        return torch.cat(dropped).view_as(x_BND)


class Vit(VisionTransformer):
    """timm's `vit_base_patch14_dinov2` (at `dims`) with DINOv2's mask token."""

    checkpoint_blocks = False
    """Forget the blocks' activations and compute them again in the backward pass: less memory, a third more work."""

    def __init__(self, dims: VitDims, drop_path: float = 0.0) -> None:
        super().__init__(
            img_size=dims.image,
            patch_size=dims.patch,
            embed_dim=dims.dim,
            depth=dims.depth,
            num_heads=dims.heads,
            init_values=dims.layer_scale,
            drop_path_rate=drop_path,
            dynamic_img_size=True,
            num_classes=0,
            block_fn=VitBlock,
        )
        self.mask_token = nn.Parameter(torch.zeros(1, dims.dim))
        if dims.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, dims.registers, dims.dim))
        self.registers = dims.registers

    def forward(self, x_BCHW: Tensor, masks_BN: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """CLS token [B, D] and patch tokens [B, H, W, D] after the final norm.

        `masks_BN` (bool, row-major patches) puts the mask token in place of patches, before positions are added.
        """
        return self._split(self.norm(self._through(self.blocks, self._embed(x_BCHW, masks_BN))), x_BCHW)

    def maps(self, x_BCHW: Tensor) -> list[Tensor]:
        """Patch tokens [B, H, W, D] after each block, through the final norm, as DINOv2 gives intermediate layers."""
        with watch(self.blocks) as seen:
            self(x_BCHW)
        return [self._split(self.norm(x_BND), x_BCHW)[1] for x_BND in seen]

    def tokens(self, views: Sequence[Tensor], masks: Sequence[Tensor | None], places: Sequence[Tensor]) -> list[Tensor]:
        """Some tokens of each batch of images, [M, D] after the final norm, at places that `places` gives. Batches of
        different sizes go through the blocks in one pass, and the last block makes no others than these."""
        tokens = [self._embed(x_BCHW, masks_BN) for x_BCHW, masks_BN in zip(views, masks, strict=True)]
        shapes = tuple(tuple(t.shape[:2]) for t in tokens)
        first = [0, *itertools.accumulate(b * n for b, n in shapes)]
        x_BND = tokens[0] if len(tokens) == 1 else torch.cat([t.flatten(0, 1) for t in tokens])[None]
        packed = () if len(tokens) == 1 else shapes
        places_M = torch.cat([at + offset for at, offset in zip(places, first, strict=False)])
        x_BND = self._through(self.blocks[:-1], x_BND, packed)
        x_MD = self._checkpointed(self.blocks[-1].some, x_BND, packed, places_M)
        return list(self.norm(x_MD).split([len(at) for at in places]))

    def places(self, images: int, patches: int, patches_M: Tensor) -> Tensor:
        """int64 [images + M]: where the CLS tokens of a batch are, and M of its patches, which are counted through all
        images."""
        tokens = 1 + self.registers + patches
        cls_B = torch.arange(images, device=patches_M.device) * tokens
        return torch.cat([cls_B, patches_M // patches * tokens + 1 + self.registers + patches_M % patches])

    def _embed(self, x_BCHW: Tensor, masks_BN: Tensor | None) -> Tensor:
        x_BHWD = self._patches(x_BCHW)
        B, H, W, D = x_BHWD.shape
        x_BND = x_BHWD.reshape(B, H * W, D)
        if masks_BN is not None:
            x_BND = torch.where(masks_BN[..., None], self.mask_token.to(x_BND.dtype), x_BND)
        positions_1ND = self.positions(H, W)
        cls_BND = to_stream(self.cls_token + positions_1ND[:, :1]).expand(B, -1, -1)
        rest = [to_stream(x_BND + positions_1ND[:, 1:])]
        if self.registers:  # they have no position
            rest.insert(0, to_stream(self.register_tokens).expand(B, -1, -1))
        return torch.cat([cls_BND, *rest], 1)

    def _patches(self, x_BCHW: Tensor) -> Tensor:
        """Patch embeddings [B, H, W, D] as a matrix product: a GPU takes ten times as long for the convolution."""
        side, layer = self.patch_embed.patch_size[0], self.patch_embed.proj
        cut = x_BCHW.unflatten(2, (-1, side)).unflatten(4, (-1, side)).permute(0, 2, 4, 1, 3, 5).flatten(3)
        return F.linear(cut, layer.weight.flatten(1), layer.bias)

    def _through(self, blocks: nn.Sequential, x_BND: Tensor, packed: tuple[tuple[int, int], ...] = ()) -> Tensor:
        for block in blocks:
            x_BND = self._checkpointed(block, x_BND, packed)
        return x_BND

    def _checkpointed(self, part: Callable[..., Tensor], *inputs: Any) -> Tensor:
        if self.checkpoint_blocks and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def _split(self, x_BND: Tensor, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        B, H, W = len(x_BND), *(side // self.patch_embed.patch_size[0] for side in x_BCHW.shape[2:])
        return x_BND[:, 0], x_BND[:, 1 + self.registers :].reshape(B, H, W, -1)

    def positions(self, height: int, width: int) -> Tensor:
        """Position embeddings [1, 1 + H * W, D], resampled as DINOv2 and transformers do: bicubic, and antialiased only
        in models with registers."""
        grid = tuple(self.patch_embed.grid_size)
        if (height, width) == grid:
            return self.pos_embed
        weights_PG = _resampling(grid, (height, width), self.registers > 0, self.pos_embed.device)
        with outside_autocast(self.pos_embed):
            flat = (weights_PG @ self.pos_embed[0, 1:].float())[None].to(self.pos_embed.dtype)
        return torch.cat([self.pos_embed[:, :1], flat], 1)


@functools.cache
def _resampling(grid: tuple[int, int], size: tuple[int, int], antialias: bool, device: torch.device) -> Tensor:
    """float32 [patches of `size`, patches of `grid`]: bicubic resampling as a matrix, made of answers to unit images.
    The same every time, and one product where a GPU takes 2 ms for the interpolation of so many channels; it stays on
    the device, since a copy to it would wait for all that the device still has to do."""
    units = torch.eye(grid[0] * grid[1], device="cpu").view(-1, 1, *grid)
    answers = F.interpolate(units, size, mode="bicubic", align_corners=False, antialias=antialias)
    return answers.flatten(1).T.contiguous().to(device)


class DinoHead(nn.Module):
    """DINOv2's projection head; keys are those of `dino_head.safetensors`, old weight-norm names included."""

    def __init__(self, dims: VitDims) -> None:
        super().__init__()
        hidden, bottleneck = dims.head_hidden, dims.head_bottleneck
        self.mlp = nn.Sequential(
            nn.Linear(dims.dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.last_layer = Prototypes(bottleneck, dims.prototypes)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Prototype logits [N, K]."""
        return self.last_layer(self.bottleneck(x_ND))

    def bottleneck(self, x_ND: Tensor) -> Tensor:
        """Unit vectors [N, bottleneck] whose products with the prototypes are the logits, in float32."""
        return F.normalize(self.mlp(x_ND).float(), dim=-1, eps=1e-12)


class Prototypes(nn.Module):
    """A weight-normed linear layer without bias: weight = g * v / |v|, row by row."""

    def __init__(self, dim: int, prototypes: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(prototypes, 1))
        self.weight_v = nn.Parameter(torch.empty(prototypes, dim))
        nn.init.uniform_(self.weight_v, -1 / math.sqrt(dim), 1 / math.sqrt(dim))

    def forward(self, x_ND: Tensor) -> Tensor:
        return F.linear(x_ND, self.weight())

    def weight(self) -> Tensor:
        """The prototypes [K, D]."""
        return self.weight_g * F.normalize(self.weight_v, dim=1)
