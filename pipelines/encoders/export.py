"""Write the weights of a model folder, under their published keys and file names."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from pipelines.contract import write_atomic
from pipelines.encoders import dinov3, mi2, vit, vit_names
from pipelines.encoders.folder import HEAD, HUB, WEIGHTS
from pipelines.encoders.strict import write_safetensors
from pipelines.encoders.tokens import Tokenizer
from pipelines.preprocessing import RAD_DINO


def write_rad_dino(folder: Path, tower: vit.Vit, dims: vit.VitDims, head: vit.DinoHead | None) -> None:
    """microsoft/rad-dino's layout: a folder that `transformers.AutoModel.from_pretrained` opens as a `Dinov2Model`, the
    weights again under the dinov2 hub's keys, which timm reads, and the DINO head."""
    write_safetensors(folder / WEIGHTS, vit_names.to_transformers(tower.state_dict()))
    write_safetensors(folder / HUB, tower.state_dict())
    if head is not None:
        write_safetensors(folder / HEAD, head.state_dict())
    _write_json(folder / "config.json", vit_names.transformers_config(dims))
    _write_json(folder / "preprocessor_config.json", _preprocessor(dims.image))


def write_dinov3(folder: Path, tower: dinov3.Dinov3) -> None:
    """A folder that `transformers.AutoModel.from_pretrained` opens as a `DINOv3ViTModel`."""
    write_safetensors(folder / WEIGHTS, dinov3.to_transformers(tower.state_dict()))
    _write_json(folder / "config.json", dinov3.transformers_config(tower.dims))


def write_mi2(folder: Path, towers: mi2.Mi2, tokenizer: Tokenizer) -> None:
    """Both towers under the released file's keys, their size and the tokenizer."""
    write_safetensors(folder / WEIGHTS, mi2.to_published(towers.state_dict()))
    _write_json(folder / "mi2.json", mi2.dims_to_json(towers.dims))
    tokenizer.save(folder / "tokenizer.json")


def untrained_rad_dino(seed: int, dims: vit.VitDims = vit.RAD_DINO_TINY) -> tuple[vit.Vit, vit.DinoHead]:
    """The seeded start of a tiny RAD-DINO: the same weights for a seed, whatever ran before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower, head = vit.Vit(dims), vit.DinoHead(dims)
        _scale_to_width(tower)
        _scale_to_width(head)
        return tower, head


def untrained_mi2(seed: int, dims: mi2.Mi2Dims = mi2.MI2_TINY) -> mi2.Mi2:
    """The seeded start of a tiny MI2: the same weights for a seed, whatever ran before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers = mi2.Mi2(dims)
        _scale_to_width(towers)
        return towers


@torch.no_grad()
def _scale_to_width(module: nn.Module) -> None:
    """Draw linear weights with a deviation of 1 / sqrt(inputs).

    The published 0.02 is made for a thousand inputs; at a hundred it lets all images and texts look the same, and a
    run of a few hundred steps would spend them on telling them apart at all.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.normal_(0, layer.in_features**-0.5)
        elif isinstance(layer, mi2.TextAttention):
            layer.in_proj_weight.normal_(0, layer.in_proj_weight.shape[1] ** -0.5)
        elif isinstance(layer, mi2.Mi2):
            for projection in (layer.image_projection, layer.lang_projection):
                projection.normal_(0, projection.shape[0] ** -0.5)


def _preprocessor(side: int) -> dict[str, object]:
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(RAD_DINO.mean),
        "image_std": list(RAD_DINO.std),
    }


def _write_json(path: Path, values: dict[str, object]) -> None:
    write_atomic(path, json.dumps(values, indent=1) + "\n")
