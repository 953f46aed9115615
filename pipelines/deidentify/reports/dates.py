"""Dates in report text: found in every usual spelling, moved by days, written again in the very same spelling."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

from pipelines.deidentify.reports.folding import fold
from pipelines.deidentify.reports.language import language_of

# Months by language: full names, then the abbreviations in use. Reports in the four neighbour languages keep dates
# recognisable without any model.
_NAMES = {
    "en": ("January February March April May June July August September October November December",
           "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"),
    "de": ("Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
           "Jan Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez"),
    "fr": ("janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
           "janv févr mars avr mai juin juil août sept oct nov déc"),
    "es": ("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
           "ene feb mar abr may jun jul ago sep oct nov dic"),
    "nl": ("januari februari maart april mei juni juli augustus september oktober november december",
           "jan feb mrt apr mei jun jul aug sep okt nov dec"),
}  # fmt: skip
_FULL = {language: full.split() for language, (full, _) in _NAMES.items()}
_SHORT = {language: short.split() for language, (_, short) in _NAMES.items()}
# Spelling, folded -> (language, abbreviated, month); the first language that has it wins.
_MONTHS: dict[str, tuple[str, bool, int]] = {}
for _language in _NAMES:
    for _table, _abbreviated in ((_FULL, False), (_SHORT, True)):
        for _number, _name in enumerate(_table[_language], 1):
            _MONTHS.setdefault(_name.lower(), (_language, _abbreviated, _number))
            _MONTHS.setdefault(fold(_name), _MONTHS[_name.lower()])
_MONTHS["sept"] = ("en", True, 9)
_MONTHS["jänner"] = _MONTHS["janner"] = ("de", False, 1)
# A spelling that several languages share is continued in the one that the text is written in.
_SHARED = {
    (language, name.lower()): (language, table is _SHORT)
    for table in (_SHORT, _FULL)
    for language in _NAMES
    for name in table[language]
    if _MONTHS[name.lower()][0] != language
}

_M = r"(?P<mon>" + "|".join(sorted(map(re.escape, _MONTHS), key=len, reverse=True)) + r")\b\.?"
_D = r"(?P<d>0?[1-9]|[12]\d|3[01])"
_NTH = r"(?P<nth>st|nd|rd|th|er)?(?:\.|º)?"
_Y = r"(?P<y>(?:1[89]|20)\d\d|['’]?\d\d)"
_Y4 = r"(?P<y>(?:1[89]|20)\d\d)"
_OF = r"(?:\s+(?:of|de|del)\s+|[\s,.\-/]{0,3})"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+)?"
_PATTERNS = [
    re.compile(p, re.IGNORECASE)
    for p in (
        rf"(?<![\d./-]){_Y4}(?P<s>\s?[-/.]\s?)(?P<m>0?[1-9]|1[0-2])(?P=s){_D}(?!\d)(?!(?P=s)\d)",
        r"(?<![\d./-])(?P<a>\d{1,2})(?P<s>\s?[/.\-]\s?)(?P<b>\d{1,2})(?P=s)(?P<y>\d{4}|\d{2})(?!\d)(?![./-]\d)",
        rf"{_WEEKDAY}(?<!\d){_D}{_NTH}{_OF}{_M}{_OF}{_Y}(?!\d)",
        rf"{_WEEKDAY}(?<![^\W\d_]){_M}\s*{_D}{_NTH}(?:\s*,\s*|\s+|-|/){_Y}(?!\d)",
        rf"(?<![^\W\d_]){_M}{_OF}{_Y4}(?!\d)",
        rf"(?<!\d){_Y4}\s?-?\s?{_M}(?P<s>\s?-?\s?){_D}(?!\d)",
        rf"{_WEEKDAY}(?<!\d)(?<!\d[.,/]){_D}(?P<nth>st|nd|rd|th)?(?:\s+of)?\s+{_M}(?![^\W_])",
        rf"{_WEEKDAY}(?<![^\W\d_]){_M}\s+{_D}(?P<nth>st|nd|rd|th)?(?![\d:%/]|[.,]\d|\s*(?:mm|cm|ml|mg|am|pm)\b)",
        r"(?:(?:\bon|\bdated?|\bsince|\b(?:study|exam|film|radiographs?|x-?ray|ct|mri) (?:of|from)|\bcomparison:?)\s+)"
        r"(?P<pm>0?[1-9]|1[0-2])/(?P<pd>0?[1-9]|[12]\d|3[01])(?![\d/]|\.\d)",
        r"(?<![\w.-])(?P<compact>(?:1[89]|20)\d{6}|\d{8})(?![\w-]|\.\d)",
    )
]  # fmt: skip
_ISO, _NUMERIC, _COMPACT = _PATTERNS[0], _PATTERNS[1], _PATTERNS[-1]
_SHARED_NAMES = frozenset(name for _, name in _SHARED)
# A month that is also a verb or a name needs its capital where no year makes it a date.
_WORDS = frozenset({"may", "mar", "mars", "march", "sept", "dec", "jan", "mai", "mei", "set"})
LEAP_YEAR = 2000


@dataclass(frozen=True)
class DateSpan:
    """A date in a text: where, which day (None when it is none that exists), and how to write another one so."""

    start: int
    end: int
    text: str
    day: date | None
    parts: tuple[tuple[str, int, int], ...] = ()
    """(what, start, end) of each part inside `text`: y, m, d (numbers) or mon (name)."""
    padded: bool = True
    language: str = ""
    """Of the text, where the month's name is one of several languages."""

    def shifted(self, days: int) -> str:
        """The date moved by `days`, spelt as this one; `[DATE]` when there is none to move."""
        if self.day is None:
            return "[DATE]"
        try:
            moved = self.day + timedelta(days=days)
        except OverflowError:
            return "[DATE]"
        out, at = [], 0
        for what, start, end in self.parts:
            out += [self.text[at:start], self._part(what, self.text[start:end], moved)]
            at = end
        return "".join([*out, self.text[at:]])

    def _part(self, what: str, old: str, moved: date) -> str:
        if what == "mon":
            return _month_like(old, moved.month, bool(re.search(rf"\d-{old}-", self.text)), self.language)
        if what == "nth":
            if old.lower() == "er":  # 1er mars, 2 mars
                return old if moved.day == 1 else ""
            suffix = "th" if moved.day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(moved.day % 10, "th")
            return suffix.upper() if old.isupper() else suffix
        if what == "y":
            quote = old[: len(old) - 2] if len(old) in (3,) else ""
            return f"{moved.year:04d}" if len(old) == 4 else f"{quote}{moved.year % 100:02d}"
        number = moved.month if what == "m" else moved.day
        return f"{number:02d}" if self.padded else str(number)


