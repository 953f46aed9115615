"""State dicts of checkpoints that are published as pickles only. No code of theirs runs: torch reads them with
`weights_only=True`."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from pipelines.contract import BadInput

WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Tensors by key. BadInput when the file is damaged or holds anything that would have to be run to be read.

    A whole module is refused too. torchxrayvision publishes such files: its own library opens one, and
    `torch.save(model.state_dict(), ...)` there makes a file that is read here.
    """
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise BadInput(
            f"{path.name} is damaged or a pickle of more than tensors, which is not opened because that runs code; "
            "open it with the library it comes from, on a machine apart, and save the model's state_dict()."
        ) from None
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, AttributeError, IndexError, TypeError):
        raise BadInput(f"{path.name} is no whole checkpoint of torch; get it again.") from None
    for wrapper in WRAPPERS:
        if isinstance(value, dict) and isinstance(value.get(wrapper), dict):
            value = value[wrapper]
    if not isinstance(value, dict) or not value or not all(isinstance(v, Tensor) for v in value.values()):
        raise BadInput(f"{path.name} holds more than a state dict; save the model's state_dict() alone.")
    return {str(key).removeprefix("module."): tensor.detach() for key, tensor in value.items()}
