"""Proof of de-identification: an output is searched for the values of its own source (DESIGN, "Trust").

Strong values (IDs, UIDs, phones, addresses, institutions, full names in any order) are searched as bytes in several
character sets, dates as date tokens of decoded text, single parts of names as whole words outside the clinical
vocabulary. Pixel data are proven by OCR elsewhere.
"""

from __future__ import annotations

import calendar
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from functools import cached_property

import pydicom
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset

from pipelines.deidentify.identities import Identities, Quarantine
from pipelines.deidentify.values import NO_DATE, TEXT
from pipelines.deidentify.vocabulary import clinical_words, words

CHARSETS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be")
# Shorter numbers (a study ID "1082") occur by chance in every header; they are compared with whole values only.
SHORTEST_NUMBER, SHORTEST_TEXT, SHORTEST_WORD = 6, 5, 3
_PIXEL_DATA = 0x7FE00010
_SEARCHED = TEXT | {"CS", "AS", "UN"}
_MONTHS = {calendar.month_abbr[i].lower(): i for i in range(1, 13)}
_DATES = (
    re.compile(r"(?<!\d)(?P<y>(?:1[89]|20)\d\d)(?P<s>[-./ ]?)(?P<m>\d\d?)(?P=s)(?P<d>\d\d?)(?!\d)"),
    re.compile(r"(?<!\d)(?P<d>\d\d?)(?P<s>[-./ ])(?P<m>\d\d?)(?P=s)(?P<y>(?:1[89]|20)?\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(?P<d>\d\d?)(?:st|nd|rd|th)?[-./ ]+(?P<n>[a-z]{3})[a-z]*\.?,?[-./ ]+(?P<y>\d{4})(?!\d)"),
    re.compile(r"\b(?P<n>[a-z]{3})[a-z]*\.?[-./ ]+(?P<d>\d\d?)(?:st|nd|rd|th)?,?[-./ ]+(?P<y>\d{4})(?!\d)"),
)


def dates_in(text: str) -> Iterator[date]:
    """Every date that a text may mean, in the usual spellings, day first and month first alike."""
    text = text.lower()
    for pattern in _DATES:
        for match in pattern.finditer(text):
            parts = match.groupdict()
            year, day = int(parts["y"]), int(parts["d"])
            month = _MONTHS.get(parts["n"], 0) if "n" in parts else int(parts["m"])
            years = (year,) if year > 99 else (1900 + year, 2000 + year)
            for y in years:
                for m, d in {(month, day), (day, month)}:
                    try:
                        yield date(y, m, d)
                    except ValueError:
                        continue


class Needles:
    """What must not be found again of one source. `kept` are values that an option of the policy retains."""

    def __init__(self, identities: Identities, kept: frozenset[str] = frozenset()) -> None:
        if kept:
            identities = replace(
                identities, ids=identities.ids - kept, institutions=identities.institutions - kept,
                addresses=identities.addresses - kept, uids=identities.uids - kept,
                dates=frozenset(d for d in identities.dates if d.strftime("%Y%m%d") not in kept),
            )  # fmt: skip
        self.identities = identities
        groups = {group.strip("^ ") for name in identities.names for group in name.split("=")}
        self._names = [(group, words(group)) for group in sorted(groups)]
        self.name_words = frozenset(w for _, parts in self._names for w in parts if _is_word(w))
        self.weak_words = self.name_words - clinical_words()
        """Single parts of names that are no clinical word: found alone, they are a residue."""

    @cached_property
    def strong(self) -> tuple[str, ...]:
        """Values that are searched as they stand."""
        found = {u for u in self.identities.uids if len(u) >= 8}
        values = self.identities.ids | self.identities.phones | self.identities.addresses | self.identities.institutions
        found |= {v for v in values if _is_strong(v)}
        for name, parts in self._names:
            if len(parts) > 1:
                found.add(name)
                first, second = parts[0], parts[1]
                found |= {f"{a}{s}{b}" for a, b in ((first, second), (second, first)) for s in (" ", ", ", ",", "^")}
        return tuple(sorted(found))

    @cached_property
    def _folded(self) -> tuple[str, ...]:
        return tuple({unicodedata.normalize("NFC", v).casefold() for v in self.strong})

    @cached_property
    def _bytes(self) -> tuple[tuple[bytes, bool], ...]:
        variants = set()
        for value in self.strong:
            number = value.isascii() and value.isdigit()
            forms = {value} if value.isascii() else _forms(value)
            for form in forms:
                for charset in CHARSETS:
                    variants.add((form.encode(charset, "ignore").lower(), number))
        return tuple(sorted((v for v in variants if len(v[0]) >= 4), key=lambda v: v[0]))

    def in_bytes(self, data: bytes) -> bool:
        """Whether a strong value stands in `data` in one of CHARSETS; letters compare without case."""
        data = data.lower()
        return any(_number_in(data, value) if number else value in data for value, number in self._bytes)

    def in_text(self, text: str) -> str | None:
        """What kind of own value stands in a decoded text: `value`, `date`, `name`, or None."""
        folded = unicodedata.normalize("NFC", text).casefold()
        if any(_digits_in(folded, v) if v.isdigit() else v in folded for v in self._folded):
            return "value"
        if text.strip() in self.identities.ids and not text.strip().isalpha() and len(text.strip()) >= 4:
            return "value"
        if any(c.isdigit() for c in text) and any(d in self.identities.dates for d in dates_in(text)):
            return "date"
        present = set(words(text))
        if present & self.weak_words:
            return "name"
        if any(len(parts) > 1 and present.issuperset(parts) for _, parts in self._names):
            return "name"
        return None


