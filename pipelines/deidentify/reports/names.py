"""Names of known persons in a text: in every order and case, with initials, misspelt; and which of their words are
ordinary. The text is read as words, so that no pattern has to be compiled for each patient."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from pipelines.deidentify.reports.cues import after_cue, before_credential
from pipelines.deidentify.reports.folding import fold, variants
from pipelines.deidentify.reports.spans import Span
from pipelines.deidentify.reports.words import in_vocabulary, ordinary
from pipelines.deidentify.vocabulary import clinical_words

PARTICLES = frozenset("al bin da das de del della der des di dos du el la le lo san st ten ter van von y zu".split())  # noqa: SIM905
_GAP = re.compile(r"[\s,.;_/^-]{1,3}")
_SPACE = re.compile(r"\s")
_INSIDE = re.compile(r"[\s'’`-]{1,2}")
_TOKEN = re.compile(r"[^\W\d_]+")
SHORTEST_MISSPELT, SHORTEST_SWAPPED = 6, 4


@dataclass(frozen=True)
class _Word:
    """A word of a name. `ordinary`: it is a word of the language too, so that context must decide; `clinical`: one
    that reports write with a capital as well."""

    spellings: frozenset[str]
    ordinary: bool
    clinical: bool

    @cached_property
    def runs(self) -> set[tuple[str, ...]]:
        """The spellings as runs of letters, as texts are read."""
        return {tuple(_TOKEN.findall(s)) for s in self.spellings}


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


def find_names(text: str, names: Iterable[str]) -> tuple[list[Span], list[Span]]:
    """Where the persons `names` (PN strings) are named in `text` (NFC), and ordinary words left that may be names.

    A full name counts in any order, with initials, in any case; one of ordinary words only when capitalised. A single
    part counts as a whole word; an ordinary one beside a cue only. Those left start with a capital. A long name also
    counts with one letter wrong, missing, too many, or two swapped; where a sentence begins, such a word is doubtful.
    """
    known = {person for pn in names for person in persons(pn)}
    reading = _Reading(text, {w for p in known for w in (*p.family, *p.given)})
    spans: list[Span] = []
    for person in known:
        strong = any(not w.ordinary for w in (*person.family, *person.given))
        for start, end in reading.full_names(person):
            if strong or _capitalised(text, start, end):
                spans.append(Span("NAME", start, end, "known"))
    doubtful: set[Span] = set()
    for place in reading.places():
        start, end = reading.tokens[place.first].start, reading.tokens[place.last].end
        if any(s.start <= start and end <= s.end for s in spans):
            continue
        opening = not place.exact and _opens_sentence(text, start) and not after_cue(text, start)
        if not opening and _is_person(text, start, end, place.word):
            spans.append(Span("NAME", start, end, "known" if place.exact else "misspelt", 1.0 if place.exact else 0.8))
        elif (opening or place.word.ordinary) and text[start].isupper():
            doubtful.add(Span("NAME", start, end, "known", 0.3))
    left = [d for d in doubtful if not any(s.start <= d.start and d.end <= s.end for s in spans)]
    return spans, sorted(left, key=lambda s: s.start)


def near(word: str, name: str) -> bool:
    """Whether a word is a name with one letter wrong, missing or too many, or two neighbours swapped. The first letter
    must be right; short names allow the swap only, because too many words are one letter apart."""
    if word[0] != name[0] or abs(len(word) - len(name)) > 1 or len(name) < SHORTEST_SWAPPED:
        return False
    at = next((i for i, (a, b) in enumerate(zip(word, name, strict=False)) if a != b), min(len(word), len(name)))
    if word[at : at + 2] == name[at : at + 2][::-1] and word[at + 2 :] == name[at + 2 :] and word != name:
        return True
    if len(name) < SHORTEST_MISSPELT:
        return False
    return word[at + (len(word) >= len(name)) :] == name[at + (len(name) >= len(word)) :]


@dataclass(frozen=True)
class _Token:
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class _Place:
    """A name's word in a text, from token `first` to token `last`."""

    word: _Word
    first: int
    last: int
    exact: bool


