"""The words that radiographers put beside the patient: side, projection, position, breath, and the units of scales."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

MARKERS = frozenset(
    {"L", "R", "LEFT", "RIGHT", "AP", "PA", "LAT", "LATERAL", "LL", "RL", "OBL", "OBLIQUE", "LAO", "RAO", "LPO", "RPO"}
    | {"ERECT", "UPRIGHT", "SITTING", "STANDING", "SUPINE", "PRONE", "SEMI", "SEMIERECT", "SEMIUPRIGHT", "RECUMBENT"}
    | {"DECUB", "DECUBITUS", "LORDOTIC", "AXIAL", "PORTABLE", "PORT", "MOBILE", "BEDSIDE", "BED", "STRETCHER", "TABLE"}
    | {"XTABLE", "CROSS", "ON", "WHEELCHAIR", "CHAIR", "INSP", "INSPIRATION", "EXP", "EXPIRATION", "POSTOP", "PREOP"}
)
UNITS = frozenset({"CM", "MM", "IN", "INCH", "DEG"})
# Words so plain that a reading in which they are run together with others, or with a letter or two that were misread,
# is still one of marks. Shorter ones make up names, and so do some others at the end of a word.
PLAIN = ("PORTABLE", "SUPINE", "UPRIGHT", "ERECT", "DECUB", "SITTING", "BEDSIDE", "LEFT", "LAT")
APART = frozenset({"ON", "BED", "TABLE", "CROSS", "CHAIR", "MOBILE", "DEG"})
SHORT_NUMBER, NUMBER = re.compile(r"\d{1,2}"), re.compile(r"\d{1,3}(?:CM|MM|INCH|IN)?(?!\d)")
MISREAD = 2  # letters
SCALE = re.compile(r"(?:0|5|1[05]|20){2,}(?:CM|MM)")  # its numbers run together
STROKES, LONE = "I1", frozenset({"LAT", "ERECT", "SUPINE", "PORTABLE"})  # an edge beside a mark reads as a stroke
NEAR = 5  # letters of a word beside marks, of which one may be misread
PIECE = 4  # letters


def words_of(reading: str) -> list[str]:
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", reading).upper())


def is_marks(words: Sequence[str], markers: frozenset[str]) -> bool:
    """Whether words, in capitals, are marks of the allow-list and nothing else but numbers of a scale or distance."""
    known = [w for w in words if w in markers or w in UNITS or re.fullmatch(r"\d{1,3}(?:CM|MM|INCH|IN)", w)]
    number = NUMBER if UNITS & set(known) else SHORT_NUMBER
    rest = [w for w in words if w not in known and not number.fullmatch(w)]
    if known and not rest:
        return True
    letters = "".join(words)
    if SCALE.fullmatch(letters) or letters.lstrip(STROKES) in LONE:
        return True
    if markers & set(known) and all(_is_near_plain(w) for w in rest):
        return True
    if any(plain in letters for plain in PLAIN) and _divides(letters, markers - APART, whole=True):
        return True
    if words[:1] and words[0] in PLAIN and len(letters) <= len(words[0]) + MISREAD:
        return True
    return letters.endswith(PLAIN[:-1]) and len(re.sub("|".join(PLAIN[:-1]), "", letters)) <= MISREAD


def _is_near_plain(word: str) -> bool:
    """Whether a word is a plain one but for one letter."""
    plain = (p for p in PLAIN if len(p) == len(word) >= NEAR)
    return any(sum(a != b for a, b in zip(word, p, strict=True)) == 1 for p in plain)


def is_piece(letters: str, markers: frozenset[str]) -> bool:
    """Whether letters are a mark of the allow-list with its first or last ones cut off."""
    return len(letters) >= PIECE and any(letters != mark and letters in mark for mark in markers)


def may_become_marks(words: Sequence[str], markers: frozenset[str]) -> bool:
    """Whether the cut reading of the head of a line, whose last letter may be cut through, may be one of marks."""
    if not all(_divides(w, markers | UNITS, whole=True) for w in words[:-1]):
        return False
    return any(_divides(part, markers | UNITS, whole=False) for w in words[-1:] for part in (w, w[:-1]))


@lru_cache(maxsize=4096)
def _divides(letters: str, words: frozenset[str], *, whole: bool) -> bool:
    """Whether letters are a sequence of words and numbers without gaps, or, not `whole`, the beginning of one."""
    if not letters or (not whole and any(w.startswith(letters) for w in words)):
        return True
    number = NUMBER.match(letters)
    if number and _divides(letters[number.end() :], words, whole=whole):
        return True
    return any(letters.startswith(w) and _divides(letters[len(w) :], words, whole=whole) for w in words)
