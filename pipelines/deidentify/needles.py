"""What must not be found again of one source, and the search for it in bytes and in decoded texts (DESIGN, "Trust")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import product

from pipelines.deidentify.dates import dates_in
from pipelines.deidentify.identities import Identities
from pipelines.deidentify.spellings import SEPARATORS, collapse, encodings, fold, joined_digits, squeeze, variants
from pipelines.deidentify.vocabulary import clinical_words, words

# Shorter numbers (a study ID "1082") occur by chance in every header; they are compared with whole values only.
SHORTEST_NUMBER, SHORTEST_TEXT, SHORTEST_WORD = 6, 5, 3
SHORTEST_UID, LOCAL_PHONE, COUNTRY_CODE = 8, 7, 3
# A name of this many letters is no part of a word, so it may stand inside one (a login, a file name).
UNMISTAKABLE = 10
_UTF16 = re.compile(rb"(?:[\x20-\x7e]\0){4,}|(?:\0[\x20-\x7e]){4,}")
_BYTE_SEPARATORS = re.compile(rb"[\s,^._\-=/\\|:;()]+")


class Needles:
    """Strong values of `identities` in every spelling. `kept` are values that an option of the policy retains."""

    def __init__(self, identities: Identities, kept: frozenset[str] = frozenset()) -> None:
        self.identities = _without(identities, kept) if kept else identities
        self._names = [n for name in identities.names for n in _name_parts(name)]
        self.name_words = frozenset(v for parts in self._names for part in parts for w in part for v in _spelt(w))
        self.weak_words = self.name_words - clinical_words()
        """Single parts of names that are no clinical word: found alone, they are a residue."""

    def without(self, kept: Iterable[str]) -> Needles:
        """These, less the values that an option retains."""
        return Needles(self.identities, frozenset(kept)) if kept else self

    @cached_property
    def phrases(self) -> frozenset[str]:
        """Folded and collapsed texts that are searched as they stand."""
        found: set[str] = set()
        for value in self.identities.ids | self.identities.addresses | self.identities.institutions:
            found |= _value_phrases(value)
        for parts in self._names:
            found |= _name_phrases(parts)
        return frozenset(found)

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Digits of identifiers and phones, which must stand alone."""
        found = {d for value in self.identities.ids for d in _id_digits(value)}
        return frozenset(found | {d for phone in self.identities.phones for d in _phone_digits(phone)})

    @cached_property
    def squeezed(self) -> frozenset[str]:
        """Identifiers of letters and digits without their separators."""
        return frozenset(s for value in self.identities.ids for s in _squeezed(value))

    @cached_property
    def uids(self) -> frozenset[str]:
        return frozenset(u for u in self.identities.uids if len(u) >= SHORTEST_UID)

    @cached_property
    def _phrase_bytes(self) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """ASCII phrases, and the others in every charset."""
        ascii_ones, others = set(), set()
        for phrase in self.phrases:
            if phrase.isascii():
                ascii_ones.add(phrase.encode())
            else:
                for separator in (" ", "^", ", ", ""):
                    others |= encodings(phrase.replace(" ", separator))
        return frozenset(ascii_ones), frozenset(others)

    def in_bytes(self, data: bytes) -> bool:
        """Whether a strong value stands in `data` in any charset; letters compare without case."""
        ascii_ones, others = self._phrase_bytes
        if any(needle in data for needle in others):
            return True
        data = data.lower()
        wide = _UTF16.findall(data)
        if wide:
            data += b"\n" + b"\n".join(run.replace(b"\0", b"") for run in wide)
        if any(uid.encode() in data for uid in self.uids):
            return True
        text = data.decode("latin-1")
        if any(_number_in(text, number) for number in self.numbers if number in text):
            return True
        collapsed = _BYTE_SEPARATORS.sub(b" ", data)
        return any(n in collapsed and _phrase_in(collapsed.decode("latin-1"), n.decode()) for n in ascii_ones)

    def in_text(self, text: str) -> str | None:
        """What kind of own value stands in a decoded text: `value`, `date`, `name`, or None."""
        folded = fold(text)
        collapsed = collapse(folded)
        if any(_phrase_in(collapsed, p) for p in self.phrases if p in collapsed):
            return "value"
        if any(uid in folded for uid in self.uids):
            return "value"
        if any(c.isdigit() for c in text):
            if any(_number_in(hay, n) for hay in (folded, joined_digits(folded)) for n in self.numbers if n in hay):
                return "value"
            if any(d in self.identities.dates for d in dates_in(text)):
                return "date"
            run_together = squeeze(folded)
            if any(s in run_together and _divided(s).search(folded) for s in self.squeezed):
                return "value"
        if text.strip() in self.identities.ids and not text.strip().isalpha() and len(text.strip()) >= 4:
            return "value"
        present = set(words(folded))
        if present & self.weak_words:
            return "name"
        for parts in self._names:
            all_words = [w for part in parts for w in part]
            if len(all_words) > 1 and present.issuperset(all_words):
                return "name"
        return None


def _without(identities: Identities, kept: frozenset[str]) -> Identities:
    return replace(
        identities,
        ids=identities.ids - kept,
        institutions=identities.institutions - kept,
        addresses=identities.addresses - kept,
        uids=identities.uids - kept,
        dates=frozenset(d for d in identities.dates if d.strftime("%Y%m%d") not in kept),
    )


