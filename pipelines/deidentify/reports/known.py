"""Layer one: the values that the paired header names, found in the report in every spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date
from functools import lru_cache

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reports.dates import spellings
from pipelines.deidentify.reports.folding import fold
from pipelines.deidentify.reports.names import find_names, ordinary, persons
from pipelines.deidentify.reports.spans import Span
from pipelines.deidentify.reports.words import word_list

_START, _END = r"(?<![^\W_])", r"(?![^\W_])"
SHORTEST_ID = 5
# Words of an institution's name that other institutions and ordinary sentences share.
_SHARED = frozenset(word_list("institution_words"))
_BETWEEN = r"[\s,.#-]{1,3}"
_STREET = {"street": "st", "avenue": "ave", "road": "rd", "lane": "ln", "drive": "dr", "boulevard": "blvd",
           "court": "ct", "place": "pl", "apartment": "apt", "suite": "ste", "square": "sq",
           "terrace": "ter"}  # fmt: skip


def find_known(text: str, who: Identities) -> tuple[list[Span], int]:
    """Spans of the header's values in `text` (NFC), and how many ordinary words that are also names are left."""
    folded = fold(text)
    names, left = find_names(text, who.names)
    spans = list(names)
    for kind, pattern in _patterns(who, folded):
        spans += [Span(kind, m.start(), m.end()) for m in pattern.finditer(folded)]
    return spans, left


def residue(text: str, who: Identities) -> bool:
    """Whether a strong value of the source is readable in `text`: an identifier, a phone number, an address, an
    institution, a full name in any order, one of its dates in any usual spelling, a UID (DESIGN, section 11)."""
    folded = fold(text)
    tokens = " ".join(re.findall(r"[^\W_]+", folded))
    joined = re.sub(r"(?<=\d)[ .\-/()]+(?=\d)", "", folded)
    return (
        any(p.search(folded) for _, p in _patterns(who, folded))
        or any(_stands_in(_plain(v), tokens) for v in _full_names(who.names))
        or any(d in joined for v in who.phones if len(d := re.sub(r"\D", "", v)) >= 7)
        or any(_date_in(d, folded) for d in who.dates)
        or any(uid in text for uid in who.uids if len(uid) > 8)
    )


# ---- values to patterns ------------------------------------------------------------------------------------------


def _patterns(who: Identities, folded: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """Kind and pattern of each value that can occur in the text at all: few do, and compiling costs most."""
    tokens = set(re.findall(r"[^\W_]+", folded))
    squeezed = re.sub(r"[\W_]+", "", folded)
    digits = re.sub(r"\D", "", folded)
    for kind, values, make in (
        ("ADDRESS", who.addresses, _address),
        ("HOSPITAL", who.institutions, _institution),
        ("PHONE", who.phones, _phone),
        ("ID", who.ids | who.uids, _identifier),
    ):
        for value in sorted(values):
            if kind == "PHONE":
                possible = re.sub(r"\D", "", value)[-7:] in digits
            elif kind == "ID":
                possible = re.sub(r"[\W_]+", "", fold(value)) in squeezed
            else:
                possible = not tokens.isdisjoint(re.findall(r"[^\W_]+", fold(value)))
            if possible and (pattern := make(value)) is not None:
                yield kind, pattern


@lru_cache(maxsize=8192)
def _identifier(value: str) -> re.Pattern[str] | None:
    """The identifier as a whole token, with or without separators between its characters."""
    characters = re.findall(r"[^\W_]", fold(value))
    if len(characters) < SHORTEST_ID:
        return None
    if not any(c.isdigit() for c in characters):
        words = re.findall(r"[^\W_]+", fold(value))
        if all(ordinary(w) for w in words) or len(characters) < SHORTEST_ID + 1:
            return None
    return re.compile(_START + "0*" + r"[\s._/-]?".join(map(re.escape, characters)) + _END)


@lru_cache(maxsize=4096)
def _phone(value: str) -> re.Pattern[str] | None:
    """The digits of the number, whatever stands between them; the last seven suffice."""
    digits = re.sub(r"\D", "", value)
    if len(digits) < 7:
        return None
    gap = r"[\s().\-/]{0,3}"
    head = f"(?:{gap.join(digits[:-7])}{gap})?" if digits[:-7] else ""
    return re.compile(r"(?<!\d)(?:\+\d{1,3}" + gap + r")?\(?" + head + gap.join(digits[-7:]) + r"(?!\d)")


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
    forms = [r"[\s.,'-]{1,3}".join(re.escape(w) + r"\.?" for w in words)] if len(words) > 1 else []
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
