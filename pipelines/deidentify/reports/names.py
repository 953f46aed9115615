"""Names of known persons in a text: in every order, case and with initials; and which of their words are ordinary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from pipelines.deidentify.reports.folding import fold, variants
from pipelines.deidentify.reports.spans import Span
from pipelines.deidentify.reports.words import word_list
from pipelines.deidentify.vocabulary import clinical_words

_PARTICLES = frozenset("al bin da das de del della der des di dos du el la le lo san st ten ter van von y zu".split())  # noqa: SIM905
_GAP = r"[\s,.;_/^-]{1,3}"
_EVERYDAY = frozenset(word_list("ordinary_names"))
_START, _END = r"(?<![^\W\d_])", r"(?![^\W\d_])"

_TITLE = (
    r"(?:\b(?:[Dd]rs?|DRS?(?=\.)|Mrs?|Ms|Miss|Mx|Doctor|Prof|Professor|Nurse|Sister|Señora?|Herrn?|Frau|Mme|Mevrouw)\b"
    r"\.?[ ]?|\b(?:MR|MRS|MS)\.[ ]?)"
)
DONE_BY = (
    r"(?:signed|dictated|read|interpreted|reviewed|transcribed|verified|approved|authenticated|reported|performed|"
    r"supervised|attested|finali[sz]ed|co-?signed|prepared|requested|ordered|validated|seen|referred)\s+by\b\s*:?\s*"
)
LABEL = (
    r"\b(?:patient|patient'?s?\s+name|name|pt|attending|resident|radiologist|physician|provider|signed|cc|re|reader|"
    r"referring(?:\s+(?:md|physician))?|technologist|operator|dictator)\s*:\s*"
)
_TOLD = (
    r"\b(?:discussed|communicated|reviewed|spoke|spoken|conferred|shared)\s+(?:\w+\s+){0,3}?with\s+|"
    r"\b(?:reported|communicated|called|conveyed|relayed|phoned|given|telephoned|notified|paged|informed)\s+(?:to\s+)?|"
    r"\b(?:repeat|portable|call)\s+for\s+"
)
CUE = rf"(?:(?:(?i:{DONE_BY}|{LABEL}|{_TOLD}))?{_TITLE}|(?i:{DONE_BY}|{LABEL}|{_TOLD}))"
"""Words that announce a person; the name begins where this ends."""
_BEFORE = re.compile(CUE + "$")
_AFTER = re.compile(
    r"\s*,?\s*(?:M\.?D\b|D\.?O\b\.?(?![a-z])|MBBS|Ph\.?D|R\.?N\b|N\.?P\b|PA-C|R\.?T\.?\b|FRCR|FACR|RRA)"
)


@dataclass(frozen=True)
class _Word:
    """A word of a name. `ordinary`: it is a word of the language too, so that context must decide; `clinical`: one
    that reports write with a capital as well."""

    spellings: frozenset[str]
    ordinary: bool
    clinical: bool


@dataclass(frozen=True)
class Person:
    family: tuple[_Word, ...]
    given: tuple[_Word, ...]


@lru_cache(maxsize=4096)
def persons(pn: str) -> tuple[Person, ...]:
    """The groups of a PN value (PS3.5 section 6.2.1) as words."""
    found = []
    for group in pn.split("="):
        family, given, middle = ([*group.split("^"), "", "", ""])[:3]
        person = Person(_words(family), _words(f"{given} {middle}"))
        if person.family or person.given:
            found.append(person)
    return tuple(found)


def ordinary(word: str) -> bool:
    """Whether a folded word stands in reports for something else than a person."""
    return word in _EVERYDAY or word in clinical_words()


def find_names(text: str, names: Iterable[str]) -> tuple[list[Span], int]:
    """Where the persons `names` (PN strings) are named in `text` (NFC), and how many ordinary words are left.

    A full name counts in any order, with initials, in any case; one of ordinary words only when capitalised. A single
    part counts as a whole word; an ordinary one beside a cue only. Those left start with a capital and may be names.
    """
    folded = fold(text)
    spans: list[Span] = []
    known = {person for pn in names for person in persons(pn)}
    for person in known:
        for match, strong in _full_names(folded, person):
            if strong or _capitalised(text, match.start(), match.end()):
                spans.append(Span("NAME", match.start(), match.end()))
    left = 0
    words = {w for p in known for w in (*p.family, *p.given)}
    for word in words:
        if not _stands_in(folded, word):
            continue
        for match in _alone(word).finditer(folded):
            start, end = match.span()
            if any(s.start <= start and end <= s.end for s in spans):
                continue
            if _is_person(text, start, end, word):
                spans.append(Span("NAME", start, end))
            else:
                left += word.ordinary and text[start].isupper()
    return spans, left


def after_cue(text: str, start: int) -> bool:
    """Whether the words before `start` announce a person."""
    return bool(_BEFORE.search(text[max(start - 48, 0) : start]))


def before_credential(text: str, end: int) -> bool:
    """Whether an academic or professional degree follows."""
    return bool(_AFTER.match(text[end : end + 12]))


def _is_person(text: str, start: int, end: int, word: _Word) -> bool:
    if not word.ordinary and end - start >= 3:
        return True
    if not text[start].isupper():
        return False
    if after_cue(text, start) or before_credential(text, end):
        return True
    if text[start:end].isupper():
        return False  # in capitals every word looks like a name
    # Two letters (Ng, Xu), or a word of everyday language with a capital inside a sentence; never a clinical word.
    return not word.ordinary or (not word.clinical and _inside_sentence(text, start))


def _inside_sentence(text: str, start: int) -> bool:
    before = text[max(start - 2, 0) : start]
    return bool(re.fullmatch(r"[\w,][ ]", before))


def _words(component: str) -> tuple[_Word, ...]:
    words = []
    for raw in re.findall(r"[^\W\d_]+(?:['’`][^\W\d_]+)*", component):
        if fold(raw) in _PARTICLES:
            continue
        spelt = variants(raw)
        spelt |= {s.replace("'", "") for s in spelt} | {s.replace("'", " ") for s in spelt if "'" in s}
        if len(raw) >= 2:
            clinical = any(s in clinical_words() for s in spelt)
            words.append(_Word(frozenset(spelt), any(ordinary(s) for s in spelt), clinical))
    return tuple(words)


def _full_names(folded: str, person: Person) -> Iterator[tuple[re.Match[str], bool]]:
    """Matches of both names together, and whether one of their words can be nothing but a name."""
    if not (person.family and person.given):
        return
    if not all(_stands_in(folded, w) for w in person.family):
        return
    strong = any(not w.ordinary for w in (*person.family, *person.given))
    for pattern in _full_patterns(person):
        for match in pattern.finditer(folded):
            yield match, strong


@lru_cache(maxsize=4096)
def _full_patterns(person: Person) -> tuple[re.Pattern[str], ...]:
    particles = r"(?:(?:" + "|".join(sorted(_PARTICLES)) + r")\s+){0,2}"
    family = particles + r"[\s-]{1,2}".join(_either(w) for w in person.family)
    full = rf"(?:{'|'.join(_either(w) for w in person.given)})"
    initial = rf"(?:{'|'.join(sorted({s[0] for w in person.given for s in w.spellings}))})"
    middle = r"(?:" + _GAP + r"(?:[^\W\d_]\.?|" + full + r"))?"
    return tuple(
        re.compile(_START + p)
        for p in (
            rf"{full}{middle}{_GAP}{family}{_END}",
            rf"{family}{_GAP}{full}{middle}{_END}",
            rf"{initial}\.\s?(?:[^\W\d_]\.\s?)?{family}{_END}",
            rf"{family},\s?{initial}(?:\.|{_END})",
        )
    )


@lru_cache(maxsize=8192)
def _alone(word: _Word) -> re.Pattern[str]:
    return re.compile(_START + _either(word) + _END)


def _stands_in(folded: str, word: _Word) -> bool:
    """Whether it is worth compiling a pattern for the word: most header values are not in most reports."""
    return any(s in folded for s in word.spellings)


def _either(word: _Word) -> str:
    return "(?:" + "|".join(sorted(map(re.escape, word.spellings), key=len, reverse=True)) + ")"


def _capitalised(text: str, start: int, end: int) -> bool:
    words = re.findall(r"[^\W\d_]+", text[start:end])
    return all(w[0].isupper() or fold(w) in _PARTICLES for w in words)