def find_dates(text: str, known: Collection[date] = (), reference: date | None = None) -> list[DateSpan]:
    """Every date in `text`, without overlaps, in order.

    `known` are dates of the paired header: they settle whether 03/04/2019 is in March or April, and what eight digits
    mean. `reference`, the date of the examination, gives the year where none is written.
    """
    found: list[DateSpan] = []
    day_first, language = _day_first(text, known), language_of(text) if _shares(text) else ""
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            span = _span(pattern, match, known, reference, day_first)
            if span and not any(span.start < f.end and f.start < span.end for f in found):
                found.append(replace(span, language=language))
    return sorted(found, key=lambda s: s.start)


def parse_any(value: str) -> date | None:
    """A date given as a value of its own (a table cell, an HL7 field); None when it is none."""
    value = value.strip()
    if re.fullmatch(r"\d{8}", value):
        return _date(value[:4], value[4:6], value[6:])
    spans = find_dates(value)
    return spans[0].day if spans and spans[0].start == 0 else None


def spellings(day: date) -> Iterator[str]:
    """How a date is usually written; to look for it in what was written out."""
    y, m, d, short = day.year, day.month, day.day, day.year % 100
    yield from (f"{y:04d}{m:02d}{d:02d}", f"{m:02d}{d:02d}{y:04d}", f"{d:02d}{m:02d}{y:04d}")
    for s in "/-.":
        yield from (f"{y:04d}{s}{m:02d}{s}{d:02d}", f"{y:04d}{s}{m}{s}{d}")
        for year in (f"{y:04d}", f"{short:02d}"):
            yield from (f"{m:02d}{s}{d:02d}{s}{year}", f"{d:02d}{s}{m:02d}{s}{year}")
            yield from (f"{m}{s}{d}{s}{year}", f"{d}{s}{m}{s}{year}")
    for name in (_FULL["en"][m - 1], _SHORT["en"][m - 1]):
        for number in {f"{d}", f"{d:02d}"}:
            yield from (f"{number} {name} {y}", f"{number}-{name}-{y}", f"{name} {number}, {y}", f"{name} {number} {y}")


# ---- one match ---------------------------------------------------------------------------------------------------