@lru_cache(maxsize=1 << 14)
def _name_parts(name: str) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """A PN value as its groups (alphabetic, ideographic, phonetic), each as components, each as words."""
    groups = []
    for group in name.split("="):
        components = group.split("^") if "^" in group else group.split(",")
        if len(components) == 1:  # no PN but `Jane Maria Doe`: the last word is the family's
            found = words(group)
            parts = (tuple(found[-1:]), tuple(found[:-1]))
        else:
            parts = tuple(tuple(words(c)) for c in components)
        groups.append(tuple(part for part in parts if part))
    return tuple(g for g in groups if g)


@lru_cache(maxsize=1 << 14)
def _spelt(word: str) -> frozenset[str]:
    return frozenset(v for v in variants(word) if _is_word(v))


@lru_cache(maxsize=1 << 14)
def _name_phrases(parts: tuple[tuple[str, ...], ...]) -> frozenset[str]:
    """A name of two or more components: both orders, with and without the middle one, run together, with initials."""
    if len(parts) < 2:
        return frozenset()
    family, given, *more = (" ".join(part) for part in parts[:3])
    middle = more[0] if more else ""
    found = set()
    for f, g in {*product(variants(family), variants(given)), *product(variants(parts[0][-1]), variants(parts[1][0]))}:
        orders = [f"{f} {g}", f"{g} {f}"]
        if middle:
            orders += [f"{g} {m} {f}" for m in {*variants(middle), middle[0]}]
        if len(f) + len(g) >= UNMISTAKABLE or not f.isascii():
            orders += [f"{f}{g}", f"{g}{f}"]
        if len(f) >= SHORTEST_TEXT and f not in clinical_words() and f.isascii():
            orders += [f"{g[0]} {f}", f"{f} {g[0]}"]
        found.update(orders)
    return frozenset(found)


@lru_cache(maxsize=1 << 14)
def _value_phrases(value: str) -> frozenset[str]:
    """An identifier, address or institution, and the strong components that `^` or a comma divides it into."""
    pieces = {value, *re.split(r"[\^,=\r\n]+", value)} if not value.isdigit() else set()
    strong = (piece.strip() for piece in pieces)
    return frozenset(collapse(v).strip() for piece in strong if _is_strong(piece) for v in variants(piece))


@lru_cache(maxsize=1 << 14)
def _id_digits(value: str) -> tuple[str, ...]:
    """The digits of an identifier, as a number alone, leading zeros off where it is long enough without."""
    padded = "".join(c for c in value if c.isdecimal() and c.isascii())
    digits = padded.lstrip("0")
    digits = digits if len(digits) >= SHORTEST_NUMBER else padded
    return (digits,) if len(digits) >= SHORTEST_NUMBER and digits.strip("0") and "@" not in value else ()


@lru_cache(maxsize=1 << 14)
def _squeezed(value: str) -> tuple[str, ...]:
    short = squeeze(value.strip())
    mixed = any(c.isdigit() for c in short) and any(c.isalpha() for c in short)
    return tuple(variants(short)) if mixed and len(short) >= SHORTEST_NUMBER and "@" not in short else ()


@lru_cache(maxsize=1 << 14)
def _divided(squeezed: str) -> re.Pattern[str]:
    """The identifier standing alone, with or without separators anywhere in it."""
    characters = f"{SEPARATORS}*".join(map(re.escape, squeezed))
    return re.compile(rf"(?<![^\W_]){characters}(?![^\W_])")


@lru_cache(maxsize=1 << 14)
def _phone_digits(phone: str) -> tuple[str, ...]:
    digits = "".join(c for c in phone if c.isdecimal() and c.isascii())
    if len(digits) < LOCAL_PHONE:
        return ()
    return (digits,) if len(digits) < LOCAL_PHONE + COUNTRY_CODE else (digits, digits[-10:], digits[-LOCAL_PHONE:])


def _is_word(word: str) -> bool:
    """Long enough to be a name by itself; ideographs are so at two."""
    return len(word) >= SHORTEST_WORD or (len(word) == 2 and word[0] >= "\u2e80")


def _is_strong(value: str) -> bool:
    if value.isdigit() or len(value) < SHORTEST_TEXT:
        return False
    return any(c.isdigit() for c in value) or not set(words(value)) <= clinical_words()


def _phrase_in(text: str, phrase: str) -> bool:
    """Whether a phrase stands in `text`; a short one of letters only must not be part of longer words."""
    if len(phrase) >= UNMISTAKABLE or not phrase.isascii() or any(c.isdigit() for c in phrase):
        return phrase in text
    return any(not (before.isalpha() or after.isalpha()) for before, after in _around(text, phrase))


def _number_in(text: str, digits: str) -> bool:
    """Whether a number stands alone: not inside a longer one, zeros in front aside, nor as its decimals."""
    for before, after in _around(text, digits, 24):
        before = before.rstrip("0")
        decimals = len(before) >= 2 and before[-1] == "." and before[-2].isdigit()
        if not (before[-1:].isdigit() or after[:1].isdigit() or decimals):
            return True
    return False


def _around(text: str, needle: str, before: int = 1) -> Iterable[tuple[str, str]]:
    at = text.find(needle)
    while at >= 0:
        yield text[max(0, at - before) : at], text[at + len(needle) : at + len(needle) + 1]
        at = text.find(needle, at + 1)
