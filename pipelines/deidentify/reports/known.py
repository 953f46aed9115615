"""Layer one: the values that the paired header names, found in the report in every spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reports.dates import spellings
from pipelines.deidentify.reports.folding import fold
from pipelines.deidentify.reports.names import find_names, persons
from pipelines.deidentify.reports.spans import Span
from pipelines.deidentify.reports.words import ordinary, word_list

_START, _END = r"(?<![^\W_])", r"(?![^\W_])"
SHORTEST_ID = 5
# Words of an institution's name that other institutions and ordinary sentences share.
_SHARED = frozenset(word_list("institution_words"))
_BETWEEN = r"[\s,.#-]{1,3}"
_ID_GAP, _PHONE_GAP = re.compile(r"[\s._/-]?"), re.compile(r"[\s().\-/]{0,3}")
_COUNTRY = re.compile(r"(?:\+\d{1,3}[\s().\-/]{0,3})?\($|\+\d{1,3}[\s().\-/]{0,3}$")
_STREET = {"street": "st", "avenue": "ave", "road": "rd", "lane": "ln", "drive": "dr", "boulevard": "blvd",
           "court": "ct", "place": "pl", "apartment": "apt", "suite": "ste", "square": "sq",
           "terrace": "ter"}  # fmt: skip


def find_known(text: str, who: Identities) -> tuple[list[Span], list[Span]]:
    """Spans of the header's values in `text` (NFC), and ordinary words left that are also names of its persons."""
    names, doubtful = find_names(text, who.names)
    return [*names, *_values(fold(text), who)], doubtful


def residue(text: str, who: Identities) -> bool:
    """Whether a strong value of the source is readable in `text`: an identifier, a phone number, an address, an
    institution, a full name in any order, one of its dates in any usual spelling, a UID (DESIGN, section 11)."""
    folded = fold(text)
    tokens = " ".join(re.findall(r"[^\W_]+", folded))
    joined = re.sub(r"(?<=\d)[ .\-/()]+(?=\d)", "", folded)
    return (
        bool(_values(folded, who))
        or any(_stands_in(_plain(v), tokens) for v in _full_names(who.names))
        or any(d in joined for v in who.phones if len(d := re.sub(r"\D", "", v)) >= 7)
        or any(_date_in(d, folded) for d in who.dates)
        or any(uid in text for uid in who.uids if len(uid) > 8)
    )


def _values(folded: str, who: Identities) -> list[Span]:
    """Identifiers, phone numbers, addresses and institutions of the header in a folded text."""
    tokens = set(re.findall(r"[^\W_]+", folded))
    spans = []
    for kind, values, make in (("ADDRESS", who.addresses, _address), ("HOSPITAL", who.institutions, _institution)):
        for value in sorted(values):
            # Few values are in a text at all, and compiling a pattern costs most.
            if not tokens.isdisjoint(_own_words(value)) and (pattern := make(value)) is not None:
                spans += [Span(kind, *m.span(), "known") for m in pattern.finditer(folded)]
    letters, digits = _Squeezed.of(r"[^\W_]", folded), _Squeezed.of(r"\d", folded)
    for phone in sorted(who.phones):
        spans += [Span("PHONE", start, end, "known") for start, end in _phone(re.sub(r"\D", "", phone), digits)]
    for value in sorted(who.ids | who.uids):
        if identifier := _identifier(value):
            spans += [Span("ID", start, end, "known") for start, end in _places_of(identifier, letters)]
    return spans


# ---- numbers, whatever stands between their characters -----------------------------------------------------------


@dataclass(frozen=True)
class _Squeezed:
    """The characters of one kind in a text, without the others, and where each stands."""

    text: str
    kind: str
    characters: str

    @classmethod
    def of(cls, kind: str, text: str) -> _Squeezed:
        return cls(text, kind, "".join(re.findall(kind + "+", text)))

    @cached_property
    def at(self) -> list[int]:
        return [m.start() for m in re.finditer(self.kind, self.text)]

    def find(self, value: str, gap: re.Pattern[str]) -> Iterator[tuple[int, int]]:
        """First and last index of `value` in `characters` where only `gap` stands between its characters."""
        found = self.characters.find(value)
        while found >= 0:
            last = found + len(value) - 1
            if all(self.joined(i, gap) for i in range(found, last)):
                yield found, last
            found = self.characters.find(value, found + 1)

    def joined(self, i: int, gap: re.Pattern[str]) -> bool:
        """Whether characters i and i + 1 belong to one number."""
        return bool(gap.fullmatch(self.text, self.at[i] + 1, self.at[i + 1]))


@lru_cache(maxsize=8192)
def _identifier(value: str) -> str:
    """The letters and digits of an identifier; empty for one that is too short or a word of the language."""
    characters = "".join(re.findall(r"[^\W_]", fold(value)))
    if len(characters) < SHORTEST_ID:
        return ""
    if not any(c.isdigit() for c in characters):
        words = re.findall(r"[^\W_]+", fold(value))
        if all(ordinary(w) for w in words) or len(characters) < SHORTEST_ID + 1:
            return ""
    return characters


