"""Proof of de-identification: an output is searched for the values of its own source (DESIGN, "Trust").

Strong values (IDs, UIDs, phones, addresses, institutions, full names in any order) are searched as bytes in every
character set, dates as date tokens of decoded text, single parts of names as whole words outside the clinical
vocabulary. Pixel data are proven by OCR elsewhere.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread

from pipelines.deidentify.dates import dates_in
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.needles import Needles
from pipelines.deidentify.values import NO_DATE, TEXT

_SEARCHED = TEXT | {"CS", "AS", "UN", "OB"}
_PIXEL_DATA = 0x7FE00010
# Keyed digits hold no source value, but a short number may stand in 39 of them by chance.
_OUR_UID = re.compile(rb"2\.25\.\d{1,39}(?![\d.])")
_PRINTABLE = re.compile(r"[^\x00-\x08\x0e-\x1f\x7f]{3,}")


def prove(output: bytes, needles: Needles, source: Dataset) -> None:
    """Raise Quarantine("residue") when a value of the source is found in `output`.

    `output` is the whole file without the value of its pixel data. It is read again from its bytes, so that what is
    proven is what a reader will see.
    """
    ds = dcmread(io.BytesIO(output), stop_before_pixels=True)
    texts: list[str] = []
    dates = {d.strftime("%Y%m%d") for d in needles.identities.dates}
    for level, tag, vr, value in _leaves(ds):
        if vr in ("DA", "DT"):
            if level == 0 and _same_date(source, tag, value, dates):
                raise Quarantine("residue", "date not moved")
        elif vr in _SEARCHED:
            texts += _split(value, vr)
    if needles.in_bytes(_OUR_UID.sub(b"\0", output)):
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


def _leaves(ds: Dataset, level: int = 0) -> Iterator[tuple[int, int, str, bytes]]:
    """(level, tag, VR, bytes) of every element below which there is none, as stored, pixel data aside."""
    parts: tuple[Dataset, ...] = (ds.file_meta, ds) if level == 0 else (ds,)
    for part in parts:
        for key, raw in part.items():
            tag = int(key)
            vr = raw.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
            if vr == "SQ":
                for item in part[key].value:
                    yield from _leaves(item, level + 1)
            elif tag != _PIXEL_DATA and isinstance(raw.value, bytes):
                yield level, tag, vr, raw.value


def _split(value: bytes, vr: str) -> list[str]:
    """The values of an element; of bytes without a character set, what can be printed."""
    text = value.decode("utf-8", "replace")
    if vr in ("OB", "UN"):
        return _PRINTABLE.findall(text)
    return [v.strip(" \0") for v in text.split("\\")]


__all__ = ["Needles", "dates_in", "prove"]
