"""Stage `import`: verify open weights in their published layout and copy them into a model folder RUN/model.

From a local path only, never from a network. Ends with `result.json`
{encoder, model, weights_sha256, head, baseline, verified, published, seen, licence}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.contract import BadInput, RunFolder, read_json, sha256_file
from pipelines.encoders import dinov3, export, mi2, vit, vit_names
from pipelines.encoders.folder import WEIGHTS, ModelCard, new_model_folder, read_card
from pipelines.encoders.library import open_tower
from pipelines.encoders.strict import check_keys, load_strict, read_safetensors, write_safetensors
from pipelines.encoders.tokens import Tokenizer
from pipelines.weights.baselines import Baseline, find_baseline
from pipelines.weights.layouts import READERS, write_made
from pipelines.weights.published import find_dino, find_mi2, find_rad_dino, read_clip_tokenizer
from pipelines.weights.spec import Spec

MODEL = "model"


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """See the module. BadInput names missing, surplus and misshapen keys."""
    row, folder = find_baseline(spec.family), run.root / MODEL
    seen = tuple(dict.fromkeys((*row.seen, *spec.seen)))
    card = ModelCard(
        name=row.title,
        encoder=row.starts_as,
        kind="open-weight",
        seen=seen,
        baseline=row.name,
        licence=row.licence,
    )
    head = None
    if row.layout == "rad-dino":
        head = import_rad_dino(spec.source, folder, card)
        if not head:
            run.log(
                "There is no dino_head.safetensors beside the weights; training will begin with a new head.", "warning"
            )
    elif row.layout == "mi2":
        import_mi2(spec.source, folder, card)
    elif row.layout in ("dinov2", "dinov3"):
        import_dino(spec.source, folder, card)
    else:
        import_library(spec.source, folder, card, row)
    published = check_published(spec.source, row)
    if published is False:
        run.log("The checksum differs from the published one; these are other weights of the same layout.", "warning")
    if not row.verified:
        run.log("No file of this name was tried before; check its features on images you know.", "warning")
    run.artifact(MODEL, folder)
    return {
        "encoder": card.encoder,
        "model": MODEL,
        "weights_sha256": read_card(folder).weights_sha256,
        "head": head,
        "baseline": row.name,
        "verified": row.verified,
        "published": published,
        "seen": list(seen),
        "licence": row.licence,
    }


def check_published(source: Path, row: Baseline) -> bool | None:
    """Whether files with a published checksum have it; None where none of them is there."""
    folder = source if source.is_dir() else source.parent
    names = [name for name in row.sha256 if (folder / name).is_file()]
    return all(sha256_file(folder / name) == row.sha256[name] for name in names) if names else None


def import_library(source: Path, folder: Path, card: ModelCard, row: Baseline) -> None:
    """Import a checkpoint of a library's layout; the folder is opened once before it is kept."""
    found = READERS[row.layout](source, row)
    _all_finite(found.state, found.weights)
    card = card.model_copy(update={"name": f"{card.name} {found.words}".strip()})
    with new_model_folder(folder, card, ()) as part:
        write_safetensors(part / WEIGHTS, found.state)
        found.facts.write(part)
        write_made(part, found)
        open_tower(part, found.facts)


def import_rad_dino(source: Path, folder: Path, card: ModelCard, size: vit.VitDims = vit.RAD_DINO) -> bool:
    """Import a transformers folder or a dinov2-hub backbone of `size`; whether a DINO head came with it."""
    files = find_rad_dino(source)
    state, head_state = read_safetensors(files.weights), read_safetensors(files.head) if files.head else None
    if files.config is not None:
        dims = vit_names.dims_from_config(read_json(files.config), head_state)
        if (dims.dim, dims.depth, dims.heads, dims.patch, dims.image) != (
            (size.dim, size.depth, size.heads, size.patch, size.image)
        ):
            raise BadInput("config.json is of another size than RAD-DINO (ViT-B/14 at 518 pixels); get RAD-DINO's.")
    tower = vit.Vit(size)
    load_strict(tower, vit_names.to_hub(state) if files.transformers else state, "RAD-DINO")
    _all_finite(state, files.weights)
    head = None
    if head_state is not None:
        head = vit.DinoHead(size)
        load_strict(head, head_state, "RAD-DINO's head")
        _all_finite(head_state, files.weights.with_name("dino_head.safetensors"))
    with new_model_folder(folder, card, ()) as part:
        export.write_rad_dino(part, tower, size, head)
    return head is not None


def import_dino(source: Path, folder: Path, card: ModelCard) -> None:
    """Import a transformers folder of DINOv2, with or without registers, or of DINOv3, of any size it comes in."""
    weights, config = find_dino(source)
    state = read_safetensors(weights)
    if card.encoder == "dinov2":
        dims = vit_names.dims_from_config(read_json(config), None)
        tower = vit.Vit(dims)
        load_strict(tower, vit_names.to_hub(state), "DINOv2")
    else:
        tower = dinov3.Dinov3(dinov3.dims_from_config(read_json(config)))
        load_strict(tower, dinov3.from_transformers(state), "DINOv3")
    _all_finite(state, weights)
    with new_model_folder(folder, card, ()) as part:
        if card.encoder == "dinov2":
            export.write_rad_dino(part, tower, dims, None)
        else:
            export.write_dinov3(part, tower)


def import_mi2(source: Path, folder: Path, card: ModelCard, size: mi2.Mi2Dims = mi2.MI2) -> None:
    """Import MI2's weights of `size`, in any accepted spelling of keys, with CLIP's tokenizer."""
    files = find_mi2(source)
    with torch.device("meta"):
        towers = mi2.Mi2(size)
    wanted = towers.state_dict()
    state = mi2.from_published(read_safetensors(files.weights), wanted)
    check_keys(state, wanted, "MI2")
    _all_finite(state, files.weights)
    towers.load_state_dict(state, assign=True)
    tokenizer = Tokenizer(read_clip_tokenizer(files), size.context)
    if tokenizer.size > size.vocabulary:
        raise BadInput("The tokenizer has more tokens than the weights; use the one published with the weights.")
    with new_model_folder(folder, card, ()) as part:
        export.write_mi2(part, towers, tokenizer)


def _all_finite(state: dict[str, Tensor], path: Path) -> None:
    bad = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if bad:
        raise BadInput(f"{path.name} holds values that are no numbers ({bad[0]}); get the file again.")
