"""How a planted value may be spelt in an output, and what counts as finding it (DESIGN, "What proof means")."""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Iterable
from datetime import date, datetime, timedelta

from pipelines.score.key import Planted

# Charsets of DICOM text (PS3.3 C.12.1.1.2) and of files, as far as planted values can be written in them.
CHARSETS = ("utf-8", "latin-1", "iso8859-2", "cp1252", "utf-16-le", "utf-16-be")
SEPARATORS = (" ", ", ", ",", "^", "_", "-", ".", "=")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
DATE_FORMS = (
    "%Y%m%d",
    "%m/%d/%Y",
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%d %B %Y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%B %d, %Y",
)
# Words of an institution or an address that name none by themselves.
GENERIC = frozenset(
    re.findall(
        r"\w+",
        """
    general hospital hospitals infirmary clinic clinica clínica medical center centre memorial university regional
    community health healthcare county city north south east west saint santa practice department radiology
    lane avenue road street drive court place square terrace boulevard way suite apartment floor house unit
    """,
    )
)


def words(text: str) -> set[str]:
    """Whole words of a text, case and composition folded."""
    return {match[0] for match in WORD.finditer(fold(text))}


def fold(text: str) -> str:
    """NFC and casefold: `Müller` however written is one word."""
    return unicodedata.normalize("NFC", text).casefold()


def name_words(planted: Iterable[Planted]) -> set[str]:
    """Single name parts of at least three letters."""
    return {word for p in planted if p.kind == "NAME" for word in words(p.value) if len(word) >= 3}


def place_words(planted: Iterable[Planted]) -> set[str]:
    """Words that alone tell an institution or an address: at least five letters and not generic."""
    kinds = ("HOSPITAL", "ADDRESS")
    return {w for p in planted if p.kind in kinds for w in words(p.value) if len(w) >= 5 and w not in GENERIC}


def strong_values(planted: Iterable[Planted]) -> set[tuple[str, str]]:
    """(kind, text) of the values that no output may hold: all but dates and single name parts, plus full names.

    A full name is any two parts planted in one place, in either order.
    """
    planted = list(planted)
    strong = {(p.kind, p.value) for p in planted if p.kind not in ("NAME", "DATE")}
    people: dict[str, list[str]] = {}
    for p in planted:
        if p.kind == "NAME":
            people.setdefault(p.where, []).extend(part for part in re.split(r"[\s,^=]+", p.value) if len(part) > 1)
    for parts in people.values():
        pairs = {(a, b) for a in parts for b in parts if a != b}
        strong |= {("NAME", a + separator + b) for a, b in pairs for separator in SEPARATORS}
    for p in planted:
        if p.kind == "PHONE" and len(digits := re.sub(r"\D", "", p.value)) >= 7:
            strong.add(("PHONE", digits))
    return {(kind, text) for kind, text in strong if len(text) >= 4}


def spellings(text: str) -> set[bytes]:
    """The bytes of a text in every charset, composition and case; ASCII letters are lower case."""
    forms = {
        unicodedata.normalize(form, case) for form in ("NFC", "NFD") for case in (text, text.lower(), text.upper())
    }
    found = set()
    for form in forms:
        for charset in CHARSETS:
            try:
                found.add(form.encode(charset).lower())
            except UnicodeEncodeError:
                continue
    return found


def stands_alone(data: bytes, start: int, end: int, kind: str) -> bool:
    """Whether data[start:end] is no piece of a longer number (numbers, UIDs) or word (names)."""
    before, after = data[start - 1 : start], data[end : end + 1]
    first, last = data[start : start + 1], data[end - 1 : end]
    if kind == "NAME":
        return not ((before.isalpha() and first.isalpha()) or (after.isalpha() and last.isalpha()))
    return not ((before.isdigit() and first.isdigit()) or (after.isdigit() and last.isdigit()))


def read_date(text: str) -> date | None:
    """A planted date in any of its forms; of a DICOM date and time the date."""
    text = text.strip()
    for form in DATE_FORMS:
        try:
            return datetime.strptime(text[:8] if text[:8].isdigit() else text, form).date()
        except ValueError:
            continue
    return None


def date_spellings(day: date) -> set[str]:
    """A date as it may be written, case folded."""
    written = {day.strftime(form) for form in DATE_FORMS}
    return {fold(form) for text in written for form in (text, re.sub(r"(?<!\d)0(?=\d)", "", text))}


_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_MONTH_IN_DATE = re.compile(
    rf"(?P<before>\b{_DAY}[ .-]+)?\b(?P<month>{'|'.join(calendar.month_abbr[1:])})[a-z]*\b\.?"
    rf"(?(before)(?=,?[ -]+\d{{4}}\b)|(?=[ -]+{_DAY},?[ ]+\d{{4}}\b))",
    re.IGNORECASE,
)


def without_months(text: str) -> str:
    """The text without the month names of whole dates (day, month by name, year of four digits)."""
    return _MONTH_IN_DATE.sub(lambda m: (m["before"] or "") + "#", text)


def own_dates(planted: Iterable[Planted], shift: int | None) -> tuple[set[date], set[date]]:
    """The planted dates, and those of them that are also another planted date after the patient's shift in days.

    The second kind may stand in an output by chance and is no proof of a leak.
    """
    days = {day for p in planted if p.kind == "DATE" and (day := read_date(p.value))}
    shifted = {day + timedelta(days=shift) for day in days} if shift else set()
    return days - shifted, days & shifted
