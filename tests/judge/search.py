"""Looking for a source's own values in an output: as bytes in many spellings, and as words of decoded text."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import VR

from tests.judge.own import BULK, Own, leaves, read_day

CHARSETS = ("latin-1", "utf-8", "utf-16-le", "utf-16-be", "iso8859-2", "iso8859-5", "iso8859-6", "iso8859-7",
            "iso8859-8", "shift_jis", "iso2022_jp_2", "euc_kr", "gb18030", "cp1252")  # fmt: skip
DATES = ("%Y%m%d", "%Y-%m-%d", "%Y.%m.%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d %b %Y",
         "%d-%b-%Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y")  # fmt: skip
SEPARATORS = ("^", " ", ", ", ",", "_", "-", ".", "")
_VRS = frozenset(vr.value.lower().encode() for vr in VR if len(vr.value) == 2)
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
PLAIN = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "å": "aa", "ø": "oe", "æ": "ae"}


@dataclass(frozen=True)
class Residue:
    """One value found again. `value` is for a person at the desk who looks into a failure; it is never printed."""

    kind: str
    where: str
    value: str


def planted_in(data: bytes, texts: Iterable[str]) -> set[str]:
    """Those of `texts` that stand in `data` as they are, in any charset and case, composed or decomposed."""
    data = data.lower()
    forms = {t: {unicodedata.normalize(f, s) for f in ("NFC", "NFD") for s in (t, t.lower(), t.upper())} for t in texts}
    return {text for text, spelt in forms.items() if any(_stands(data, p) for p in patterns(spelt))}


def residues(own: Own, output: Path, shift: int | None = None) -> list[Residue]:
    """Values of a source in its output: text, name, date, uid as bytes outside pixel data; name parts as words.

    A date that is another date of the source moved by `shift` days may stand there by right.
    """
    ds = dcmread(output)
    header = header_bytes(output.read_bytes(), ds).lower()
    found = [Residue("uid", "bytes", uid) for uid in own.uids if len(uid) > 8 and _stands(header, uid.encode())]
    for text in own.texts:
        if len(text) >= 5 and _is_specific(text) and any(_stands(header, p) for p in patterns(spellings(text))):
            found.append(Residue("text", "bytes", text))
    for name in own.names:
        full = set(full_names(name))
        if any(_stands(header, p) for p in patterns(s for form in full for s in spellings(form))):
            found.append(Residue("name", "bytes", name))
    found += _words(own, ds)
    return found + _dates(own, header, shift)


def header_bytes(data: bytes, ds: Dataset) -> bytes:
    """The bytes of a file without the values of its pixel data elements."""
    for keyword in BULK:
        value = ds.get(keyword)
        if isinstance(value, bytes) and value and (start := data.rfind(value)) >= 0:
            data = data[:start] + data[start + len(value) :]
    return data


def full_names(name: str) -> Iterator[str]:
    """A person's first two components in both orders; a single component alone when it is long enough."""
    parts = [p for p in re.split(r"[\^ ,]+", name) if p]
    if len(parts) > 1:
        for a, b in (parts[:2], parts[1::-1]):
            yield from (a + s + b for s in SEPARATORS)
    elif parts and (len(parts[0]) >= 5 or not parts[0].isascii()):
        yield parts[0]


def spellings(text: str) -> set[str]:
    """A text as it may be written: composed, decomposed, without accents, transliterated, numbers by their digits."""
    lower = text.casefold()
    marks = "".join(c for c in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(c))
    forms = {text, lower, text.upper(), marks, "".join(PLAIN.get(c, c) for c in unicodedata.normalize("NFC", lower))}
    digits = re.sub(r"\D", "", text)
    if len(digits) >= 6 and len(digits) * 2 >= len(text):
        forms |= {digits, digits.lstrip("0")}
    return {unicodedata.normalize(f, form) for f in ("NFC", "NFD") for form in forms} - {""}


def patterns(texts: Iterable[str]) -> set[bytes]:
    """The lower-case bytes of texts in every charset that can write them."""
    found = set()
    for text in texts:
        for charset in CHARSETS:
            try:
                written = text.encode(charset).lower()
            except UnicodeEncodeError:
                continue
            # A writer may shift back to any character set behind the text, or to none.
            found.add(written.removesuffix(b"\x1b(b"))
    return {p for p in found if len(p) >= 4}


def date_spellings(day: dt.date) -> set[str]:
    """A day in the usual forms, with and without leading zeros."""
    written = {day.strftime(form) for form in DATES}
    return {w.lower() for text in written for w in (text, re.sub(r"(?<!\d)0(?=\d)", "", text))}


def _stands(data: bytes, pattern: bytes) -> bool:
    """Whether a pattern stands in data and is no piece of a longer word or number."""
    start = data.find(pattern)
    while start >= 0:
        end = start + len(pattern)
        joined = _alike(pattern[-1:], data[end : end + 1]) and not _begins_element(data, end)
        if not joined and not _alike(data[start - 1 : start], pattern[:1]):
            return True
        start = data.find(pattern, start + 1)
    return False


def _begins_element(data: bytes, at: int) -> bool:
    """Whether the next element begins here: the low byte of a group number may look like a digit or a letter."""
    return data[at + 1 : at + 2] == b"\0" and data[at + 4 : at + 6] in _VRS


def _alike(a: bytes, b: bytes) -> bool:
    return (a.isdigit() and b.isdigit()) or (a.isalpha() and b.isalpha())


def _is_specific(text: str) -> bool:
    """Whether a text is more than one short common word: digits, several words, or a long one."""
    return (any(c.isdigit() for c in text) and len(text) >= 6) or len(text) >= 8


def _words(own: Own, ds: Dataset) -> list[Residue]:
    excused = {w for text in own.kept for w in _split(text)}
    parts = {w for name in own.names for w in _split(name) if len(w) >= 3 or not w.isascii()} - excused
    found = []
    for path, keyword, vr, values in leaves(ds):
        if vr in ("CS", "UI", "DA", "DT", "TM", "DS", "IS") or keyword in ("CodeMeaning", "CodingSchemeDesignator"):
            continue
        where = ".".join(map(str, path))
        found += [Residue("name part", where, w) for v in values for w in _split(v) & parts]
    return found


def _split(text: str) -> set[str]:
    return {w.casefold() for w in WORD.findall(unicodedata.normalize("NFC", text))}


def _dates(own: Own, header: bytes, shift: int | None) -> list[Residue]:
    dates = own.dates - {day + dt.timedelta(days=shift) for day in own.dates} if shift else own.dates
    return [
        Residue("date", "bytes", day.isoformat())
        for day in dates
        if any(_stands(header, s.encode(c)) for s in date_spellings(day) for c in ("latin-1", "utf-16-le"))
    ]


def shifts(source: Dataset, output: Dataset) -> set[int | None]:
    """Days that each dated element moved from source to output; None where the output has none at that place."""
    after = {path: values for path, _, vr, values in leaves(output) if vr in ("DA", "DT")}
    moved: set[int | None] = set()
    for path, _, vr, values in leaves(source):
        if vr not in ("DA", "DT"):
            continue
        for i, value in enumerate(values):
            new = after.get(path, [])
            then, now = read_day(value), read_day(new[i]) if i < len(new) else None
            if then:
                moved.add((now - then).days if now else None)
    return moved
