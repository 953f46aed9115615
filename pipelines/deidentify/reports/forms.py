"""What is identifying by its form, whoever it belongs to: numbers with a word for them, phones, addresses,
institutions, ages over 89. Precision matters as much as recall: a dose, a size or a vertebra is none of these."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipelines.deidentify.reports.folding import fold
from pipelines.deidentify.reports.spans import Span
from pipelines.deidentify.reports.words import word_list

CAPITALISED = r"[A-ZÀ-ÖØ-ÞĀ-Ž][\w'’-]*"
_CAP = CAPITALISED
_STREETS = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Way|Court|Ct|Place|Pl|Terrace|Ter|Parkway|Pkwy|"
    r"Highway|Hwy|Circle|Cir|Square|Sq|Close|Crescent|Row|Trail|Alley|Gardens)"
)
_CARE = (
    r"(?:Hospital|Infirmary|Medical\s+Cent(?:er|re)|Health\s+(?:System|Cent(?:er|re))|Healthcare|Clinic|Hospice|"
    r"Nursing\s+Home|Sanatorium|Polyclinic|Children's\s+Cent(?:er|re)|Cancer\s+Cent(?:er|re)|Imaging\s+Cent(?:er|re))"
)
_NUMBER_WORD = (
    r"(?i:\b(?:mrn|mr\s?#|med(?:ical)?\.?\s+rec(?:ord)?|record|patient\s+id|pat\.?\s*id|hospital\s+(?:id|no)|accession|"
    r"acc|account|acct|encounter|visit|csn|ssn|nhs|case|order|requisition|policy|member|exam)\b"
    r"\s*(?:no\.?|num(?:ber)?|id|#)?\s*[:#=]?\s*)"
)
_NUMBERED = r"(?P<value>(?=[\w-]*\d{3})[A-Za-z0-9][\w-]{3,})"
# Kind -> patterns; the group `value`, where there is one, is what identifies.
_SOURCES: dict[str, tuple[str, ...]] = {
    "EMAIL": (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",),
    "URL": (r"\b(?:https?://|www\.)[^\s<>\"]+",),
    "PHONE": (
        r"(?<![\w.])(?:\+?\d{1,3}[ .-]?)?(?:\(\d{3}\)[ ]?|\d{3}[ .-])\d{3}[ .-]\d{4}"
        r"(?:\s?(?:x|ext\.?)\s?\d{1,6})?(?!\d)",
        r"(?<!\w)\+\d{1,3}(?:[ .\-/()]{0,2}\d){6,13}(?!\d)",
        r"(?i:\b(?:phone|tel(?:e(?:phone|fono|fon|foon)?)?|tél(?:éphone)?|teléfono|móvil|handy|fax|mobile|cell|pager|beeper|"
        r"called\s+at|ext(?:ension)?)\b[\s.:#]*)(?P<value>\+?\(?\d[\d ()./-]{2,18}\d)",
        r"(?i:\bext?\.?\s?)(?P<value>\d{3,6})\b",
        r"(?<![\d-])\d{3}-\d{4}(?![\d-])",
    ),
    "ID": (
        _NUMBER_WORD + _NUMBERED,
        r"\bID\s*[:#=]\s*" + _NUMBERED,
        r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])",
        r"(?<![\w.,/-])\d{7,}(?![\w,/-]|\.\d)",
        r"(?<![\w-])(?=[A-Z]*\d)[A-Z]{2,5}-?\d{5,}(?![\w-])",
        r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])",
        r"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\w.])",
    ),
    "ADDRESS": (
        rf"(?<![\w.])\d{{1,5}}[A-Za-z]?,?[ ](?:(?:N|S|E|W|North|South|East|West)\.?[ ])?(?:{_CAP}[ ]){{1,3}}"
        rf"{_STREETS}\b\.?(?:,?[ ](?:Apt|Apartment|Unit|Suite|Ste|#)\.?[ ]?#?\w{{1,6}})?"
        rf"(?:,[ ]{_CAP}(?:[ ]{_CAP})?,?[ ][A-Z]{{2}}[ ]\d{{5}})?",
        r"(?<![\w.])\d{1,5}(?:[ ]?bis)?,?[ ](?i:rue|avenue|boulevard|chemin|place|allée|calle|avenida|via|plaza)[ ]"
        rf"(?:(?:de|des|du|la|le|del|los)[ ]){{0,2}}{_CAP}(?:[ ]{_CAP})?",
        rf"\b{_CAP}(?:straße|strasse|weg|platz|gasse|allee|straat|laan|gracht)[ ]\d{{1,4}}[a-z]?\b",
        r"\b(?i:p\.?\s?o\.?\s+box)\s+\d+",
        rf"\b{_CAP}(?:[ ]{_CAP})?,[ ][A-Z]{{2}}[ ]\d{{5}}(?:-\d{{4}})?\b",
    ),
    "HOSPITAL": (
        rf"(?:St\.?[ ]|{_CAP}[ ](?:of[ ]|and[ ]|&[ ])?){{1,5}}{_CARE}\b",
        r"\b(?:Cl[íi]nica|Hospital|H[ôo]pital|Klinikum|Krankenhaus|Ziekenhuis|Centro[ ]M[ée]dico)[ ]"
        rf"(?:(?:de|des|du|la|le|del|los|San|Santa|St\.?)[ ]){{0,2}}{_CAP}(?:[ ]{_CAP})?",
    ),
}
_PATTERNS = [(kind, re.compile(p)) for kind, patterns in _SOURCES.items() for p in patterns]
_AGE = re.compile(
    r"(?i)(?<![\w.])(?P<a>9\d|1[0-2]\d)(?=[\s-]*(?:year|yr|y\.?/?o\b|y\.o|-?years?[\s-]+old|yo\b))|"
    r"\b(?:aged?|age:|age\s+of)\s*(?P<b>9\d|1[0-2]\d)(?!\s*(?:%|mm|cm|degrees|days|months|weeks|hours))(?![\w.]\d)"
)
# Capitalised words before an institution that is nobody's in particular, and words that say only what kind it is.
_ARTICLES = frozenset(word_list("institution_articles"))
_KINDS = frozenset(word_list("institution_kinds"))
FORMS = (*_SOURCES, "AGE")


def find_forms(text: str) -> Iterator[Span]:
    """Spans of everything in `text` that identifies by its form; they may overlap."""
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span("value" if "value" in pattern.groupindex else 0)
            if kind == "HOSPITAL":
                start = _institution_start(text, start, end)
            if start < end:
                yield Span(kind, start, end, "forms", 0.85)
    for match in _AGE.finditer(text):
        if not match[match.lastgroup or 0].startswith("90"):
            yield Span("AGE", *match.span(match.lastgroup or 0), "forms", 0.85)


def _institution_start(text: str, start: int, end: int) -> int:
    """Where the institution's own name begins behind words such as `Outside`; `end` when nothing of it is a name."""
    words = list(re.finditer(r"\S+", text[start:end]))
    while words and fold(words[0].group()).strip(".,") in _ARTICLES:
        words.pop(0)
    named = any(fold(w.group()).strip(".,") not in _KINDS for w in words)
    return start + words[0].start() if named else end
