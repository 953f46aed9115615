"""What must be kept and what must change in a header: attributes, UIDs and dates of source and output side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from pydicom.dataset import Dataset

# Clinical and technical attributes that de-identification has no reason to touch.
RETAINED = (
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "ImageLaterality",
    "PatientSex",
    "PatientAge",
    "PatientOrientation",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "WindowCenter",
    "WindowWidth",
    "RescaleSlope",
    "RescaleIntercept",
    "LossyImageCompression",
    "SOPClassUID",
)
# Type 1 attributes of every image, and what says that it was de-identified (PS3.15 E.1.1).
PRESENT = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "Modality",
    "PatientIdentityRemoved",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)
STANDARD_ROOT = "1.2.840.10008."
OLDEST = 89


@dataclass
class Header:
    """The comparison of one instance: names of attributes, and old/new pairs for checks across instances."""

    lost: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    kept: int = 0
    equal: int = 0
    empty: list[str] = field(default_factory=list)
    uids: list[tuple[str, str | None]] = field(default_factory=list)
    """Every UID of the source that names an instance, and what stands at its place in the output."""
    shifts: list[int | None] = field(default_factory=list)
    """Days that each date of the source moved; null where the output has none."""


def compare_headers(source: Dataset, output: Dataset) -> Header:
    """Hold an output against its source. A PatientAge over 89 may be pooled; birth dates are left to the search."""
    header = Header()
    for keyword in RETAINED:
        old = _text(source, keyword)
        if not old:
            continue
        new = _text(output, keyword)
        header.kept += bool(new)
        if not new:
            header.lost.append(keyword)
        elif new == old or (keyword == "PatientAge" and old[:3].isdigit() and int(old[:3]) > OLDEST):
            header.equal += 1
        else:
            header.altered.append(keyword)
    header.empty = [keyword for keyword in PRESENT if not _text(output, keyword)]
    for path, vr, old in _values(source):
        if vr == "UI" and not old.startswith(STANDARD_ROOT):
            header.uids.append((old, _at(output, path)))
        elif vr in ("DA", "DT") and path[-1] != ("PatientBirthDate", 0) and (day := _day(old)):
            moved = _day(_at(output, path) or "")
            header.shifts.append((moved - day).days if moved else None)
    return header


def _values(
    ds: Dataset, path: tuple[tuple[str, int], ...] = ()
) -> Iterator[tuple[tuple[tuple[str, int], ...], str, str]]:
    """(path, VR, value) of standard UIDs and dates at any depth; private ones have no place to compare with."""
    for element in ds:
        if not element.keyword:
            continue
        if element.VR == "SQ":
            for i, item in enumerate(element.value or []):
                yield from _values(item, (*path, (element.keyword, i)))
        elif element.VR in ("UI", "DA", "DT") and element.value:
            many = element.value if element.VM > 1 else [element.value]
            for i, value in enumerate(many):
                yield (*path, (element.keyword, i)), element.VR, str(value)


def _at(ds: Dataset, path: tuple[tuple[str, int], ...]) -> str | None:
    """The value at a path, null when nothing stands there."""
    for keyword, i in path[:-1]:
        items = ds.get(keyword) or []
        if i >= len(items):
            return None
        ds = items[i]
    keyword, i = path[-1]
    if keyword not in ds or not ds[keyword].value:
        return None
    element = ds[keyword]
    many = element.value if element.VM > 1 else [element.value]
    return str(many[i]) if i < len(many) else None


def _text(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    return "" if value is None else str(value)


def _day(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None
