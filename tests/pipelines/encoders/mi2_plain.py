"""MedImageInsight read plainly from its published description, on nothing but a state dict under the published keys.

Written from the architecture's description (davit_v1 and the UniCL text tower), with no module of the product or of
timm: the reading that the product's towers are held against.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
STRIDES, PADDINGS = (4, 2, 2, 2), (3, 1, 1, 1)
GROUP = 32  # channels of a head and of a channel group


def norm(state: State, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def add_depthwise(state: State, name: str, x_BHWC: Tensor) -> Tensor:
    """x plus its depthwise 3 x 3 convolution."""
    weight = state[f"{name}.weight"]
    y = F.conv2d(x_BHWC.permute(0, 3, 1, 2), weight, state[f"{name}.bias"], padding=1, groups=len(weight))
    return x_BHWC + y.permute(0, 2, 3, 1)


def feed_forward(state: State, name: str, x: Tensor) -> Tensor:
    return linear(state, f"{name}.fc2", F.gelu(linear(state, f"{name}.fc1", x)))


def window_attention(state: State, name: str, x_BHWC: Tensor, window: int) -> Tensor:
    """Attention within windows; the map is filled up with zeros below and to the right, which take part."""
    B, H, W, C = x_BHWC.shape
    x = F.pad(x_BHWC, (0, 0, 0, -W % window, 0, -H % window))
    out = torch.empty_like(x)
    for top in range(0, x.shape[1], window):
        for left in range(0, x.shape[2], window):
            at = (slice(None), slice(top, top + window), slice(left, left + window))
            qkv = linear(state, f"{name}.qkv", x[at].reshape(B, window * window, C))
            q, k, v = (part.reshape(B, -1, C // GROUP, GROUP).transpose(1, 2) for part in qkv.split(C, -1))
            weights = (q @ k.transpose(-1, -2) / GROUP**0.5).softmax(-1)
            out[at] = (weights @ v).transpose(1, 2).reshape(B, window, window, C)
    return linear(state, f"{name}.proj", out[:, :H, :W])


def channel_attention(state: State, name: str, x_BHWC: Tensor) -> Tensor:
    """Channels of a group attend to each other; their vectors are the positions."""
    B, H, W, C = x_BHWC.shape
    qkv = linear(state, f"{name}.qkv", x_BHWC.reshape(B, H * W, C))
    q, k, v = (part.reshape(B, H * W, C // GROUP, GROUP).permute(0, 2, 3, 1) for part in qkv.split(C, -1))
    weights = (q @ k.transpose(-1, -2) / (H * W) ** 0.5).softmax(-1)
    return linear(state, f"{name}.proj", (weights @ v).permute(0, 3, 1, 2).reshape(B, H, W, C))


def block(state: State, name: str, x: Tensor, window: int) -> Tensor:
    """A spatial and a channel block."""
    for kind, attention in (("spatial", "window_attn"), ("channel", "channel_attn")):
        part = f"{name}.{kind}_block"
        x = add_depthwise(state, f"{part}.conv1.fn.dw", x)
        h = norm(state, f"{part}.{attention}.norm", x)
        if kind == "spatial":
            x = x + window_attention(state, f"{part}.{attention}.fn", h, window)
        else:
            x = x + channel_attention(state, f"{part}.{attention}.fn", h)
        x = add_depthwise(state, f"{part}.conv2.fn.dw", x)
        x = x + feed_forward(state, f"{part}.ffn.fn.net", norm(state, f"{part}.ffn.norm", x))
    return x


def image_features(state: State, x_BCHW: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Pooled and normed vector, and the map of the last stage [B, H, W, C]."""
    x = x_BCHW.permute(0, 2, 3, 1)
    for stage, (stride, padding) in enumerate(zip(STRIDES, PADDINGS, strict=True)):
        name = f"image_encoder.convs.{stage}"
        x = norm(state, f"{name}.norm", x) if stage else x
        weight, bias = state[f"{name}.proj.weight"], state[f"{name}.proj.bias"]
        x = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride=stride, padding=padding).permute(0, 2, 3, 1)
        x = x if stage else norm(state, f"{name}.norm", x)
        depth = 0
        while f"image_encoder.blocks.{stage}.{depth}.spatial_block.ffn.norm.weight" in state:
            x = block(state, f"image_encoder.blocks.{stage}.{depth}", x, window)
            depth += 1
    return norm(state, "image_encoder.norms", x.mean((1, 2))), x


def embed_image(state: State, x_BCHW: Tensor, window: int) -> Tensor:
    return F.normalize(image_features(state, x_BCHW, window)[0] @ state["image_projection"], dim=-1)


def embed_text(state: State, ids_BT: Tensor, mask_BT: Tensor, heads: int) -> Tensor:
    """Unit vectors of texts: torch's own attention over all that is not padding, pooled at argmax(ids)."""
    x = state["lang_encoder.token_embedding.weight"][ids_BT]
    x = x + state["lang_encoder.positional_embedding"][: ids_BT.shape[1]]
    layer = 0
    while f"lang_encoder.resblocks.{layer}.ln_1.weight" in state:
        name = f"lang_encoder.resblocks.{layer}"
        attention = torch.nn.MultiheadAttention(x.shape[-1], heads, batch_first=True, device="meta")
        own = {k.removeprefix(f"{name}.attn."): v for k, v in state.items() if k.startswith(f"{name}.attn.")}
        attention.load_state_dict(own, assign=True)
        h = norm(state, f"{name}.ln_1", x, 1e-12)
        x = x + attention(h, h, h, key_padding_mask=~mask_BT, need_weights=False)[0]
        h = linear(state, f"{name}.mlp.c_fc", norm(state, f"{name}.ln_2", x, 1e-12))
        x = x + linear(state, f"{name}.mlp.c_proj", h * torch.sigmoid(1.702 * h))
        layer += 1
    x = norm(state, "lang_encoder.ln_final", x, 1e-12)
    return F.normalize(x[torch.arange(len(ids_BT)), ids_BT.argmax(1)] @ state["lang_projection"], dim=-1)
