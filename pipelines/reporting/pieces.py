"""Report text to tokens of a language model and back: of a given model, or trained on the site's train reports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer as Backend
from tokenizers import decoders

from pipelines.encoders.tokens import END, START, train_tokenizer

VOCABULARY = 2048
SENTENCE = re.compile(r"(^|[.!?:]\s+)([a-z])")


class Pieces(Protocol):
    """What a writer asks of a tokenizer."""

    size: int
    first: list[int]
    """Tokens before everything."""
    end: int
    """Ends a report."""

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, nothing added."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens up to the end token."""


class OwnPieces:
    """A byte-level BPE in lower case, trained on the texts it will be used on; the same texts give the same one."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.backend: Backend = train_tokenizer(texts, VOCABULARY)
        self.backend.decoder = decoders.ByteLevel()
        self.size = self.backend.get_vocab_size()
        self.first, self.end = [self.backend.token_to_id(START)], self.backend.token_to_id(END)

    def encode(self, text: str) -> list[int]:
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Sentences begin with a capital: their case was lost when the tokens were made."""
        text = self.backend.decode(_until(tokens, self.end), skip_special_tokens=True).strip()
        return SENTENCE.sub(lambda m: m[1] + m[2].upper(), text)


class GivenPieces:
    """The tokenizer of a given language model (transformers)."""

    def __init__(self, tokenizer: Any, end: int) -> None:
        self.tokenizer, self.size, self.end = tokenizer, len(tokenizer), end
        self.first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(_until(tokens, self.end), skip_special_tokens=True)).strip()


def _until(tokens: Sequence[int], end: int) -> list[int]:
    tokens = list(tokens)
    return tokens[: tokens.index(end)] if end in tokens else tokens