def prove(output: bytes, pixel_bytes: int, needles: Needles, source: Dataset) -> None:
    """Raise Quarantine("residue") when a value of the source is found in `output`.

    `pixel_bytes` is the length of the pixel element's value at the end of `output`, which is not searched. The
    output is read again from its bytes, so that what is proven is what a reader will see.
    """
    ds = pydicom.dcmread(io.BytesIO(output))
    header = output[: len(output) - pixel_bytes]
    texts: list[str] = []
    new_uids: set[str] = set()
    dates = {d.strftime("%Y%m%d") for d in needles.identities.dates}
    for level, tag, vr, value in _leaves(ds):
        if vr == "UI":
            new_uids.update(u for u in _split(value) if u.startswith("2.25."))
        elif vr in ("DA", "DT"):
            if level == 0 and _same_date(source, tag, value, dates):
                raise Quarantine("residue", "date not moved")
        elif vr in _SEARCHED:
            texts += _split(value)
    # Keyed digits hold no source value, but a short number may stand in 39 of them by chance.
    for uid in new_uids:
        header = header.replace(uid.encode(), b"\0")
    if needles.in_bytes(header):
        raise Quarantine("residue", "value in the header")
    # Most objects are settled by one look at all texts together; single ones are judged only when that look hits.
    if needles.in_text("\n".join(texts)) or needles.identities.ids.intersection(texts):
        for text in texts:
            if kind := needles.in_text(text):
                raise Quarantine("residue", f"{kind} in a text element")


def _same_date(source: Dataset, tag: int, value: bytes, dates: set[str]) -> bool:
    """Whether one of `dates`, the source's own that no option keeps, stands where it stood."""
    before = source.get(tag)
    theirs = [] if before is None else str(before.value).strip("[]").replace("'", "").split(", ")
    return any(
        a[:8] == b[:8] and a[:8] in dates and a[:8] != NO_DATE for a, b in zip(_split(value), theirs, strict=False)
    )


def _leaves(ds: Dataset, level: int = 0) -> Iterator[tuple[int, int, str, bytes]]:
    """(level, tag, VR, bytes) of every element below which there is none, as stored, pixel data aside."""
    parts: tuple[Dataset, ...] = (ds.file_meta, ds) if level == 0 else (ds,)
    for part in parts:
        for tag in part.keys():  # noqa: SIM118 - iterating the dataset itself would convert every element
            raw = part.get_item(tag)
            vr = raw.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
            if vr == "SQ":
                for item in part[tag].value:
                    yield from _leaves(item, level + 1)
            elif tag != _PIXEL_DATA and isinstance(raw.value, bytes):
                yield level, tag, vr, raw.value


def _split(value: bytes) -> list[str]:
    return [v.strip(" \0") for v in value.decode("utf-8", "replace").split("\\")]


def _is_word(word: str) -> bool:
    """Long enough to be a name by itself; ideographs are so at two."""
    return len(word) >= SHORTEST_WORD or (len(word) == 2 and word[0] >= "\u2e80")


def _is_strong(value: str) -> bool:
    if value.isdigit():
        return len(value) >= SHORTEST_NUMBER
    if len(value) < SHORTEST_TEXT:
        return False
    return any(c.isdigit() for c in value) or not set(words(value)) <= clinical_words()


def _forms(value: str) -> set[str]:
    composed = {unicodedata.normalize("NFC", value), unicodedata.normalize("NFD", value)}
    return {case(v) for v in composed for case in (str, str.lower, str.upper)}


def _digits_in(text: str, digits: str) -> bool:
    """Whether a number stands alone: not inside a longer one, nor as its decimals."""
    at = text.find(digits)
    while at >= 0:
        before, after = text[max(0, at - 2) : at], text[at + len(digits) : at + len(digits) + 1]
        decimals = len(before) == 2 and before[1] == "." and before[0].isdigit()
        if not (before[-1:].isdigit() or after.isdigit() or decimals):
            return True
        at = text.find(digits, at + 1)
    return False


def _number_in(data: bytes, needle: bytes) -> bool:
    if needle not in data:
        return False
    if b"\0" in needle:
        data, needle = data.replace(b"\0", b""), needle.replace(b"\0", b"")
    return _digits_in(data.decode("latin-1"), needle.decode("latin-1"))
