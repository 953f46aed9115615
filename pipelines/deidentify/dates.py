"""Dates in free text: every day that a piece of text may mean, in the spellings of the languages reports come in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import date

# The first three letters of month names, accents off: English, German, French, Spanish, Italian, Portuguese, Dutch,
# the Nordic languages, Polish, Czech, Turkish, Russian.
_NAMES = (
    "jan ene gen sty led oca янв", "feb fev fab lut uno sub фев", "mar maa mrt bre мар", "apr avr abr kwi dub nis апр",
    "may mai mag mei maj kve маи мая", "jun jui giu cze cer haz июн", "jul jui lug lip tem июл",
    "aug aou ago sie srp agu авг", "sep set wrz zar eyl сен", "oct okt ott out paz rij eki окт",
    "nov lis kas ноя", "dec dez dic des gru pro ara дек",
)  # fmt: skip
_MONTHS: dict[str, tuple[int, ...]] = {}
for _number, _names in enumerate(_NAMES, 1):
    for _name in _names.split():
        _MONTHS[_name] = (*_MONTHS.get(_name, ()), _number)
_SEP = r"[-./, _\\]{1,3}"
_PATTERNS = (
    re.compile(r"(?<!\d)(?P<y>(?:1[89]|20)\d\d)(?P<s>[-./ _]?)(?P<m>\d\d?)(?P=s)(?P<d>\d\d?)(?=\d{4,6}(?!\d)|\D|$)"),
    re.compile(r"(?<!\d)(?P<y>(?:1[89]|20)\d\d) ?[年년] ?(?P<m>\d\d?) ?[月월] ?(?P<d>\d\d?) ?[日일]"),
    re.compile(r"(?<!\d)(?P<d>\d\d?)(?P<s>[-./ _])(?P<m>\d\d?)(?P=s)(?P<y>(?:1[89]|20)?\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(?P<d>\d\d)(?P<m>\d\d)(?P<y>(?:19|20)\d\d)(?!\d)"),
    re.compile(rf"(?<!\d)(?P<d>\d\d?)(?:st|nd|rd|th|er|º|\.)?{_SEP}(?:of |de )?(?P<n>[a-zа-я]{{3}})[a-zа-я]*\.?{_SEP}"
               r"(?:de |del )?(?P<y>\d{4}|\d\d)(?!\d)"),
    re.compile(rf"\b(?P<n>[a-zа-я]{{3}})[a-zа-я]*\.?{_SEP}(?P<d>\d\d?)(?:st|nd|rd|th)?{_SEP}(?P<y>\d{{4}}|'?\d\d)(?!\d)"),
    re.compile(r"(?<![\da-z])(?P<d>\d\d)(?P<n>[a-zа-я]{3})(?P<y>\d{4}|\d\d)(?!\d)"),
)  # fmt: skip


def dates_in(text: str) -> Iterator[date]:
    """Every date that a text may mean: day first and month first alike, two-digit years in both centuries."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        text = unicodedata.normalize("NFC", text)
    text = text.lower()
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            yield from _meant(match.groupdict())


def _meant(parts: dict[str, str]) -> Iterator[date]:
    year, day = int(parts["y"].strip("'")), int(parts["d"])
    years = (year,) if year > 99 else (1900 + year, 2000 + year)
    if "n" in parts:
        pairs = {(month, day) for month in _MONTHS.get(parts["n"], ())}
    else:
        pairs = {(int(parts["m"]), day), (day, int(parts["m"]))}
    for y in years:
        for month, day in pairs:
            try:
                yield date(y, month, day)
            except ValueError:
                continue
