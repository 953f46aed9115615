"""What one sentence of a report says. Radiology repeats its sentences, so each is read once and remembered."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import spacy
from negspacy.negation import Negex  # noqa: F401 - registers the component "negex"
from spacy.language import Language
from spacy.matcher import Matcher
from spacy.tokens import Doc, Span
from spacy.util import filter_spans

from pipelines.label.phrases import ANY_LINE, CUE_KEYS, CUES, Phrases, token_pattern
from pipelines.label.values import ABSENT, POSITIONS, PRESENT, UNCERTAIN

BATCH = 256
REMEMBERED = 200_000
MENTIONS = "mentions"
_JOINED = re.compile(r"(?<=\w)[-/](?=\w)")
_ABBREVIATED = re.compile(r"\b(vs|dr|approx|st)\.", re.I)
# A sentence ends at its mark, at a line's end, before the number of a list, and where a space was forgotten.
_END = re.compile(r"(?<=[.!?;])\s+|\s*\n\s*|(?<=[a-z])\.(?=[A-Z])|(?:^|(?<=\s))\(?\d{1,2}[.)]\s+")
_REFERS = re.compile(
    r"(?:the |its |this |it |which |distal |proximal |side )*(?:tip|tips|it|this|port|end|catheter|tube|line)\b", re.I
)
_TERMS = ("preceding_negations", "following_negations", "pseudo_negations", "termination")


@dataclass(frozen=True)
class Said:
    """What a sentence says."""

    values: tuple[tuple[str, int], ...] = ()
    """(finding or line, 1 present, 0 absent, -1 uncertain), in the order of the sentence."""
    positions: tuple[tuple[str, str], ...] = ()
    """(line, position) of lines of this sentence."""
    loose: tuple[tuple[str, str], ...] = ()
    """(line or ANY_LINE, position) said before any line is named; of the sentence before when `refers`."""
    refers: bool = False
    """Begins by speaking of a tip or of what went before."""


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, with hyphens and slashes inside words taken as spaces, as the phrases are written."""
    text = _JOINED.sub(" ", _ABBREVIATED.sub(r"\1", text))
    return [" ".join(part.split()) for part in _END.split(text) if any(c.isalnum() for c in part)]


class SentenceReader:
    """Reads sentences by phrases. Holds a spaCy pipeline without any model; one for each process."""

    def __init__(self, phrases: Phrases) -> None:
        self.lines = frozenset(phrases.lines)
        self.nlp = _pipeline(phrases)
        self.matcher = Matcher(self.nlp.vocab)
        for name, lists in (*phrases.findings.items(), *phrases.lines.items()):
            for kind, given in lists.items():
                if given:
                    self.matcher.add(f"{kind} {name}", [token_pattern(p) for p in given])
        self._known: dict[str, Said] = {}

    def read(self, sentences: Iterable[str]) -> dict[str, Said]:
        """What each of the sentences says."""
        wanted = dict.fromkeys(sentences)
        if len(self._known) > REMEMBERED:
            self._known.clear()
        new = [s for s in wanted if s not in self._known]
        docs = (self._mark(self.nlp.make_doc(s)) for s in new)
        for sentence, doc in zip(new, self.nlp.pipe(docs, batch_size=BATCH), strict=True):
            self._known[sentence] = self._said(doc)
        return {s: self._known[s] for s in wanted}

    def _mark(self, doc: Doc) -> Doc:
        """Put the mentions into the doc: of those of one name that overlap the longest."""
        found: dict[str, list[Span]] = {}
        for key, start, end in self.matcher(doc):
            span = Span(doc, start, end, label=key)
            place = "position" if _kind(span) in POSITIONS else ""
            found.setdefault(_name(span) + place, []).append(span)
        doc.spans[MENTIONS] = [span for same in found.values() for span in filter_spans(same)]
        return doc

    def _said(self, doc: Doc) -> Said:
        values, positions, loose = [], [], []
        spans = sorted(doc.spans[MENTIONS], key=lambda s: (s.start, s.end))
        named = [s for s in spans if _name(s) in self.lines and _kind(s) == "present"]
        for span in spans:
            if _kind(span) in POSITIONS:
                position = _position(span)
                line = _line_of(span, named)
                if position and line is None:
                    loose.append((_name(span), position))
                elif position and line is not None and _name(span) in (line, ANY_LINE):
                    positions.append((line, position))
            elif (value := _value(span)) is not None:
                values.append((_name(span), value))
        refers = bool(_REFERS.match(doc.text))
        return Said(tuple(values), tuple(positions), tuple(loose), refers)


def _pipeline(phrases: Phrases) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer", config={"punct_chars": ["\n"]})  # the texts are sentences already
    for cue in CUES:
        termset = {theirs: phrases.cues[cue].get(ours, []) for theirs, ours in zip(_TERMS, CUE_KEYS, strict=True)}
        config = {"neg_termset": termset, "extension_name": cue, "span_keys": [MENTIONS]}
        nlp.add_pipe("negex", name=cue, config=config)
    return nlp


def _value(span: Span) -> int | None:
    """What a mention says; None when it is told aside or only looks like one."""
    kind = _kind(span)
    if kind == "absent":
        return ABSENT
    if kind == "decoy" or span._.aside:
        return None
    if span._.negation:
        return ABSENT
    return UNCERTAIN if span._.uncertainty or kind == "uncertain" else PRESENT


def _position(span: Span) -> str | None:
    """The position that a span states; "not in a good position" is an abnormal one."""
    if not span._.negation:
        return _kind(span)
    return "abnormal" if _kind(span) == "normal" else None


def _line_of(span: Span, named: list[Span]) -> str | None:
    """The line whose position a span states: the last one named before its end, else the first of the sentence."""
    before = [line for line in named if line.start < span.end]
    return _name((before or named)[-1 if before else 0]) if named else None


def _kind(span: Span) -> str:
    return span.label_.partition(" ")[0]


def _name(span: Span) -> str:
    return span.label_.partition(" ")[2]
