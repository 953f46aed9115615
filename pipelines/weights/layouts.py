"""Published layouts of the libraries' families: where the weights lie, what they are, how images are prepared."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pipelines.contract import BadInput, read_json
from pipelines.encoders.library import TowerFacts
from pipelines.encoders.strict import read_safetensors
from pipelines.preprocessing import Interpolation, Preprocessing, triple
from pipelines.weights.baselines import Baseline
from pipelines.weights.pickles import read_pickle

# What a tokenizer of transformers may consist of; every file is copied as it is.
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
)
RESAMPLE: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic", 1: "bicubic"}  # PIL's numbers; Lanczos as bicubic
# open_clip's own defaults (transform.PreprocessCfg).
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Download:
    """What was found, ready to become a model folder."""

    weights: Path
    state: dict[str, Tensor]
    facts: TowerFacts
    words: str = ""
    """The architecture, where the row leaves it open."""
    copied: tuple[Path, ...] = ()
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    """JSON files of the folder that the download lacks or that differ."""


def read_timm(source: Path, row: Baseline) -> Download:
    """timm's hub folder."""
    weights = find_weights(source, "model.safetensors", "pytorch_model.bin")
    config = _config(weights, "config.json")
    facts = TowerFacts(row.family, config, row.preprocessing or _of_timm(config.get("pretrained_cfg") or {}))
    return Download(weights, read_weights(weights), facts, str(config.get("architecture", "")))


def read_transformers(source: Path, row: Baseline) -> Download:
    """transformers' folder."""
    weights = find_weights(source, "model.safetensors", "pytorch_model.bin")
    config = _config(weights, "config.json")
    how = row.preprocessing or _of_transformers(_config(weights, "preprocessor_config.json"))
    facts = TowerFacts(row.family, config, how)
    return Download(weights, read_weights(weights), facts, "", _tokenizer(weights), {"config.json": config})


