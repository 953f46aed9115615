"""CheXbert (Smit et al. 2020, arXiv 2004.09167): a BERT that states the 14 findings of a report, from a local folder.

The folder holds the published `chexbert.pth` (`model_state_dict` of a DataParallel) and the files of bert-base-uncased,
`vocab.txt` and `config.json`.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.contract import BadInput
from pipelines.encoders.strict import load_strict
from pipelines.reporting.metrics import FINDINGS

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertTokenizerFast

WEIGHTS = "chexbert.pth"
BLANK, POSITIVE, NEGATIVE, UNCERTAIN = range(4)
BATCH, LONGEST = 16, 512


class Chexbert(nn.Module):
    """BERT with 13 heads of four classes and one of two (No Finding), on the first token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = BertModel(config)
        classes = [4] * (len(FINDINGS) - 1) + [2]
        self.linear_heads = nn.ModuleList(nn.Linear(config.hidden_size, n) for n in classes)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Most likely class of every finding, int64 [B, 14]; of No Finding 1 is positive and 0 blank."""
        first_BD = self.bert(ids_BT, attention_mask=mask_BT).last_hidden_state[:, 0]
        return torch.stack([head(first_BD).argmax(1) for head in self.linear_heads], 1)


class ChexbertFindings:
    """A Labeller (metrics.py) of a folder; BadInput when something of it is missing or does not fit."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        for name in (WEIGHTS, "config.json", "vocab.txt"):
            if not (folder / name).exists():
                raise BadInput(f"{name} is missing in the folder {folder.name}; CheXbert needs it beside {WEIGHTS}.")
        self.device = device
        self.tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True)
        self.model = Chexbert(BertConfig.from_json_file(str(folder / "config.json")))
        load_strict(self.model, _published(folder / WEIGHTS), "CheXbert")
        self.model.eval().to(device)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        out = []
        for begin in range(0, len(texts), BATCH):
            # As the published labeller reads a report: on one line, without spaces before punctuation.
            lines = [" ".join(text.split()) for text in texts[begin : begin + BATCH]]
            batch = self.tokenizer(lines, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
            classes = self.model(batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device))
            out.append(((classes == POSITIVE) | (classes == UNCERTAIN)).cpu().numpy())
        return np.concatenate(out)


def _published(path: Path) -> dict[str, Tensor]:
    """The published state under the names of `Chexbert`; the pickle is opened for tensors only."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        raise BadInput(
            f"{path.name} is no checkpoint that can be opened safely; get the published one again."
        ) from None
    state = state.get("model_state_dict", state)
    # Older versions of transformers kept the positions 0..511 as a buffer.
    return {k.removeprefix("module."): v for k, v in state.items() if not k.endswith("embeddings.position_ids")}
