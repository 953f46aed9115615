"""Find the parts of a published download: the weights, the DINO head, the tokenizer. Nothing is ever unpickled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tokenizers import Tokenizer as Backend

from pipelines.contract import BadInput
from pipelines.encoders.folder import HEAD
from pipelines.encoders.tokens import clip_tokenizer

PICKLED = (".bin", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class RadDinoFiles:
    """Parts of microsoft/rad-dino's file list."""

    weights: Path
    transformers: bool
    """Whether `weights` has transformers' keys (`model.safetensors`) or the dinov2 hub's."""
    config: Path | None
    head: Path | None


@dataclass(frozen=True)
class Mi2Files:
    """Parts of lion-ai/MedImageInsights' tree (`2024.09.27/`)."""

    weights: Path
    vocabulary: Path
    merges: Path


def find_rad_dino(source: Path) -> RadDinoFiles:
    """Parts in a folder, or beside a single weights file; BadInput says which one is missing."""
    if not source.exists():
        raise BadInput("The given path does not exist; give the folder of the RAD-DINO download.")
    folder = source if source.is_dir() else source.parent
    names = ("model.safetensors", "backbone_compatible.safetensors")
    weights = source if source.is_file() else next((folder / n for n in names if (folder / n).is_file()), None)
    if weights is None:
        _no_weights(folder, "model.safetensors or backbone_compatible.safetensors of the RAD-DINO download")
    transformers = weights.name != "backbone_compatible.safetensors" and (folder / "config.json").is_file()
    head = folder / HEAD
    return RadDinoFiles(
        weights, transformers, folder / "config.json" if transformers else None, head if head.is_file() else None
    )


def find_dino(source: Path) -> tuple[Path, Path]:
    """`model.safetensors` and `config.json` of a transformers folder; BadInput says what is missing."""
    if not source.exists():
        raise BadInput("The given path does not exist; give the folder of the DINOv2 or DINOv3 download.")
    folder = source if source.is_dir() else source.parent
    weights, config = folder / "model.safetensors", folder / "config.json"
    if not weights.is_file():
        _no_weights(folder, "model.safetensors of the transformers form of the model")
    if not config.is_file():
        raise BadInput("config.json is not beside model.safetensors; give the folder of the whole download.")
    return weights, config


def find_mi2(source: Path) -> Mi2Files:
    """Parts anywhere below the release folder, or of one weights file and what lies around it."""
    if not source.exists():
        raise BadInput("The given path does not exist; give the folder of the MedImageInsight release.")
    root = source if source.is_dir() else _release_root(source)
    if source.is_file():
        weights = [source]
    else:
        weights = sorted(p for p in root.rglob("medimageinsigt*") if p.suffix in (".pt", ".safetensors"))
        weights = weights or sorted(p for p in root.rglob("*.safetensors"))
    if len(weights) != 1:
        _no_weights(root, "exactly one MI2 weights file (vision_model/medimageinsigt-v1.0.0.pt)")
    vocabularies = sorted(p for p in root.rglob("vocab.json") if (p.parent / "merges.txt").is_file())
    if not vocabularies:
        raise BadInput(
            "The CLIP tokenizer (vocab.json and merges.txt) is not beside the weights; give the whole release folder."
        )
    return Mi2Files(weights[0], vocabularies[0], vocabularies[0].parent / "merges.txt")


def read_clip_tokenizer(files: Mi2Files) -> Backend:
    """CLIP's tokenizer from its two published files."""
    try:
        vocabulary = json.loads(files.vocabulary.read_text(encoding="utf-8"))
        lines = files.merges.read_text(encoding="utf-8").splitlines()
        merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
        return clip_tokenizer(vocabulary, merges)
    except BadInput:
        raise
    except Exception:  # noqa: BLE001 - the tokenizers library raises bare Exception for every fault of the files
        raise BadInput("vocab.json or merges.txt is damaged; get the tokenizer folder again.") from None


def _release_root(weights: Path) -> Path:
    """The release folder of a weights file: two up from vision_model/, else its own folder."""
    return weights.parent.parent if weights.parent.name == "vision_model" else weights.parent


def _no_weights(folder: Path, wanted: str) -> NoReturn:
    if any(p.suffix in PICKLED for p in folder.rglob("*")):
        raise BadInput(f"Only pickled weights were found, which are never opened; get {wanted} (safetensors).")
    raise BadInput(f"The folder does not hold {wanted}; give the folder of the whole download.")