def read_open_clip(source: Path, row: Baseline) -> Download:
    """open_clip's folder; the config of a BERT text tower is read from its tensors where the download has none."""
    weights = find_weights(source, "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    config = _config(weights, "open_clip_config.json")
    model = config.get("model_cfg")
    if not isinstance(model, dict):
        raise BadInput("open_clip_config.json has no model_cfg; get the folder of the whole download.")
    state = read_weights(weights)
    # A buffer that older versions of transformers saved.
    state.pop("text.transformer.embeddings.position_ids", None)
    facts = TowerFacts(row.family, model, row.preprocessing or _of_open_clip(config))
    made = {"config.json": _text_config(weights, state)} if model.get("text_cfg", {}).get("hf_model_name") else {}
    return Download(weights, state, facts, "", _tokenizer(weights), made)


def read_openai_clip(source: Path, row: Baseline) -> Download:
    """A state dict of OpenAI's CLIP with a ViT, whose size stands in its tensors."""
    weights = find_weights(source)
    state = read_weights(weights)
    for key in ("input_resolution", "context_length", "vocab_size"):
        state.pop(key, None)
    try:
        architecture = _openai_architecture(state)
    except (KeyError, IndexError):
        raise BadInput(f"{weights.name} does not hold OpenAI's CLIP with a ViT; choose another name.") from None
    return Download(weights, state, TowerFacts(row.family, architecture, _stated(row)))


def read_densenet(source: Path, row: Baseline) -> Download:
    """The state dict of torchxrayvision's DenseNet-121."""
    weights = find_weights(source)
    state = read_weights(weights)
    state.pop("op_threshs", None)  # thresholds of its classifier
    if "classifier.weight" not in state:
        raise BadInput(f"{weights.name} is no DenseNet of torchxrayvision (no classifier); choose another name.")
    return Download(weights, state, TowerFacts(row.family, {"classes": len(state["classifier.weight"])}, _stated(row)))


READERS: dict[str, Callable[[Path, Baseline], Download]] = {
    "timm": read_timm,
    "transformers": read_transformers,
    "open_clip": read_open_clip,
    "openai-clip": read_openai_clip,
    "torchxrayvision": read_densenet,
}


def find_weights(source: Path, *names: str) -> Path:
    """The weights: `source` itself, the first of `names` in it, or its only file that may hold weights."""
    if not source.exists():
        raise BadInput("The given path does not exist; give the folder or the file of the download.")
    if source.is_file():
        return source
    for name in names:
        if (source / name).is_file():
            return source / name
    if names:
        raise BadInput(f"The folder does not hold {' or '.join(names)}; give the folder of the whole download.")
    found = sorted(p for p in source.iterdir() if p.suffix in (".pt", ".pth", ".bin", ".safetensors"))
    if len(found) != 1:
        raise BadInput(f"The folder holds {len(found)} files that may be weights; give the one file.")
    return found[0]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file or, where a layout is published so, of a pickle that holds nothing else."""
    return read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)


def _stated(row: Baseline) -> Preprocessing:
    if row.preprocessing is None:
        raise BadInput(f"The row of {row.name} must state a preprocessing: no file of its layout does.")
    return row.preprocessing


def _config(weights: Path, name: str) -> dict[str, Any]:
    if not (weights.parent / name).is_file():
        raise BadInput(f"{name} is not beside {weights.name}; give the folder of the whole download.")
    return read_json(weights.parent / name)


def _tokenizer(weights: Path) -> tuple[Path, ...]:
    return tuple(path for name in TOKENIZER if (path := weights.parent / name).is_file())


def _of_timm(published: dict[str, Any]) -> Preprocessing:
    """timm's evaluation transform (timm.data.transforms_factory.transforms_imagenet_eval) from `pretrained_cfg`."""
    try:
        channels, size, other = (int(v) for v in published["input_size"])
        fit = {"center": "crop", "squash": "stretch", "border": "pad"}[published.get("crop_mode") or "center"]
        interpolation = str(published.get("interpolation", "bicubic"))
        share = float(published.get("crop_pct") or 0.875)
        if size != other or channels != 3 or interpolation not in ("bicubic", "bilinear"):
            raise ValueError
        return Preprocessing.from_json(
            {
                "size": size,
                "resize": math.floor(size / share),
                "fit": fit,
                "interpolation": interpolation,
                "mean": published["mean"],
                "std": published["std"],
            }
        )
    except (KeyError, TypeError, ValueError):
        raise BadInput("config.json does not say how timm prepares images for this model (pretrained_cfg).") from None


def _of_transformers(published: dict[str, Any]) -> Preprocessing:
    """A processor that resizes to a size or to a shortest edge and may crop."""
    try:
        size, crop = published["size"], published.get("crop_size")
        shortest = size if isinstance(size, int) else size.get("shortest_edge")
        if published.get("do_rescale", True) and not math.isclose(published.get("rescale_factor", 1 / 255), 1 / 255):
            raise ValueError
        side = int(shortest or size["height"])
        cropped = crop is not None and published.get("do_center_crop", False)
        inner = int(crop if isinstance(crop, int) else crop["height"]) if cropped else side
        return Preprocessing.from_json(
            {
                "size": inner,
                "resize": side,
                "fit": "crop" if shortest else "stretch",
                "interpolation": RESAMPLE[int(published.get("resample", 3))],
                "mean": published["image_mean"],
                "std": published["image_std"],
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInput("preprocessor_config.json does not say how images are resized and normalised.") from None


def _of_open_clip(config: dict[str, Any]) -> Preprocessing:
    """open_clip's evaluation transform from `preprocess_cfg` and the image tower's size."""
    published = config.get("preprocess_cfg") or {}
    size = published.get("size") or config["model_cfg"]["vision_cfg"]["image_size"]
    fits = {"shortest": "crop", "squash": "stretch", "longest": "pad"}
    return Preprocessing.from_json(
        {
            "size": int(size[0] if isinstance(size, list) else size),
            "fit": fits.get(published.get("resize_mode", "shortest")),
            "interpolation": published.get("interpolation", "bicubic"),
            "mean": triple(published.get("mean", CLIP_MEAN)),
            "std": triple(published.get("std", CLIP_STD)),
        }
    )


def _text_config(weights: Path, state: dict[str, Tensor]) -> dict[str, Any]:
    """`config.json` of the BERT in the text tower: the download's own, else what its tensors say (heads of 64)."""
    path = weights.parent / "config.json"
    if path.is_file() and "model_type" in (config := read_json(path)):
        return config
    root = "text.transformer."
    try:
        words = state[f"{root}embeddings.word_embeddings.weight"]
        layers = {m[1] for key in state if (m := re.match(rf"{re.escape(root)}encoder\.layer\.(\d+)\.", key))}
        return {
            "model_type": "bert",
            "architectures": ["BertModel"],
            "vocab_size": len(words),
            "hidden_size": words.shape[1],
            "num_hidden_layers": len(layers),
            "num_attention_heads": words.shape[1] // 64,
            "intermediate_size": len(state[f"{root}encoder.layer.0.intermediate.dense.weight"]),
            "max_position_embeddings": len(state[f"{root}embeddings.position_embeddings.weight"]),
            "type_vocab_size": len(state[f"{root}embeddings.token_type_embeddings.weight"]),
        }
    except KeyError:
        raise BadInput(
            "The text tower is no BERT and its config.json is not beside the weights; put it there."
        ) from None


def _openai_architecture(state: dict[str, Tensor]) -> dict[str, Any]:
    """open_clip's `model_cfg` of a ViT state dict; heads are 64 wide in all of OpenAI's."""
    patches = state["visual.conv1.weight"]
    width, patch = patches.shape[0], patches.shape[-1]
    text = len(state["ln_final.weight"])
    return {
        "embed_dim": state["text_projection"].shape[1],
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": patch * round((len(state["visual.positional_embedding"]) - 1) ** 0.5),
            "layers": _blocks(state, "visual.transformer"),
            "width": width,
            "patch_size": patch,
        },
        "text_cfg": {
            "context_length": len(state["positional_embedding"]),
            "vocab_size": len(state["token_embedding.weight"]),
            "width": text,
            "heads": text // 64,
            "layers": _blocks(state, "transformer"),
        },
    }


def _blocks(state: dict[str, Tensor], root: str) -> int:
    return len({m[1] for key in state if (m := re.match(rf"{re.escape(root)}\.resblocks\.(\d+)\.", key))})


def write_made(folder: Path, download: Download) -> None:
    """Copy and write what the library reads besides the weights."""
    for path in download.copied:
        (folder / path.name).write_bytes(path.read_bytes())
    for name, values in download.made.items():
        (folder / name).write_text(json.dumps(values, indent=1) + "\n")
