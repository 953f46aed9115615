"""Values by VR (PS3.5 section 6.2): dates moved, ages capped, dummies made, and what is malformed made empty."""

from __future__ import annotations

import math
import re
from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

TEMPORAL = frozenset({"DA", "DT", "TM"})
SHORT_TEXT = frozenset({"LO", "SH"})
LONG_TEXT = frozenset({"LT", "ST", "UT", "UC", "UR"})
TEXT = SHORT_TEXT | LONG_TEXT | {"PN", "AE"}
BULK = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN"})
NUMBERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "IS", "DS"})

_DA = re.compile(r"(\d{4})\.?(\d\d)\.?(\d\d)")
_DT = re.compile(r"(\d{8})((?:\d\d){0,3}(?:\.\d{1,6})?)([+-]\d{4})?")
_TM = re.compile(r"([01]\d|2[0-3])(?::?[0-5]\d(?::?[0-5]\d(?:\.\d{1,6})?)?)?|2359(?:60|59)")
_AS = re.compile(r"(\d{3})([DWMY])")
_NUMBER = re.compile(r"[+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d+)?")
_ZONE = re.compile(r"[+-]\d{4}")
_DAY = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
OLDEST_YEARS = 90
NO_DATE = "19000101"
_KINDS = (
    frozenset({"LO", "SH", "LT", "ST", "UT", "UC"}),
    TEMPORAL,
    NUMBERS - {"IS", "DS"},
    frozenset({"IS", "DS"}),
    BULK | {"US", "SS"},
)
_BINARY = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4}
_DUMMIES = {"DA": NO_DATE, "DT": NO_DATE, "TM": "000000", "PN": "ANONYMOUS", "AS": "000Y", "CS": "REMOVED"}


class Malformed(ValueError):
    """The value does not follow its VR; it is emptied rather than guessed at."""


@lru_cache(maxsize=1 << 14)
def in_dictionary(tag: int) -> bool:
    """Whether PS3.6 names an attribute; repeating groups count."""
    return bool(dictionary_has_tag(tag))


def parse_date(value: str) -> date:
    """A DA value, also in the dotted form of ACR-NEMA; raises Malformed."""
    match = _DA.fullmatch(value.strip())
    if not match:
        raise Malformed
    try:
        return date(*map(int, match.groups()))
    except ValueError:
        raise Malformed from None


def shift(vr: str, value: str, days: int) -> str:
    """A DA, DT or TM value moved by `days` (whole weeks, so that the time of day stays); raises Malformed.

    A DT known only to the month or year is Malformed too: moved by days it would say what it never said.
    """
    value = value.strip(" \0")
    if not value:
        return ""
    if vr == "TM":
        if not _TM.fullmatch(value):
            raise Malformed
        return value.replace(":", "")
    if vr == "DA":
        return _moved(value, days)
    match = _DT.fullmatch(value)
    if not match:
        raise Malformed
    return _moved(match[1], days) + match[2] + (match[3] or "")


def _moved(value: str, days: int) -> str:
    try:
        moved = parse_date(value) + timedelta(days=days)
    except OverflowError:
        raise Malformed from None
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"


def cap_age(value: str) -> str:
    """An AS value with every age over 89 years as 090Y; raises Malformed."""
    value = value.strip(" \0")
    if not value:
        return ""
    match = _AS.fullmatch(value)
    if not match:
        raise Malformed
    days = int(match[1]) * {"D": 1, "W": 7, "M": 30.44, "Y": 365.25}[match[2]]
    return f"{OLDEST_YEARS:03d}Y" if days >= OLDEST_YEARS * 365.25 else value


def is_number(value: object) -> bool:
    """Whether a DS or IS value is a finite number and nothing else."""
    text = str(value).strip(" \0")
    return bool(_NUMBER.fullmatch(text)) and math.isfinite(float(text))


def is_zone(value: object) -> bool:
    """Whether a value is an offset from UTC (0008,0201)."""
    return bool(_ZONE.fullmatch(str(value).strip(" \0")))


def fits(vr: str, tag: int) -> bool:
    """Whether an element is stored under a VR of the kind that the dictionary gives it; another kind is malformed."""
    if vr == "UN" or not in_dictionary(tag):
        return True
    wanted = dictionary_VR(tag).split(" or ")
    vr = vr.split(" or ")[0]
    return vr in wanted or any({vr, w} <= kind for w in wanted for kind in _KINDS)


def holds_date(uid: str) -> bool:
    """Whether digits that read as a day of 1900 to 2099 stand in a UID: modalities write the time into them."""
    return bool(_DAY.search(uid))


def dummy(vr: str) -> str | int | None:
    """A value that is valid for the VR and says nothing; None where only removal is safe."""
    if vr in _DUMMIES:
        return _DUMMIES[vr]
    if vr in NUMBERS:
        return 0
    return "REMOVED" if vr in TEXT else None


def vr_of(ds: Dataset, tag: int) -> str:
    """The VR of an element without converting its value: as stored, else the dictionary's, else UN."""
    vr = ds.get_item(tag).VR
    if vr is None or (vr == "UN" and in_dictionary(tag)):
        return dictionary_VR(tag) if in_dictionary(tag) else "UN"
    return str(vr)


def untouched(raw: Any) -> bool:
    """Whether a stored element holds nothing but binary or written numbers, so that its bytes may be passed on.

    Little endian only: the bytes of a big-endian source would be wrong if its pixels had to be stored anew.
    """
    if not raw.is_raw or not raw.is_little_endian or raw.value is None:
        return False
    if raw.VR in _BINARY:
        return len(raw.value) % _BINARY[raw.VR] == 0
    return raw.VR in ("DS", "IS") and all(
        is_number(v) or not v.strip() for v in raw.value.decode("latin-1").split("\\")
    )
