"""Risk factors of an instance or report, noted while it is cleaned: cheap looks at what was there and what was done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipelines.deidentify.values import LONG_TEXT, TEXT
from pipelines.deidentify.vocabulary import clinical_words, words
from pipelines.scan.dicom import text

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from pipelines.deidentify.header import Cleaned
    from pipelines.deidentify.reports.scrub import Scrubbed

# Modalities whose images often carry text (PS3.3 C.7.3.1.1.1), and every secondary capture (PS3.3 A.8).
_MODALITIES = {"US", "XA", "RF", "SC", "OT", "ES", "XC", "GM", "SM", "DOC", "MG"}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
FRAMES = 10
WEAK = 0.7
"""Score below which a find is weak: what the language model alone proposed."""
_PSEUDONYMS = {0x00100010, 0x00100020, 0x00080050}


def factors(before: Dataset, cleaned: Cleaned, names: Iterable[str], boxes: int) -> list[str]:
    """Codes of sampling.FACTORS, sorted. `before` is the source, `names` are its persons as PN strings."""
    claimed = text(before, "BurnedInAnnotation").upper()
    tags = cleaned.ds.keys()
    held = {
        "disagreement": (claimed == "NO" and boxes > 0) or (claimed == "YES" and not boxes),
        "text_blanked": boxes > 0,
        "private_kept": any(tag >> 16 & 1 for tag in tags),
        "risk_modality": text(before, "Modality").upper() in _MODALITIES
        or text(before, "SOPClassUID").startswith(_SECONDARY_CAPTURE),
        "malformed": cleaned.malformed > 0,
        "free_text": any(element.VR in LONG_TEXT and element.value for element in cleaned.ds.values()),
        "name_words": _name_left(cleaned.ds, names),
        "unknown": cleaned.unknown > 0,
        "frames": (count := text(before, "NumberOfFrames")).isdecimal() and int(count) >= FRAMES,
    }
    return sorted(code for code, holds in held.items() if holds)


def report_factors(before: str, result: Scrubbed) -> list[str]:
    """Codes of sampling.FACTORS for a report, sorted. `before` is its text as it came."""
    held = {
        "doubtful_words": result.review > 0,
        "unmodelled": result.unmodelled,
        "unread_bytes": "\N{REPLACEMENT CHARACTER}" in before,
        "weak_finds": any(span.score < WEAK for span in result.spans),
    }
    return sorted(code for code, holds in held.items() if holds)


def _name_left(ds: Dataset, names: Iterable[str]) -> bool:
    """Whether a word that is a name and a clinical term at once was left in a text: nobody can tell but a person."""
    doubtful = {w for name in names for w in words(name) if len(w) >= 3 and w in clinical_words()}
    if not doubtful:
        return False
    texts = (ds[tag].value for tag in ds.keys() if ds.get_item(tag).VR in TEXT and tag not in _PSEUDONYMS)  # noqa: SIM118
    return any(doubtful.intersection(words(str(value))) for value in texts if value)
