"""Proof of de-identification: an output is searched for the values of its own source (DESIGN, "Trust").

Strong values (IDs, UIDs, phones, addresses, institutions, full names in any order) are searched as bytes in every
character set, dates as date tokens of decoded text, single parts of names as whole words outside the clinical
vocabulary. Pixel data are proven by OCR elsewhere.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import cache

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UID

from pipelines.deidentify.dates import dates_in
from pipelines.deidentify.encode import LONG
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.needles import Needles
from pipelines.deidentify.values import NO_DATE, TEXT
from pipelines.deidentify.vocabulary import is_listed

_SEARCHED = TEXT | {"CS", "AS", "UN", "OB"}
_PIXEL_DATA = 0x7FE00010
# Keyed digits hold no source value, but a short number may stand in 39 of them by chance.
_OUR_UID = re.compile(rb"2\.25\.\d{1,39}(?![\d.])")
_META_SYNTAX = re.compile(rb"\x02\0\x10\0UI..([0-9.]+)", re.DOTALL)
_PRINTABLE = re.compile(r"[^\x00-\x08\x0e-\x1f\x7f]{3,}")


def prove(output: bytes, needles: Needles, source: Dataset) -> None:
    """Raise Quarantine("residue") when a value of the source is found in `output`.

    `output` is the whole file without the value of its pixel data. It is read again from its bytes, so that what is
    proven is what a reader will see.
    """
    texts: list[str] = []
    values: list[bytes] = []
    dates = {d.strftime("%Y%m%d") for d in needles.identities.dates}
    for level, tag, vr, value in _leaves(output):
        if vr == "CS" and is_listed(tag, value.decode("ascii", "replace")):
            continue
        values.append(value)
        if vr in ("DA", "DT"):
            if level == 0 and _same_date(source, tag, value, dates):
                raise Quarantine("residue", "date not moved")
        elif vr in _SEARCHED:
            texts += _split(value, vr)
    # Value by value: the length before and the tag behind a value may look like digits that continue it.
    if needles.in_bytes(_OUR_UID.sub(b"\0", b"\n".join(values))):
        raise Quarantine("residue", "value in the header")
    # Most objects are settled by one look at all texts together; single ones are judged only when that look hits.
    if needles.in_text("\n".join(texts)) or needles.identities.ids.intersection(texts):
        for text in texts:
            if kind := needles.in_text(text):
                raise Quarantine("residue", f"{kind} in a text element")


def _same_date(source: Dataset, tag: int, value: bytes, dates: set[str]) -> bool:
    """Whether one of `dates`, the source's own that no option keeps, stands where it stood."""
    ours = _split(value, "DA")
    if not any(a[:8] in dates and a[:8] != NO_DATE for a in ours):
        return False
    before = source.get(tag)
    theirs = [] if before is None else str(before.value).strip("[]").replace("'", "").split(", ")
    return any(a[:8] == b[:8] and a[:8] in dates and a[:8] != NO_DATE for a, b in zip(ours, theirs, strict=False))


def _leaves(output: bytes) -> Iterator[tuple[int, int, str, bytes]]:
    """(level, tag, VR, bytes) of every element of a file without pixel data below which there is none, as stored."""
    yield from _elements(output, 132, 132 + 12 + int.from_bytes(output[140:144], "little"), "<", False)
    start = 144 + int.from_bytes(output[140:144], "little")
    syntax = UID(_META_SYNTAX.search(output, 144, start)[1].decode())  # type: ignore[index]
    order = "<" if syntax.is_little_endian else ">"
    yield from _elements(output, start, len(output), order, syntax.is_implicit_VR)


def _elements(
    data: bytes, at: int, end: int, order: str, implicit: bool, level: int = 0
) -> Iterator[tuple[int, int, str, bytes]]:
    """Raises Quarantine where the structure does not hold, which no output of ours may show."""
    plain, short, long = (struct.Struct(order + layout) for layout in ("HHL", "HH2sH", "L"))
    while at < end:
        if implicit:
            group, number, length = plain.unpack_from(data, at)
            vr, at = _dictionary_vr(group << 16 | number), at + 8
        else:
            group, number, code, length = short.unpack_from(data, at)
            vr, at = code.decode("ascii"), at + 8
            if vr in LONG:
                (length,), at = long.unpack_from(data, at), at + 4
        tag = group << 16 | number
        if tag == _PIXEL_DATA and level == 0:
            return
        if vr == "SQ":
            last = at + length
            while at < last:
                *_, size = plain.unpack_from(data, at)
                yield from _elements(data, at + 8, at + 8 + size, order, implicit, level + 1)
                at += 8 + size
        else:
            yield level, tag, vr, data[at : at + length]
            at += length
    if at != end:
        raise Quarantine("residue", "the output cannot be read again")


@cache
def _dictionary_vr(tag: int) -> str:
    return dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"


def _split(value: bytes, vr: str) -> list[str]:
    """The values of an element; of bytes without a character set, what can be printed."""
    text = value.decode("utf-8", "replace")
    if vr in ("OB", "UN"):
        return _PRINTABLE.findall(text)
    return [v.strip(" \0") for v in text.split("\\")]


__all__ = ["Needles", "dates_in", "prove"]