@dataclass
class _Reading:
    """A text as words, with the places of the words of names in it."""

    text: str
    words: set[_Word]
    tokens: list[_Token] = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = [_Token(m.group(), m.start(), m.end()) for m in _TOKEN.finditer(fold(self.text))]
        self._from: dict[int, list[_Place]] = {}
        self._to: dict[int, list[_Place]] = {}
        runs: dict[str, list[tuple[tuple[str, ...], _Word]]] = {}
        for word in self.words:
            for run in word.runs:
                if run:
                    runs.setdefault(run[0], []).append((run, word))
        long = [(run[0], w) for s in runs.values() for run, w in s if len(run) == 1 and not w.ordinary]
        for i, token in enumerate(self.tokens):
            for run, word in runs.get(token.text, ()):
                last = i + len(run) - 1
                same = [t.text for t in self.tokens[i : last + 1]] == list(run)
                if same and all(self._between(k, k + 1, _INSIDE) for k in range(i, last)):
                    self._add(_Place(word, i, last, True))
            if token.text not in runs and len(token.text) >= SHORTEST_SWAPPED and self.text[token.start].isupper():
                self._misspelt(i, token.text, long)

    def _misspelt(self, i: int, text: str, long: list[tuple[str, _Word]]) -> None:
        for name, word in long:
            if name[0] == text[0] and near(text, name) and not in_vocabulary(text):
                self._add(_Place(word, i, i, False))

    def _add(self, place: _Place) -> None:
        self._from.setdefault(place.first, []).append(place)
        self._to.setdefault(place.last, []).append(place)

    def places(self) -> Iterator[_Place]:
        for found in self._from.values():
            yield from found

    def full_names(self, person: Person) -> Iterator[tuple[int, int]]:
        """Offsets of both names together, either first, or of a family name with initials."""
        if not (person.family and person.given):
            return
        initials = {s[0] for w in person.given for s in w.spellings}
        for first, last in self._families(person):
            if (start := self._given_before(first, person, initials)) is not None:
                yield start, self.tokens[last].end
            if (end := self._given_after(last, person, initials)) is not None:
                yield self.tokens[first].start, end

    def _families(self, person: Person) -> Iterator[tuple[int, int]]:
        """First and last token of all words of the family name in a row."""
        for places in list(self._from.values()):
            for place in places:
                if place.word != person.family[0]:
                    continue
                last: int | None = place.last
                for word in person.family[1:]:
                    last = self._next(last, word)
                if last is not None:
                    yield place.first, last

    def _next(self, last: int | None, word: _Word) -> int | None:
        if last is None or not self._between(last, last + 1, _INSIDE):
            return None
        return next((p.last for p in self._from.get(last + 1, ()) if p.word == word), None)

    def _given_before(self, first: int, person: Person, initials: set[str]) -> int | None:
        for _ in range(2):
            if first and self.tokens[first - 1].text in PARTICLES and self._between(first - 1, first, _GAP):
                first -= 1
        at = first - 1
        if at < 0 or not self._between(at, first, _GAP):
            return None
        one = len(self.tokens[at].text) == 1
        if one and at and self._between(at - 1, at, _GAP) and self._given(self._to.get(at - 1), person):
            at -= 1  # Ingrid M. Kowalczyk
        if place := self._given(self._to.get(at), person):
            while place.first and self._between(place.first - 1, place.first, _GAP):
                if not (other := self._given(self._to.get(place.first - 1), person)):
                    break
                place = other
            return self.tokens[place.first].start
        if not one or not self._dotted(at):
            return None
        if at and self.tokens[at - 1].text in initials and self._dotted(at - 1) and self._between(at - 1, at, _GAP):
            at -= 1
        return self.tokens[at].start if self.tokens[at].text in initials else None

    def _given_after(self, last: int, person: Person, initials: set[str]) -> int | None:
        at = last + 1
        if at >= len(self.tokens) or not self._between(last, at, _GAP):
            return None
        if place := self._given(self._from.get(at), person):
            end = place.last
            while end + 1 < len(self.tokens) and self._between(end, end + 1, _GAP):
                if not (other := self._given(self._from.get(end + 1), person)):
                    break
                end = other.last
            following = self.tokens[end + 1 : end + 2]
            if following and len(following[0].text) == 1 and self._between(end, end + 1, _SPACE):
                return following[0].end + self._dotted(end + 1)
            return self.tokens[end].end
        comma = re.fullmatch(r",\s?", self.text[self.tokens[last].end : self.tokens[at].start])
        if comma and self.tokens[at].text in initials:
            return self.tokens[at].end + self._dotted(at)
        return None

    @staticmethod
    def _given(places: list[_Place] | None, person: Person) -> _Place | None:
        return next((p for p in places or () if p.word in person.given), None)

    def _dotted(self, at: int) -> bool:
        end = self.tokens[at].end
        return self.text[end : end + 1] == "."

    def _between(self, left: int, right: int, gap: re.Pattern[str]) -> bool:
        if right >= len(self.tokens):
            return False
        return bool(gap.fullmatch(self.text, self.tokens[left].end, self.tokens[right].start))


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


def _opens_sentence(text: str, start: int) -> bool:
    return text[start : start + 2].istitle() and bool(
        re.search(r"(?:^|[.:;!?\n])\s*$", text[max(start - 4, 0) : start])
    )


def _inside_sentence(text: str, start: int) -> bool:
    before = text[max(start - 2, 0) : start]
    return bool(re.fullmatch(r"[\w,][ ]", before))


def _words(component: str) -> tuple[_Word, ...]:
    words = []
    for raw in re.findall(r"[^\W\d_]+(?:['’`][^\W\d_]+)*", component):
        if fold(raw) in PARTICLES:
            continue
        spelt = variants(raw)
        spelt |= {s.replace("'", "") for s in spelt} | {s.replace("'", " ") for s in spelt if "'" in s}
        if len(raw) >= 2:
            clinical = any(s in clinical_words() for s in spelt)
            words.append(_Word(frozenset(spelt), any(ordinary(s) for s in spelt), clinical))
    return tuple(words)


def _capitalised(text: str, start: int, end: int) -> bool:
    words = re.findall(r"[^\W\d_]+", text[start:end])
    return all(w[0].isupper() or fold(w) in PARTICLES for w in words)
