"""Parameter groups and schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from pipelines.pretrain.recipe import Optimiser

PATCH_EMBED = ("patch_embed.", "stem.")
# Layer 0 of layer-wise decay, as DINOv2's parameter groups have it.
EMBEDDINGS = ("pos_embed", "cls_token", "mask_token", "patch_embed.", "stem.")
NOT_DECAYED = (".bias", "gamma", "logit_scale", "positional_embedding", "token_embedding.weight")


def cosine(start: float, end: float, step: int, steps: int) -> float:
    """From `start` at step 0 to `end` at the last of `steps` steps."""
    share = min(1.0, step / max(1, steps - 1))
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def learning_rate(settings: Optimiser, peak: float, step: int, steps: int) -> float:
    """Linear warm-up from the final rate to the peak, then cosine to the final rate."""
    warmup = int(settings.warmup * steps) if settings.warmup < 1 else min(int(settings.warmup), steps // 2)
    if step < warmup:
        return settings.final_rate + (peak - settings.final_rate) * (step + 1) / (warmup + 1)
    return cosine(peak, settings.final_rate, step - warmup, steps - warmup)


def build_optimiser(modules: dict[str, nn.Module], settings: Optimiser, fused: bool = False) -> torch.optim.AdamW:
    """AdamW over the modules' parameters, grouped by learning-rate factor, decay and part.

    Each group carries `scale` (factor on the learning rate), `decays` and `part`: `backbone`, `head` or `last_layer`.
    Blocks are counted in a module that has them as `blocks` (a ViT); elsewhere layer-wise decay does nothing.
    `fused` updates each group by one kernel; it rounds otherwise than the tensor-by-tensor form.
    """
    groups: dict[tuple[float, bool, str], list[nn.Parameter]] = {}
    for part, module in modules.items():
        depth = len(module.blocks) if isinstance(getattr(module, "blocks", None), nn.Sequential) else None
        for name, parameter in module.named_parameters():
            scale = _scale(name, depth, settings) if part == "backbone" else 1.0
            where = "last_layer" if name.startswith("last_layer.") else part
            groups.setdefault((scale, _decays(name, parameter, module), where), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "scale": s, "decays": d, "part": w} for (s, d, w), p in groups.items()],
        lr=settings.learning_rate,
        betas=settings.betas,
        fused=fused,
        foreach=not fused,
    )


def set_schedule(
    optimiser: torch.optim.Optimizer, rate: float, weight_decay: float, moves: Callable[[str], bool]
) -> None:
    """Give every group its rate and decay for a step; parts that `moves` denies stand still."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"] if moves(group["part"]) else 0.0
        group["weight_decay"] = weight_decay if group["decays"] else 0.0


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> torch.Tensor:
    """Scale gradients to a global norm of at most `largest`; returns the norm before."""
    return nn.utils.clip_grad_norm_(list(parameters), largest, foreach=True)


def _scale(name: str, depth: int | None, settings: Optimiser) -> float:
    scale = settings.patch_embed_scale if name.startswith(PATCH_EMBED) else 1.0
    if depth is None:
        return scale
    layer = depth + 1
    if name.startswith(EMBEDDINGS):
        layer = 0
    elif name.startswith("blocks."):
        layer = int(name.split(".")[1]) + 1
    return scale * settings.layer_decay ** (depth + 1 - layer)


def _decays(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    """No decay for biases, norms, LayerScale, logit scale, text embeddings and depthwise convolutions."""
    owner = module.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, nn.LayerNorm) or name.endswith(NOT_DECAYED):
        return False
    return not (isinstance(owner, nn.Conv2d) and owner.groups > 1)
