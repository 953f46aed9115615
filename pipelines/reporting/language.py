"""The language model of a writer: from a local folder, or a small Llama that begins from nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.contract import BadInput
from pipelines.reporting.pieces import GivenPieces, OwnPieces, Pieces
from pipelines.reporting.spec import Adapt

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported

import torch
from transformers import LlamaConfig, LlamaForCausalLM

WIDTH, LAYERS, HEAD = 192, 3, 64  # of the embedded model: what two CPU cores can train
LORA_RANK, LORA_ALPHA, LORA_DROPOUT = 16, 32, 0.05


@dataclass(frozen=True)
class Language:
    """A causal language model of transformers and its tokens; which of its weights learn is set in them."""

    model: Any
    pieces: Pieces
    rate: float
    """Usual peak learning rate of what learns."""


def embedded(texts: list[str], seed: int, width: int = WIDTH, layers: int = LAYERS) -> Language:
    """The embedded default: tied embeddings, tokens trained on `texts`; the same for a seed."""
    pieces = OwnPieces(texts)
    config = LlamaConfig(
        vocab_size=pieces.size,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD,
        max_position_embeddings=8192,
        attention_dropout=0.1,
        tie_word_embeddings=True,
        bos_token_id=pieces.first[0],
        eos_token_id=pieces.end,
        pad_token_id=pieces.end,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Language(LlamaForCausalLM(config), pieces, 1e-3)


def given(folder: Path, adapt: Adapt, seed: int, device: torch.device) -> Language:
    """A model of a local folder; BadInput when it is none, or when LoRA is asked for and peft is not installed."""
    from pipelines.label.causal import load_causal

    tokenizer, model = load_causal(folder, device)
    ends = model.generation_config.eos_token_id
    end = ends[0] if isinstance(ends, list) else ends
    if end is None:
        end = tokenizer.eos_token_id
    if end is None:
        raise BadInput(
            f"{folder.name} names no token that ends a text; set eos_token_id in its generation_config.json."
        )
    model.requires_grad_(adapt == "all")
    if adapt == "all":
        model.float()
    if adapt == "lora":
        model = _with_lora(model, seed)
    return Language(model, GivenPieces(tokenizer, end), 2e-5 if adapt == "all" else 2e-4 if adapt == "lora" else 1e-3)


def _with_lora(model: Any, seed: int) -> Any:
    """Low-rank adapters on every linear layer (arXiv 2106.09685), in float32."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise BadInput("LoRA needs the package peft; install intramural[lora] or set adapt to 'projector'.") from None
    config = LoraConfig(
        r=LORA_RANK,
        lora_alpha=LORA_ALPHA,
        lora_dropout=LORA_DROPOUT,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)
