"""Safetensors in and out, strictly: every missing, surplus or misshapen key is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipelines.contract import BadInput, atomic

NAMED = 4


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, whatever its ending (MI2's is `.pt`); BadInput for anything else.

    Pickled checkpoints are refused: opening one runs code of whoever wrote it.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise BadInput(f"{path.name} is missing in {path.parent.name}; copy the whole folder again.") from None
    except (SafetensorError, OSError, ValueError):
        raise BadInput(
            f"{path.name} is not a whole safetensors file; get it again (pickled checkpoints are never opened)."
        ) from None


def write_safetensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors, atomically, fractions as float32. Keys are sorted: the same weights give the same bytes."""
    kinds = {k: torch.float32 if state[k].is_floating_point() else state[k].dtype for k in state}
    tensors = {k: state[k].detach().to("cpu", kinds[k]).contiguous().clone() for k in sorted(state)}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def check_keys(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """BadInput naming the keys of `found` that are missing, surplus or misshapen against `wanted`."""
    missing = [k for k in wanted if k not in found]
    surplus = [k for k in found if k not in wanted]
    misshapen = [
        f"{k} {list(found[k].shape)} for {list(wanted[k].shape)}"
        for k in wanted
        if k in found and found[k].shape != wanted[k].shape
    ]
    list_faults(missing, surplus, misshapen, what)


def list_faults(missing: list[str], surplus: list[str], misshapen: list[str], what: str) -> None:
    """BadInput that names the first few keys of each list, when there are any."""
    faults = [
        f"{len(keys)} {word} ({', '.join(keys[:NAMED])}{', ...' if len(keys) > NAMED else ''})"
        for word, keys in (("missing", missing), ("surplus", surplus), ("misshapen", misshapen))
        if keys
    ]
    if faults:
        raise BadInput(f"The weights do not fit {what}: {'; '.join(faults)}; use weights of this encoder.")


def load_strict(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Copy `state` into `module` when the keys and shapes are exactly its own; else BadInput."""
    check_keys(state, module.state_dict(), what)
    module.load_state_dict(state, strict=True)
