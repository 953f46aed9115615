"""General text, such as letters, referrals and notes of any kind: the recognisers of reports, presidio's own that carry
a checksum or a plan of numbers, spaCy's entities of the whole text, and cues for places and organisations.

More goes than from a report: places, organisations, nationalities, card and account numbers. It costs clinical words,
so that a policy asks for it (`reports.general`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from pipelines.deidentify.reports.cues import by_credential, by_cue
from pipelines.deidentify.reports.dates import find_dates
from pipelines.deidentify.reports.engines import Entity, SpacyEngine, without
from pipelines.deidentify.reports.folding import fold
from pipelines.deidentify.reports.forms import find_forms
from pipelines.deidentify.reports.house import House, find_house
from pipelines.deidentify.reports.spans import Span, merge
from pipelines.deidentify.reports.words import word_list

with without("torch", "transformers", "tensorflow", "mxnet"):
    from presidio_analyzer import EntityRecognizer
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        IbanRecognizer,
        IpRecognizer,
        PhoneRecognizer,
        UsSsnRecognizer,
    )

_CAP = r"[^\W\d_a-zß-öø-ÿ][\w'’-]*"
_RUN = rf"{_CAP}(?:[ ](?:(?:of|de|da|do|del|la|le|van|von|der|nad|the|and|&)[ ]){{0,2}}{_CAP}){{0,4}}"
_NAME = rf"{_CAP}(?:[ ](?:{_CAP}\.?|de|da|van|von|der)){{0,3}}"
_UNIT = r"(?:(?:Apt|Suite|Ste|Unit|Apartment|Flat|Floor)\b\.?[ ]?#?\d{1,5}[A-Za-z]?)"
_MORE = (
    rf"(?:{_UNIT}|(?:{_CAP}|\([^)\n]+\))(?:[ -](?:{_CAP}|\([^)\n]+\)|d[aeo]l?|la|sur|am|an|der|nad|\d{{4,6}}))*|"
    r"[A-Z]{2}|nan|\d{4,6})"
)
_TAIL = rf"(?:[ ]{_UNIT})*(?:\s*,?[ \n]\s*(?!\w+:){_MORE}){{0,5}}"
"""The unit, and lines or parts of capitalised words and numbers behind a street."""
_STREET_WORDS = (
    r"(?:St(?:r(?:eet|asse|aße)?)?|Ave(?:nue)?|Road|Rd|Lane|Ln|Drive|Dr|Blvd|Boulevard|Way|Court|Ct|Place|Pl|Terrace|"
    r"Parkway|Close|Crescent|Square|Sq|Highway|Hwy|Circle|Row|Loop|Rise|Grove|Parade|Esplanade)\b\.?"
)
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("EMAIL", r"[\w.+'-]+@[\w-]+(?:\.[\w-]+)+"),
    ("URL", r"(?i)\b(?:https?://|www\.)[^\s<>\",|]*[\w/]|(?<![@\w.-])(?:[\w-]+\.)+(?:com|org|net|info|biz|"
         r"edu|gov|io)\b(?:/[^\s,]*)?"),
    ("CARD", r"(?i:\b(?:card|cc|visa|mastercard|amex)\b(?:[ ](?:number|no|is|"
         r"#))*[ :#.]{1,4})(?P<value>\d(?:[ -]?\d){11,18})(?!\d)"),
    ("ACCOUNT", r"(?i:\biban\b[ :#is]{0,6})(?P<value>[A-Za-z]{2}\d{2}(?:[ ]?[A-Za-z0-9]){10,30})\b"),
    ("SSN", r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"),
    ("LICENSE", r"(?i:\b(?:driver'?s?|driving)\s+licen[cs]e(?:\s+(?:number|no|is|"
         r"#))*\s*:?\s*)(?P<value>[A-Za-z]{0,2}\d[\w-]{4,17})"),
    ("DATE", r"\b(?:1[89]|20)\d\d-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?\b"),
    ("DATE", r"(?i:\b(?:in|since|during|until|from|of|by|the year|a|early|late|mid)\s+)(?P<value>(?:1[89]|"
         r"20)\d\ds?)(?![\w-]|\.\d)"),
    ("DATE", r"\b(?:(?:next|last)\s+)?(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b(?!\s+before)"),
    ("PHONE", r"(?i:\b(?:phone|tel|telephone|fax|mobile|cell|desk|office|messages\s+to|"
         r"call(?:\s+me)?(?:\s+at|\s+on)?|number(?:\s+is)?|answering\s+at)\b[\s:.#]*)"
              r"(?P<value>\+?\(?\d(?:[ ().\-/]{0,2}\d){5,14}(?:[ ]?x\d{1,6})?)(?!\d)"),
    ("PHONE", r"(?<![\w.-])\+\d{1,3}(?:[ .\-/()]{0,3}\d){6,13}(?:[ ]?x\d{1,6})?(?!\d)"),
    ("PHONE", r"(?<![\w.-])(?:\(\d{2,4}\)[ ]?)?\d{2,4}(?:[ .-]\d{2,4}){2,4}(?:[ ]?x\d{1,6})?(?![\w-]|\.\d)"),
    ("PHONE", r"(?<![\w.-])\d{7,11}(?=[ ](?:office|fax|mobile|home|work)\b)"),
    ("AGE", r"(?i)\b(?P<value>\d{1,3})(?=[\s-]*(?:years?|yrs?)[\s-]+old\b|[\s-]*y\.?/?o\b)"),
    ("AGE", r"(?i)\b(?:turn(?:s|ed|ing)?|aged?|age\s+of|age:|i'?m)\s+(?P<value>\d{1,3})(?!\s*(?:%|st|nd|rd|"
         r"th|km|kg|cm|mm|minutes|hours|days|weeks|months))(?![\d/-]|\.\d)"),
    ("ZIP", r"(?i:\bzip(?:\s*code)?\s*(?:is)?[ :#]*)(?P<value>\d{2,5}(?:-\d{3,4})?)"),
    ("ADDRESS", rf"(?<![\w.,/-])\d{{1,6}}[ ](?:P\.?O\.?[ ]Box[ ]\d+|"
         rf"(?:\d{{1,5}}[ ])?(?:(?:[^\W\d_][\w.'’-]*)[ ]){{1,5}}\d{{1,5}}[a-z]?|"
         rf"(?:{_CAP}[ ]){{1,4}}{_STREET_WORDS})\b"
                rf"{_TAIL}"),
    ("ADDRESS", rf"(?<![\w.])\d{{1,5}}[ ](?:\d{{1,5}}[ ])?(?:{_CAP}[ ]){{1,4}}{_STREET_WORDS}{_TAIL}"),
    ("ADDRESS", rf"(?:ul\.[ ])?\b(?:{_CAP}[ ](?:(?:do|da|de|u|am|an|"
         rf"der)\.?[ ])?){{1,4}}(?:u\.[ ])?\d{{1,5}}\b[a-z]?\.?(?:[ ]{_UNIT})*(?:\s*,[ \n]?\s*(?!\w+:){_MORE}){{0,4}}"),
    ("ADDRESS", r"(?i)\b(?:p\.?\s?o\.?\s+box\s+\d+|psc\s+\d+,\s+box\s+\d+|(?:usnv|usns|uss|"
         r"uscgc)\s+\w+)(?:\s*\n?\s*(?:[AFD]PO)\s+A[AEP]\s+\d{5})?"),
    ("ADDRESS", rf"(?:{_CAP}[ ]){{0,3}}{_CAP},[ ][A-Z]{{2}}[ ]\d{{5}}\b"),
    ("ADDRESS", rf"^[ >?]*{_UNIT}"),
    ("ADDRESS", rf"(?<=\n)[ >?]*\d{{3,6}}[ ](?={_CAP}[ ])"),
    ("TITLE", r"\b(?:Mr|Mrs|Ms|Dr|Prof|Rev|Sr)\.(?=[ ]\w)|\b(?:Miss|Mister|Professor|Doctor)(?=[ ][A-Z])|"
         r"(?i:\b(?:mr|mrs|ms|dr)\.)(?=[ ]\w)"),
    ("TITLE", r"(?<=, the )(?P<value>[A-Z][a-z]+(?:[ ][\w-]+){0,3})(?=, said)"),
    ("ORGANIZATION", rf"\b{_CAP}(?:[ ,&]+(?:and[ ]|of[ ])?{_CAP}){{0,4}}[ ,]+(?:Inc|LLC|Ltd|Corp|"
         rf"Corporation|Co|PLC|GmbH|AG|SA|Group|Company|Solutions|"
                     r"Technologies|Systems|Partners|Associates|Holdings|Insurance|Software|Labs|Services|"
                     r"Agency|Foundation|Bank)\b\.?"),
    ("ORGANIZATION", rf"\b{_CAP},[ ]{_CAP}[ ]and[ ]{_CAP}(?=[ ](?:is|are|in|which|has|have)\b|['’]s|[.\n]|$)"),
    ("ORGANIZATION", rf"(?i:\b(?:work(?:s|ed|ing)?\s+(?:for|at)|employed\s+(?:by|at)|the\s+address\s+of|"
         rf"ceo\s+of|year\s+at|shares\s+of)\s+(?:the\s+)?)(?P<value>{_RUN})"),
    ("ORGANIZATION", rf"(?m:^)(?P<value>{_RUN})(?=[ ]is[ ]an?[ ](?:\w+[ ]){0,3}(?:company|agency|bank|firm|"
         rf"business|charity|practice|insurer)\b)|(?i:\bthe[ ])(?P<org>{_RUN})(?=[ ](?:office|company|"
         rf"clinic|agency|building|school)s?\b)"),
    ("PLACE", rf"(?i:\b(?:moved\s+(?:here\s+)?from|(?:originally|comes?)\s+from|liv(?:e|es|ed|ing)\s+in|"
         rf"born\s+in|gr[eo]w(?:ing)?\s+up\s+in|"
              rf"travel+ing\s+to|flew\s+to|trip\s+(?:to|in)|coming\s+to|visit(?:ed|ing)?|arrived\s+(?:at|"
              rf"in)|home\s+city|i'?m\s+in|based\s+in|returned\s+to|University\s+of|"
              rf"Where:)\s+(?:the\s+)?)(?P<value>{_RUN})"),
    ("NAME", rf"(?i:\b(?:(?:my|his|her|maiden|partner's|your|whose|the)\s+name(?:\s+is|\?)|names?:|"
         rf"name\s+on\s+the\s+account\?\s+user:|call(?:s|ed)?\s+(?:me|him|her)|named\s+(?:him|her)|(?:was|"
         rf"is)\s+called|"
             rf"(?:directed|written|signed|sent)\s+by:?|contacting|i\s+am|i'?m|hi|hello,?|says|said|"
             rf"change\s+it\s+to|maiden\s+name\s+is)\s+)(?P<value>{_NAME})"),
    ("NAME", rf"(?m:^)[>? ]*(?P<value>{_NAME})(?=\n|:|['’]s[ ]|,[ ](?:can|the|please)\b|[ ](?:is|was|has|"
         rf"had|lives|said|will)\b)"),
    ("NAME", rf"(?i:\b(?:not|by|from|to|and|with|of)[ ])(?P<value>{_NAME})(?=['’]s\b|\))"),
)  # fmt: skip
_COMPILED = [(kind, re.compile(pattern)) for kind, pattern in _PATTERNS]
_OF_LABEL = {"PERSON": "NAME", "GPE": "PLACE", "LOC": "PLACE", "FAC": "PLACE", "ORG": "ORGANIZATION", "NORP": "GROUP"}
# Kinds in the order in which they decide: what has a checksum or a fixed form before what is only a word.
_ORDER = ("EMAIL", "URL", "ACCOUNT", "IP", "SSN", "CARD", "LICENSE", "DATE", "PHONE", "ADDRESS", "ZIP", "ID", "TITLE",
          "AGE", "HOSPITAL")  # fmt: skip
_SOURCES = ("country", "general", "cue", "spacy")
"""Then what is only words: by layer, because a cue is surer than the model."""
_KIND = {"CREDIT_CARD": "CARD", "IBAN_CODE": "ACCOUNT", "IP_ADDRESS": "IP", "US_SSN": "SSN", "PHONE_NUMBER": "PHONE"}
BELIEVED = 0.4


class GeneralAnalyzer:
    """Spans of general English text. One per process: the language model loads with it."""

    def __init__(self, house: House | None = None) -> None:
        logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
        self.engine, self._house = SpacyEngine(everything=True), house or House()
        self._presidio: list[EntityRecognizer] = [
            CreditCardRecognizer(), IbanRecognizer(), IpRecognizer(), UsSsnRecognizer(), PhoneRecognizer()
        ]  # fmt: skip

    def spans(
        self,
        texts: Sequence[str],
        settled: Sequence[Sequence[tuple[int, int]]] = (),
        modelled: Sequence[bool] = (),
    ) -> list[list[Span]]:
        """Spans of each text, without overlaps, in order; `modelled` as in recognisers.Recognition."""
        asked = [i for i in range(len(texts)) if not modelled or modelled[i]]
        answers = self.engine.entities([texts[i] for i in asked], [()] * len(asked))
        entities = dict(zip(asked, answers, strict=True))
        return [self._one(text, entities.get(i, [])) for i, text in enumerate(texts)]

    def _one(self, text: str, entities: list[Entity]) -> list[Span]:
        found = [*self._found(text, entities)]
        fixed = [[s for s in found if s.kind == kind] for kind in _ORDER]
        words = [s for s in found if s.kind not in _ORDER]
        return merge([*fixed, *([s for s in words if s.recogniser == source] for source in _SOURCES)], text)

    def _found(self, text: str, entities: list[Entity]) -> Iterator[Span]:
        yield from find_house(text, self._house)
        yield from _by_pattern(text)
        yield from (s for s in find_forms(text) if s.kind not in ("AGE", "ID"))
        yield from by_cue(text)
        yield from by_credential(text)
        yield from (Span("DATE", d.start, d.end, "dates", 0.95) for d in find_dates(text))
        yield from self._by_presidio(text)
        yield from _by_model(text, entities)

    def _by_presidio(self, text: str) -> Iterator[Span]:
        for recogniser in self._presidio:
            for result in recogniser.analyze(text, recogniser.supported_entities, None):
                kind = _KIND.get(result.entity_type)
                if kind and result.score >= BELIEVED:
                    yield Span(kind, result.start, result.end, "presidio", result.score)


def _by_pattern(text: str) -> Iterator[Span]:
    for kind, pattern in _COMPILED:
        for match in pattern.finditer(text):
            group = next((g for g in pattern.groupindex if match[g]), 0)
            start, end = match.span(group)
            if kind in ("NAME", "PLACE", "ORGANIZATION") and not _can_name(text[start:end]):
                continue
            yield Span(kind, start, end, "general", 0.7)
    for match in re.finditer(r"[^\W\d_]+(?:[ ][^\W\d_]+)?", text):
        for word in (match.group(), match.group().split(" ")[0]):
            if fold(word) in _groups():
                yield Span("GROUP", match.start(), match.start() + len(word), "general", 0.7)
    for match in _countries().finditer(text):
        yield Span("PLACE", match.start(), match.end(), "country", 0.8)


def _by_model(text: str, entities: Iterable[Entity]) -> Iterator[Span]:
    for entity in entities:
        kind, value = _OF_LABEL.get(entity.label), text[entity.start : entity.end]
        if kind and (kind == "GROUP" or _can_name(value)) and "\n" not in value.strip():
            lead = re.match(r"(?:the|The|a|an)[ ]+|\W+", value)
            end = entity.end - 2 if re.search(r"['’]s$", value) else entity.end
            yield Span(kind, entity.start + (lead.end() if lead else 0), end, "spacy", 0.6)


def _can_name(value: str) -> bool:
    """Whether a run of words is more than the beginning of a sentence."""
    words = re.findall(r"[^\W\d_]{2,}", value)
    return any(fold(w) not in _starters() for w in words)


@cache
def _starters() -> frozenset[str]:
    return frozenset(word_list("sentence_words"))


@cache
def _groups() -> frozenset[str]:
    return frozenset(w.replace("_", " ") for w in word_list("groups"))


@cache
def _countries() -> re.Pattern[str]:
    from phonenumbers.geodata.locale import LOCALE_DATA

    found = set()
    for names in LOCALE_DATA.values():
        english = names.get("en", "")
        # `*aa`: the same as in language aa.
        found.add(names.get(english[1:], "") if english.startswith("*") else english)
    return re.compile(
        r"(?<!\w)(?:" + "|".join(sorted(map(re.escape, found - {""}), key=len, reverse=True)) + r")(?!\w)"
    )
