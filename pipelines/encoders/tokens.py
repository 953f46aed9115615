"""Report text to token ids: CLIP's published tokenizer, or a small one of a tiny form trained on a cohort's texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Regex, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from pipelines.contract import BadInput, write_atomic

START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def normalise_text(text: str) -> str:
    """The form in which two texts count as the same: NFKC, lower case, single spaces, no full stop at the end."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip().strip(".").lower()


def label_prompt(label: str) -> str:
    """The text that names a positive label, in training and zero-shot: modality, anatomy, label, as MI2's classes."""
    return normalise_text(f"x-ray chest {label}")


class Tokenizer:
    """Texts to padded ids; cut at `context` tokens, the end-of-text token always kept."""

    def __init__(self, backend: Backend, context: int) -> None:
        end = backend.token_to_id(END)
        if end is None or backend.token_to_id(START) is None:
            raise BadInput("The tokenizer lacks CLIP's start and end tokens; use the one published with the weights.")
        backend.enable_truncation(context)
        backend.enable_padding(pad_id=end, pad_token=END)
        self.backend = backend
        self.size = backend.get_vocab_size()

    @classmethod
    def load(cls, path: Path, context: int) -> Tokenizer:
        """Read `tokenizer.json`; BadInput when it is missing or none."""
        try:
            return cls(Backend.from_file(str(path)), context)
        except BadInput:
            raise
        except Exception:  # noqa: BLE001 - the library raises bare Exception for every fault of the file
            raise BadInput(f"{path.name} is missing or no tokenizer; copy the model folder again.") from None

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`, atomically."""
        write_atomic(path, self.backend.to_str())

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (int64) and mask (bool, true up to the end-of-text token), both [B, T] with T that of the longest."""
        encodings = self.backend.encode_batch(list(texts))
        ids = torch.tensor([e.ids for e in encodings], dtype=torch.int64)
        mask = torch.tensor([e.attention_mask for e in encodings], dtype=torch.bool)
        return ids, mask

    def truncated(self, texts: Sequence[str]) -> int:
        """How many of `texts` are longer than the context."""
        return sum(bool(e.overflowing) for e in self.backend.encode_batch(list(texts)))


def clip_tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Backend:
    """CLIP's tokenizer from its `vocab.json` and `merges.txt` (openai/clip-vit-base-patch32)."""
    backend = Backend(
        BPE(vocab=vocabulary, merges=merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=END)
    )
    words = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return _frame(backend)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Backend:
    """A byte-level BPE of at most `vocabulary` tokens; the same texts in any order give the same tokenizer.

    Pieces seen only once stay apart, so that no single report's wording becomes a token. Words are marked by their
    leading space: the trainer numbers CLIP's end-of-word pieces in an order that changes from run to run.
    """
    backend = Backend(BPE())
    backend.normalizer, backend.pre_tokenizer = _normalizer(), pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = BpeTrainer(
        vocab_size=vocabulary - 2,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(sorted(texts), trainer)
    # CLIP's two come last, so that the end-of-text token has the largest id here too.
    backend.add_special_tokens([START, END])
    return _frame(backend)


def _frame(backend: Backend) -> Backend:
    """CLIP's normaliser, and its start and end tokens around each text."""
    backend.normalizer = _normalizer()
    start, end = backend.token_to_id(START), backend.token_to_id(END)
    if start is None or end is None:
        raise BadInput("The vocabulary lacks CLIP's start and end tokens; use the one published with the weights.")
    backend.post_processor = processors.RobertaProcessing((END, end), (START, start), False, False)
    return backend


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