def _span(
    pattern: re.Pattern[str],
    match: re.Match[str],
    known: Collection[date],
    reference: date | None,
    day_first: dict[str, bool],
) -> DateSpan | None:
    got = {k: v for k, v in match.groupdict().items() if v is not None}
    start = match.start("pm") if "pm" in got else match.start()
    base = DateSpan(start, match.end(), match.group()[start - match.start() :], None)
    if pattern is _COMPACT:
        return _compact(base, got["compact"], known)
    if pattern is _NUMERIC:
        return _numeric(base, match, got, known, day_first)
    if "mon" in got and "y" not in got and got["mon"].lower() in _WORDS and not got["mon"][0].isupper():
        return None
    year = _year(got["y"]) if "y" in got else (reference.year if reference else LEAP_YEAR)
    month = _MONTHS[got["mon"].lower()][2] if "mon" in got else int(got.get("m") or got["pm"])
    day = int(got.get("d") or got.get("pd") or 15)
    names = {"pm": "m", "pd": "d"}
    parts = [(names.get(k, k), match.start(k) - start, match.end(k) - start) for k in got if k != "s"]
    when = _date(year, month, day)
    if when is None and "y" not in got:
        return None
    return replace(
        base, day=when, parts=tuple(sorted(parts, key=lambda p: p[1])), padded=_padded([got[k] for k in got if k in
        ("d", "m", "pm", "pd")])
    )  # fmt: skip


def _numeric(
    base: DateSpan, match: re.Match[str], got: dict[str, str], known: Collection[date], day_first: dict[str, bool]
) -> DateSpan | None:
    a, b, y, s = got["a"], got["b"], got["y"], got["s"].strip()
    orders = (("d", "m"), ("m", "d")) if day_first.get(s, s == ".") else (("m", "d"), ("d", "m"))
    readings = []
    for order in orders:
        values = dict(zip(order, (a, b), strict=True))
        places = [(order[0], "a"), (order[1], "b"), ("y", "y")]
        parts = tuple((what, match.start(g) - base.start, match.end(g) - base.start) for what, g in places)
        for year in _years(y):
            if day := _date(year, values["m"], values["d"]):
                readings.append(replace(base, day=day, parts=parts, padded=_padded([a, b])))
    for reading in readings:
        if reading.day in known:
            return reading
    if len(y) == 2 and s != "/" and not (len(a) == len(b) == 2):
        return None  # a version, a size or a vertebra rather than a date
    return readings[0] if readings else base if len(y) == 4 else None


def _compact(base: DateSpan, digits: str, known: Collection[date]) -> DateSpan | None:
    for order in ("ymd", "mdy", "dmy"):
        sizes = {"y": 4, "m": 2, "d": 2}
        parts, at = [], 0
        for what in order:
            parts.append((what, at, at + sizes[what]))
            at += sizes[what]
        values = {what: digits[a:b] for what, a, b in parts}
        day = _date(values["y"], values["m"], values["d"])
        # Eight digits are as well a record number: only a date of the header, or after a word for it, is one.
        if day and day in known:
            return replace(base, day=day, parts=tuple(parts))
    return None


def _day_first(text: str, known: Collection[date]) -> dict[str, bool]:
    """By separator: whether the day stands first, when some date in the text or the header decides it."""
    decided: dict[str, bool] = {}
    for match in _NUMERIC.finditer(text):
        a, b, y, s = (match[g] for g in ("a", "b", "y", "s"))
        as_day, as_month = _date(_year(y), b, a), _date(_year(y), a, b)
        if (as_day is None) != (as_month is None):
            decided[s.strip()] = as_month is None
        elif as_day in known and as_month not in known:
            decided.setdefault(s.strip(), True)
        elif as_month in known and as_day not in known:
            decided.setdefault(s.strip(), False)
    return decided


def _date(year: int | str, month: int | str, day: int | str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def _year(text: str) -> int:
    return _years(text)[0]


def _years(text: str) -> list[int]:
    """What a year as written may be, likeliest first."""
    text = text.lstrip("'’")
    if len(text) == 4:
        return [int(text)]
    recent, past = 2000 + int(text), 1900 + int(text)
    return [recent, past] if int(text) <= 40 else [past, recent]


def _padded(numbers: list[str]) -> bool:
    """Single digits are padded unless one stands bare."""
    return not any(len(n) == 1 for n in numbers)


def _shares(text: str) -> bool:
    """Whether a month of several languages may be in the text, in a word of its own."""
    return any(name in _SHARED_NAMES for name in re.findall(r"[^\W\d_]+", text.lower()))


def _month_like(old: str, month: int, dashed: bool, said: str) -> str:
    language, abbreviated, _ = _MONTHS[old.lower()]
    language, abbreviated = _SHARED.get((said, old.lower()), (language, abbreviated))
    if old.lower() == "may" and language == "en":
        abbreviated = dashed  # the one month whose name is its own abbreviation: 03-May-2019 or 3 May 2019
    new = (_SHORT if abbreviated else _FULL)[language][month - 1]
    return new.upper() if old.isupper() else new.lower() if old.islower() else new[0].upper() + new[1:]
