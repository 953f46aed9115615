"""Words that announce a person, and where the name they announce ends."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipelines.deidentify.reports.folding import fold
from pipelines.deidentify.reports.forms import CAPITALISED
from pipelines.deidentify.reports.spans import Span
from pipelines.deidentify.reports.words import ordinary, word_list

_TITLE_WORD = (
    r"(?:[Dd]r(?:a|s)?|DRS?(?=\.)|Mrs?|Ms|Miss|Mx|Doctor|Doctora|Prof|Professor|Nurse|Sister|Señora?|[Ss]ra?|Doña|Dña|"
    r"Herrn?|Frau|(?:Ober|Chef|Assistenz)(?:arzt|ärztin)|Mme|Mlle|Monsieur|Madame|Pr|M(?=\.[ ][A-Z][a-zé])|"
    r"[Mm]evrouw|[Dd]hr|[Mm]evr|[Mm]w|[Hh]eer)"
)
# Titles come in rows: Oberarzt Prof. Dr. med.
_TITLE = rf"(?:(?:\b{_TITLE_WORD}\b\.?[ ]?|\b(?:MR|MRS|MS)\.[ ]?)+(?:(?:med|dent|habil|rer|nat|phil)\.[ ]?)*)"
_DONE_BY = (
    r"(?:signed|dictated|read|interpreted|reviewed|transcribed|verified|approved|authenticated|reported|performed|"
    r"supervised|attested|finali[sz]ed|co-?signed|prepared|requested|ordered|validated|seen|referred)\s+by\b\s*:?\s*|"
    r"\b(?:firmado|dictado|informado|revisado|validado|solicitado|realizado)\s+por\s*:?\s*|"
    r"\b(?:signé|dicté|validé|rédigé|demandé|réalisé|interprété)\s+par\s*:?\s*|"
    r"\b(?:unterschrieben|diktiert|befundet|freigegeben|gezeichnet|untersucht|überwiesen)\s+(?:von|durch)\s*:?\s*|"
    r"\b(?:ondertekend|gedicteerd|geautoriseerd|verslagen|aangevraagd|beoordeeld)\s+door\s*:?\s*|\bgez\.\s*"
)
_LABEL = (
    r"\b(?:patient(?:in)?|patient'?s?\s+name|name|pt|attending|resident|radiologist|physician|provider|signed|cc|re|reader|"
    r"referring(?:\s+(?:md|physician))?|technologist|operator|dictator|fellow|paciente|nombre|médico|radiólogo|arzt|"
    r"überweiser|zuweiser|médecin|nom|patiënt|naam|arts|radioloog|aanvrager|signé|firmado|getekend|gezeichnet)\s*:\s*"
)
_TOLD = (
    r"\b(?:discussed|communicated|reviewed|spoke|spoken|conferred|shared)\s+(?:\w+\s+){0,3}?with\s+|"
    r"\b(?:reported|communicated|called|conveyed|relayed|phoned|given|telephoned|notified|paged|informed)\s+(?:to\s+)?|"
    r"\b(?:repeat|portable|call)\s+for\s+"
)
CUE = rf"(?:(?:(?i:{_DONE_BY}|{_LABEL}|{_TOLD}))?{_TITLE}|(?i:{_DONE_BY}|{_LABEL}|{_TOLD}))"
"""Words that announce a person; the name begins where this ends."""
_CUES, _BEFORE = re.compile(CUE), re.compile(CUE + "$")
_DEGREE = r"(?:M\.?D\b|D\.?O\b\.?(?![a-z])|MBBS|Ph\.?D|R\.?N\b|N\.?P\b|PA-C|R\.?T\.?\b|FRCR|FACR|RRA)(?![\w-])"
_AFTER, _DEGREES = re.compile(r"\s*,?\s*" + _DEGREE), re.compile(r"(?:\s*,\s*|(?<=\w)[ ])" + _DEGREE)
_TITLES, _ONE_TITLE = re.compile(_TITLE + "$"), re.compile(_TITLE_WORD)
_SIGNED = re.compile(rf"(?i:{_DONE_BY}|{_LABEL})")
_PARTICLE = r"(?:(?:de|la|van|von|der|den|bin|al|el|del|di|da|dos)[ ]){0,2}"
_INITIAL = r"[A-Z]\."
PERSON = re.compile(
    rf"{_PARTICLE}(?:{_INITIAL}|{CAPITALISED})"
    rf"(?:(?:[ ]|,[ ](?={CAPITALISED})){_PARTICLE}(?:{_INITIAL}|{CAPITALISED})){{0,3}}"
)
"""A run of capitalised words and initials."""
PERSON_PAIR = re.compile(
    rf"(?<!\w)(?P<first>{CAPITALISED})(?=,?[ ](?:[A-Z]\.?[ ])?{_PARTICLE}(?P<second>{CAPITALISED}))"
)
"""Two capitalised words in a row, an initial or particles between them; matches may overlap."""
_REMOVED = re.compile(r"X{2,}$")
_LABELS = frozenset(word_list("labels"))


def by_cue(text: str) -> Iterator[Span]:
    """Names behind the words that announce them."""
    for cue in _CUES.finditer(text):
        if match := PERSON.match(text, cue.end()):
            end = name_end(text, match, cue.group())
            if end > match.start():
                yield Span("NAME", match.start(), end, "cue", 0.9)


def by_credential(text: str) -> Iterator[Span]:
    """Names before a degree: `Angel Price, MD`. Without the comma a word must be nothing but a name."""
    for degree in _DEGREES.finditer(text):
        for run in PERSON.finditer(text, max(degree.start() - 48, 0), degree.start()):
            words = re.findall(r"[^\W\d_]{2,}", run.group())
            certain = any(not common_word(w) for w in words) or (len(words) > 1 and "," in degree.group())
            if run.end() == degree.start() and certain and not run.group().isupper():
                yield Span("NAME", run.start(), run.end(), "cue", 0.9)


def after_cue(text: str, start: int) -> bool:
    """Whether the words before `start` announce a person."""
    return bool(_BEFORE.search(text[max(start - 48, 0) : start]))


def before_credential(text: str, end: int) -> bool:
    """Whether an academic or professional degree follows."""
    return bool(_AFTER.match(text[end : end + 12]))


def name_end(text: str, match: re.Match[str], cue: str) -> int:
    """Where a run of capitalised words (`PERSON`) stops being a name: before a label, a removed word (XXXX), or, after
    a weak cue, a common word behind one that can only be a name. The run's start when nothing in it can be a name.

    `cue` are the words before: a title makes anything a name, a label or signature any two words, all else needs a
    word that is nothing but a name.
    """
    titled, labelled = bool(_TITLES.search(cue)), bool(_SIGNED.match(cue))
    end, count, certain = match.start(), 0, False
    for word in re.finditer(r"[^\s,]+", match.group()):
        plain = word.group().strip(".,:;")
        stop = match.start() + word.end()
        if _REMOVED.match(plain) or plain.upper() in _LABELS or text[stop : stop + 1] == ":":
            break
        if count and not certain and _ONE_TITLE.fullmatch(plain):
            break  # por la Dra. Ibáñez: the title is a cue of its own
        initial = len(plain) == 1
        common = not initial and common_word(plain)
        if certain and common and not (titled or labelled or before_credential(text, stop)):
            break
        certain = certain or not (common or initial)
        end, count = stop, count + 1
    enough = certain or (titled and count) or (labelled and count > 1) or before_credential(text, end)
    return end if enough else match.start()


def common_word(word: str) -> bool:
    """Whether a word as written, or a part of it, is a word of the language."""
    return any(ordinary(w) for w in re.findall(r"[^\W\d_]+", fold(word)))
