"""Clinical vocabulary: words that say something of an examination and are therefore not taken for a person's name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# Attributes whose values are a closed list in the standard. A listed value is a term where it stands, whatever anybody
# is called: a physician Lin costs no image its PixelIntensityRelationship.
CLOSED = {
    0x00080068: frozenset({"FOR PRESENTATION", "FOR PROCESSING"}),
    0x00100040: frozenset({"M", "F", "O"}),
    0x00102203: frozenset({"ALTERED", "UNALTERED"}),
    0x001021A0: frozenset({"YES", "NO", "UNKNOWN"}),
    0x00281040: frozenset({"LIN", "LOG", "DISP"}),  # PS3.3 C.8.7.1.1.6, C.8.11.3.1.2
    # PS3.3 C.7.6.1.1.5.1
    0x00282114: frozenset(
        {
            "ISO_10918_1",
            "ISO_14495_1",
            "ISO_15444_1",
            "ISO_15444_15",
            "ISO_13818_2",
            "ISO_14496_10",
            "ISO_23008_2",
            "ISO_18181_1",
        }
    ),
}


def is_listed(tag: int, value: str) -> bool:
    """Whether the standard lists this value of this attribute."""
    return tag in CLOSED and value.strip(" \0") in CLOSED[tag]


def words(text: str) -> list[str]:
    """Whole words of letters in their normal form: case-folded, composed (NFC)."""
    return [w.casefold() for w in _WORD.findall(unicodedata.normalize("NFC", text))]


@cache
def clinical_words() -> frozenset[str]:
    """Words of the coded concepts that pydicom ships (PS3.16 context groups), of the data dictionary, and a short list.

    Of the concepts only words that occur in small letters count, so that eponyms (Miller, Williams) stay names. Words
    that are terms and names alike stay in it: whether "Heart" in a text means the patient is decided where the
    patient's own name is known.
    """
    from pydicom._dicom_dict import DicomDictionary

    found = {w for meaning in _meanings() for w in _WORD.findall(meaning) if w.islower()}
    for _, _, name, *_ in DicomDictionary.values():
        found.update(words(name))
    return frozenset(found) | listed_words("clinical_words")


def _meanings() -> Iterator[str]:
    """Meanings of the coded concepts that pydicom ships."""
    from pydicom.sr._concepts_dict import concepts

    schemes: dict[str, Any] = concepts
    for scheme in schemes.values():
        for codes in scheme.values():
            yield from (meaning for meaning, *_ in codes.values())


@cache
def coded_words() -> frozenset[str]:
    """Words of the coded concepts that pydicom ships, eponyms among them."""
    return frozenset(word for meaning in _meanings() for word in words(meaning))


@cache
def _concept_meanings() -> frozenset[str]:
    return frozenset(meaning.casefold() for meaning in _meanings())


def is_meaning(value: str) -> bool:
    """Whether a text is, as a whole, the meaning of a coded concept of the standard (PS3.16)."""
    return value.strip().casefold() in _concept_meanings()


@cache
def listed(name: str) -> frozenset[str]:
    """The entries of a list in data/, as they stand there; lines that begin with # are comments."""
    text = (Path(__file__).parent / "data" / f"{name}.txt").read_text(encoding="utf-8")
    return frozenset(entry for line in text.splitlines() if not line.startswith("#") for entry in line.split())


@cache
def listed_words(name: str) -> frozenset[str]:
    """The entries of a list in data/ as words in their normal form."""
    return frozenset(word for entry in listed(name) for word in words(entry))


@cache
def _defined_terms() -> frozenset[str]:
    return listed_words("defined_terms") | clinical_words()


@lru_cache(maxsize=4096)
def is_defined_term(value: str) -> bool:
    """Whether a value of VR CS is made of words of the standard, or of marks too short to name anybody."""
    found = words(value.replace("_", " "))
    digits = sum(c.isdigit() for c in value)
    return digits <= 4 and all(len(w) <= 2 or w in _defined_terms() for w in found)


@lru_cache(maxsize=4096)
def is_term(text: str) -> bool:
    """Whether a text is clinical words and short numbers only, so that it can hold no identifier."""
    digits = sum(c.isdigit() for c in text)
    return digits <= 2 and all(w in clinical_words() for w in words(text))
