"""What became of every attribute: source and output side by side, at every level, with the rule behind it.

The table is made from the two objects alone, not from what the engine says it did, so that the engine's mistakes show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from pydicom.datadict import dictionary_description, dictionary_has_tag
from pydicom.dataset import Dataset
from pydicom.uid import UID

from pipelines.deidentify.policy import Policy
from pipelines.deidentify.review.rules import Rules, code
from pipelines.scan.dicom import PIXEL_DATA, text

SHOWN = 400
"""Characters of a value that are shown."""
SEARCHED = 1 << 16
"""Bytes of a binary value that are searched for text."""
_META_LENGTH = 0x00020000
_RUN = re.compile(rb"[ -~]{5,}")
ITEMS, DEPTH = 20, 12
"""Items of a sequence and levels that are listed; beyond, one row says how many were not."""


@dataclass(frozen=True)
class Line:
    """One attribute. Values are PHI: a line exists in memory and in the vault only."""

    path: str
    """Where it stands: `(0040,0275)[1] (0008,0050)`."""
    name: str
    before: str | None
    """None where the source has no such attribute."""
    action: str
    """kept | changed | emptied | removed | added"""
    after: str | None
    rule: str


def compare(before: Dataset, after: Dataset, policy: Policy) -> list[Line]:
    """Every attribute of either object, in the order of tags, file meta and preamble first."""
    rules = Rules(policy, "Enhanced" in UID(text(before, "SOPClassUID")).name)
    lines = _container(before, after, rules)
    lines += _level(_meta(before), _meta(after), rules, "", 0)
    lines += _level(before, after, rules, "", 0)
    return lines


def _container(before: Dataset, after: Dataset, rules: Rules) -> list[Line]:
    old, new = (_printable(getattr(ds, "preamble", None) or b"") for ds in (before, after))
    return [Line("", "Preamble", old, _action(old, new), new, rules.CONTAINER)] if old.strip("\0") else []


def _meta(ds: Dataset) -> Dataset:
    meta = getattr(ds, "file_meta", None)
    return meta if meta is not None else Dataset()


def _level(before: Dataset | None, after: Dataset | None, rules: Rules, place: str, depth: int) -> list[Line]:
    lines: list[Line] = []
    tags = {*(before.keys() if before is not None else ()), *(after.keys() if after is not None else ())}
    for tag in sorted(tags):
        if (tag == PIXEL_DATA and depth == 0) or tag == _META_LENGTH:
            continue  # what became of the pixels is seen in the pictures
        old, new = _element(before, tag), _element(after, tag)
        where = f"{place}{code(tag)}"
        vr = _vr(old) or _vr(new)
        shown = _shown(old), _shown(new)
        action = _action(*shown)
        if action == "kept" and vr != "SQ" and _raw(old) != _raw(new):
            action = "changed"  # the shown parts agree, the values do not
        rule = rules.explain(tag, vr, action) if after is not None else rules.WITHIN
        lines.append(Line(where, _name(tag, old or new), shown[0], action, shown[1], rule))
        if vr == "SQ":
            lines += _items(old, new, rules, where, depth)
    return lines


def _items(old: Any, new: Any, rules: Rules, where: str, depth: int) -> Iterator[Line]:
    pairs = list(zip_longest(_sequence(old), _sequence(new)))
    if depth >= DEPTH and pairs:
        yield Line(where, "Deeper items, not listed", str(len(pairs)), "", None, "")
        return
    for number, (a, b) in enumerate(pairs[:ITEMS], 1):
        yield from _level(a, b, rules, f"{where}[{number}] ", depth + 1)
    if len(pairs) > ITEMS:
        yield Line(where, "Further items, not listed", str(len(pairs) - ITEMS), "", None, "")


def _sequence(element: Any) -> list[Dataset]:
    return list(element.value or ()) if getattr(element, "VR", "") == "SQ" else []


def _element(ds: Dataset | None, tag: int) -> Any:
    """The element, None where there is none, or the error of one that cannot be read."""
    if ds is None or tag not in ds:
        return None
    try:
        return ds[tag]
    except Exception as error:  # noqa: BLE001 - a malformed element raises anything at all
        return error


def _vr(element: Any) -> str:
    return str(getattr(element, "VR", ""))


def _shown(element: Any) -> str | None:
    if element is None:
        return None
    if isinstance(element, Exception):
        return f"unreadable ({type(element).__name__})"
    value = element.value
    if element.VR == "SQ":
        return f"{len(value or ())} items"
    if isinstance(value, bytes):
        return _printable(value)
    if value is None:
        return ""
    several = hasattr(value, "__iter__") and not isinstance(value, str) and element.VR != "PN"
    shown = "\\".join(str(v) for v in value) if several else str(value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]} … ({len(shown):,} characters)"


def _printable(value: bytes) -> str:
    """Text as text; of other bytes their number and the runs of text in them."""
    stripped = value.strip(b"\0 ")
    if not stripped:
        return ""
    decoded = stripped.decode("latin-1")
    if len(decoded) <= SHOWN and decoded.isprintable():
        return decoded
    runs = " ".join(run.decode() for run in _RUN.findall(value[:SEARCHED]))[:SHOWN]
    return f"{len(value):,} bytes" + (f": {runs}" if runs else "")


def _raw(element: Any) -> Any:
    return None if element is None or isinstance(element, Exception) else element.value


def _action(before: str | None, after: str | None) -> str:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    if after == before:
        return "kept"
    return "changed" if after else "emptied"


def _name(tag: int, element: Any) -> str:
    if tag >> 16 & 1:
        return str(getattr(element, "name", "Private"))
    return str(dictionary_description(tag)) if dictionary_has_tag(tag) else "Unknown"
