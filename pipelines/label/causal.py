"""A causal language model from a local folder: conversations in, greedy answers out, in batches padded on the left."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.contract import BadInput, sha256_file
from pipelines.label.prompt import Message

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging

# What follows an answer of a model that was never taught to converse: the next question of the same kind.
SEPARATOR = "\n\n"


class CausalModel:
    """The model and its tokenizer. Nothing is downloaded, no code of the folder is run, no pickle is opened."""

    def __init__(self, folder: Path, device: str, new_tokens: int) -> None:
        self.device = _device(device)
        self.new_tokens = new_tokens
        self.tokenizer, self.model = load_causal(folder, self.device)
        self.context = min(_context(self.model.config), self.tokenizer.model_max_length)
        self.chats = self.tokenizer.chat_template is not None
        self.digest = folder_digest(folder)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """A conversation as tokens, ready for an answer."""
        if self.chats:
            # Models that think aloud unless told not to would spend the answer's tokens on it; others ignore the word.
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        text = "".join(m["content"] + (SEPARATOR if m["role"] == "assistant" else "\nJSON: ") for m in messages)
        return list(self.tokenizer(text.rstrip(" "))["input_ids"])

    def fits(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt leaves room for an answer."""
        return bool(len(prompt) + self.new_tokens <= self.context)

    def generate(self, prompts: list[list[int]], stopping: Callable[[], bool]) -> list[tuple[str, bool]]:
        """For each prompt the answer, and whether it was cut off at its longest.

        Ends early, with what there is by then, once `stopping()`. A batch that the GPU's memory does not hold is
        halved; BadInput when it does not hold a single report.
        """
        try:
            return self._generate(prompts, stopping)
        except torch.OutOfMemoryError:
            pass  # out of the block first: the exception holds on to the tensors that filled the memory
        if len(prompts) == 1:
            raise BadInput("The GPU's memory does not hold the model and one report; take a smaller model or GPU.")
        torch.cuda.empty_cache()
        half = len(prompts) // 2
        return [answer for part in (prompts[:half], prompts[half:]) for answer in self.generate(part, stopping)]

    def _generate(self, prompts: list[list[int]], stopping: Callable[[], bool]) -> list[tuple[str, bool]]:
        padded = self.tokenizer.pad({"input_ids": prompts}, padding=True, return_tensors="pt").to(self.device)
        ends = {} if self.chats else {"stop_strings": SEPARATOR, "tokenizer": self.tokenizer}
        with torch.inference_mode():
            written = self.model.generate(
                input_ids=padded["input_ids"],
                attention_mask=padded["attention_mask"],
                generation_config=self._greedy(),
                stopping_criteria=StoppingCriteriaList([_Asked(stopping)]),
                **ends,
            )
        answers = written[:, padded["input_ids"].shape[1] :]
        return [self._decode(row) for row in answers.tolist()]

    def _decode(self, tokens: list[int]) -> tuple[str, bool]:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        cut = len(tokens) >= self.new_tokens and not set(tokens) & _ends(self.model)
        if not self.chats:
            text, separator, _ = text.lstrip("\n").partition(SEPARATOR)
            cut = cut and not separator
        return text, cut

    def _greedy(self) -> GenerationConfig:
        """Greedy decoding whatever the folder's own settings say: the same report gets the same labels."""
        own = self.model.generation_config
        pad = self.tokenizer.pad_token_id
        return GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, num_beams=1, max_new_tokens=self.new_tokens, eos_token_id=own.eos_token_id,
            bos_token_id=own.bos_token_id, pad_token_id=pad,
        )  # fmt: skip


class _Asked(StoppingCriteria):
    """Ends generation when the stage was asked to stop."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self.stopping = stopping

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.stopping(), device=input_ids.device, dtype=torch.bool)


def _device(wanted: str) -> torch.device:
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise BadInput("There is no GPU here that PyTorch can use; give device cpu or auto.")
    return torch.device("cuda" if found and wanted != "cpu" else "cpu")


def load_causal(folder: Path, device: torch.device) -> tuple[Any, Any]:
    """Tokenizer (padding on the left) and model in evaluation mode of a folder; BadInput when it holds none."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    wanted = (
        f"{folder.name} holds no causal language model; give the folder that save_pretrained wrote, with safetensors."
    )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, padding_side="left"
        )
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True,
            dtype="auto" if device.type == "cuda" else torch.float32,
        )  # fmt: skip
    except (OSError, ValueError, KeyError):
        raise BadInput(wanted) from None
    model, told = loaded
    # transformers fills what is missing with random numbers and only warns.
    if told["missing_keys"] or told["mismatched_keys"]:
        raise BadInput(f"{folder.name} lacks weights of its model; copy the folder again.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.decode([next(iter(_ends(model)), 0)])
    return tokenizer, model.eval().to(device)


def _ends(model: Any) -> set[int]:
    """The tokens that end an answer."""
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends} - {None}


def _context(config: Any) -> int:
    """How many tokens the model can see, question and answer."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


def folder_digest(folder: Path) -> str:
    """Names the content of a model folder: weights, tokenizer, chat template, settings."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    listed = "".join(f"{p.name} {sha256_file(p)}\n" for p in files)
    return hashlib.sha256(listed.encode()).hexdigest()[:12]