def _places_of(identifier: str, letters: _Squeezed) -> Iterator[tuple[int, int]]:
    """Offsets of an identifier that is a token by itself, with or without separators and leading zeros."""
    if identifier not in letters.characters:
        return
    at, text = letters.at, letters.text
    for first, last in letters.find(identifier, _ID_GAP):
        while first and letters.characters[first - 1] == "0" and at[first - 1] == at[first] - 1:
            first -= 1
        alone = (
            not text[max(at[first] - 1, 0) : at[first]].isalnum() and not text[at[last] + 1 : at[last] + 2].isalnum()
        )
        if alone:
            yield at[first], at[last] + 1


def _phone(number: str, digits: _Squeezed) -> Iterator[tuple[int, int]]:
    """Offsets of a phone number, whatever stands between its digits; the last seven suffice."""
    if len(number) < 7 or number[-7:] not in digits.characters:
        return
    at, text, head = digits.at, digits.text, number[:-7]
    for first, last in digits.find(number[-7:], _PHONE_GAP):
        if text[at[last] + 1 : at[last] + 2].isdigit():
            continue
        start = first - len(head)
        whole = head and start >= 0 and digits.characters[start:first] == head
        if whole and all(digits.joined(i, _PHONE_GAP) for i in range(start, first)):
            first = start
        before = _COUNTRY.search(text, max(at[first] - 8, 0), at[first])
        begin = before.start() if before else at[first]
        if not text[max(begin - 1, 0) : begin].isdigit():
            yield begin, at[last] + 1


# ---- values to patterns ------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _own_words(value: str) -> frozenset[str]:
    """The words of an address or institution of which at least one must stand in a text that names it."""
    found: set[str] = set()
    for line in re.split(r"[\^,\n\\]+", fold(value)):
        words = set(re.findall(r"[^\W_]+(?:'[^\W_]+)?", line))
        found |= {w for w in words if not w.isdigit() and w not in _STREET and w not in _SHARED} or words
    return frozenset(found)


@lru_cache(maxsize=4096)
def _address(value: str) -> re.Pattern[str] | None:
    """The lines of the address: a street with or without its number, what follows it, and abbreviated or not."""
    forms = []
    for line in re.split(r"[\^,\n\\]+", fold(value)):
        words = re.findall(r"[^\W_]+(?:'[^\W_]+)?", line)
        number = words[:1] if len(words) > 1 and words[0].isdigit() else []
        kind = next((i for i, w in enumerate(words) if i > 1 and w in _STREET), len(words) - 1)
        street, rest = words[len(number) : kind + 1], words[kind + 1 :]
        if not street or (len(street) == 1 and (len(street[0]) < SHORTEST_ID or ordinary(street[0]))):
            continue
        named = any(not ordinary(w) and w not in _STREET for w in street)
        if not (named or number):
            continue
        lead = rf"(?:{number[0]}{_BETWEEN}){'?' if named and len(street) > 1 else ''}" if number else ""
        tail = rf"(?:{_BETWEEN}{_BETWEEN.join(map(_street_word, rest))})?" if rest else ""
        forms.append(lead + _BETWEEN.join(map(_street_word, street)) + tail)
    return re.compile(_START + "(?:" + "|".join(forms) + ")" + _END) if forms else None


def _street_word(word: str) -> str:
    return rf"(?:{word}|{_STREET[word]}\.?)" if word in _STREET else re.escape(word)


@lru_cache(maxsize=4096)
def _institution(value: str) -> re.Pattern[str] | None:
    """The whole name, and each word of it that no other institution shares."""
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)?", fold(value))
    if not words or (len(words) == 1 and (len(words[0]) < SHORTEST_ID or ordinary(words[0]))):
        return None
    own = [w for w in words if len(w) >= SHORTEST_ID and w not in _SHARED and not ordinary(w)]
    forms = [r"[\s.,'-]{1,3}".join(map(re.escape, words))] if len(words) > 1 else []
    forms += [re.escape(w) for w in own]
    return re.compile(_START + "(?:" + "|".join(forms) + ")" + _END) if forms else None


# ---- residue -----------------------------------------------------------------------------------------------------


def _full_names(names: Iterable[str]) -> Iterator[str]:
    """Family and given name together in both orders; names of two ordinary words are the context's affair."""
    for person in {p for pn in names for p in persons(pn)}:
        if not all(w.ordinary for w in (*person.family, *person.given)):
            family = " ".join(min(w.spellings, key=len) for w in person.family)
            for given in person.given:
                for spelling in given.spellings:
                    yield from (f"{family} {spelling}", f"{spelling} {family}")


def _plain(value: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", fold(value)))


def _stands_in(value: str, tokens: str) -> bool:
    return " " in value and f" {value} " in f" {tokens} "


def _date_in(day: date, folded: str) -> bool:
    return any(
        re.search(rf"(?<!\d){re.escape(s)}(?!\d)", folded) for s in map(str.lower, spellings(day)) if s in folded
    )
