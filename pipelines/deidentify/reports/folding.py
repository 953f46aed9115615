"""Text in a form in which spellings of one name are equal, character for character, so that places stay places."""

from __future__ import annotations

import unicodedata
from functools import cache

_LETTERS = str.maketrans({"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ı": "i", "ħ": "h", "’": "'", "ʼ": "'", "`": "'"})
# Letters that are also written with two (DIN 91379 and custom).
_PAIRS = {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae", "œ": "oe", "ß": "ss", "ñ": "ny"}


def compose(text: str) -> tuple[str, list[int]]:
    """The text in NFC and, for each of its characters and its end, the offset in `text` where it begins."""
    if unicodedata.is_normalized("NFC", text):
        return text, list(range(len(text) + 1))
    out, starts = [], []
    at = 0
    while at < len(text):
        end = at + 1
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        for c in unicodedata.normalize("NFC", text[at:end]):
            out.append(c)
            starts.append(at)
        at = end
    return "".join(out), [*starts, len(text)]


def fold(text: str) -> str:
    """Small letters without accents, of the same length as `text` (which is in NFC)."""
    if text.isascii():
        return text.lower()
    return "".join(map(_fold_one, text)).translate(_LETTERS)


@cache
def _fold_one(c: str) -> str:
    low = unicodedata.normalize("NFD", c.lower())[:1]
    return low if len(low) == 1 else c


def variants(word: str) -> frozenset[str]:
    """The folded spellings of a name's word: without accents, and with two letters for one."""
    word = unicodedata.normalize("NFC", word).lower()
    return frozenset({fold(word), fold("".join(_PAIRS.get(c, c) for c in word))})
