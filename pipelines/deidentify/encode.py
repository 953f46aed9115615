"""A de-identified object as bytes (PS3.5 section 7, PS3.10 section 7): everything before and behind its pixel data.

Elements that the header engine passes on or makes are `RawDataElement`s, whose bytes are written as they are; pydicom
writes the few others. Sequences and their items get explicit lengths, whatever the source had.
"""

from __future__ import annotations

import struct
from operator import itemgetter
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr_element, write_data_element
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from pipelines import __version__
from pipelines.scan.pixelstream import UNDEFINED

# Ours, under the UUID-derived root (PS3.5 B.2).
IMPLEMENTATION_UID = UID("2.25.189642763514703927264862703459812067433")
IMPLEMENTATION_VERSION = f"INTRAMURAL_{__version__}"[:16]
PIXEL_DATA = 0x7FE00010
# VRs whose bytes are the same in either byte order.
STRINGS = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)
LONG = frozenset(str(vr) for vr in EXPLICIT_VR_LENGTH_32)
_ITEM, _NO_FLAGS = 0xFFFEE000, b"\0\0"


def raw_text(tag: int, vr: str, *values: str) -> RawDataElement:
    """A text element in UTF-8, padded to an even length (PS3.5 6.2)."""
    data = "\\".join(values).encode("utf-8", "replace")
    if len(data) % 2:
        data += b"\0" if vr == "UI" else b" "
    return RawDataElement(BaseTag(tag), vr, len(data), data, 0, False, True)


def encode_dataset(ds: Dataset, implicit: bool, little: bool) -> bytes:
    """The elements of `ds` in ascending order of tags."""
    return _joined(ds, _in_order(ds), implicit, little)


def as_raw(ds: Dataset, implicit: bool, little: bool) -> Dataset:
    """`ds` with every element encoded already, for elements that many files share."""
    new: dict[BaseTag, Any] = {}
    for tag, element in ds.items():
        data = b"".join(_element(ds, int(tag), element, implicit, little))
        vr = element.VR
        value = data[8 if implicit or vr not in LONG else 12 :]
        new[tag] = RawDataElement(tag, vr, len(value), value, 0, implicit, little)
    return Dataset(new, parent_encoding=["utf8"])


def encode_file(ds: Dataset, syntax: UID, sop_class: str, sop_instance: str) -> tuple[bytes, bytes]:
    """A Part 10 file of `ds` with a zero preamble and file meta of our own: what goes before the value of its pixel
    data (all, if it has none), and what goes behind it."""
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    elements = _in_order(ds)
    head = _joined(ds, [e for e in elements if e[0] < PIXEL_DATA], implicit, little)
    behind = _joined(ds, [e for e in elements if e[0] > PIXEL_DATA], implicit, little)
    pixels = ds.get(PIXEL_DATA)
    before = [b"\0" * 128, b"DICM", _file_meta(syntax, sop_class, sop_instance), head]
    after = []
    if pixels is not None:
        length = UNDEFINED if syntax.is_encapsulated else len(pixels.value) + len(pixels.value) % 2
        before.append(_header(PIXEL_DATA, pixels.VR, length, implicit, little))
        if syntax.is_encapsulated:
            after.append(struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))
        elif len(pixels.value) % 2:
            after.append(b"\0")
    after.append(behind)
    return b"".join(before), b"".join(after)


def _in_order(ds: Dataset) -> list[tuple[int, Any]]:
    # Plain numbers: comparing pydicom's tags costs more than everything else here.
    return sorted(((int(tag), element) for tag, element in ds.items()), key=itemgetter(0))


def _joined(ds: Dataset, elements: list[tuple[int, Any]], implicit: bool, little: bool) -> bytes:
    parts = []
    for tag, element in elements:
        parts += _element(ds, tag, element, implicit, little)
    return b"".join(parts)


def _element(ds: Dataset, tag: int, element: Any, implicit: bool, little: bool) -> list[bytes]:
    vr = element.VR
    if element.is_raw and element.value is not None and (little or vr in STRINGS) and (implicit or _fits(element)):
        value = element.value
        pad = b"" if len(value) % 2 == 0 else b" " if vr in STRINGS and vr != "UI" else b"\0"
        return [_header(tag, vr, len(value) + len(pad), implicit, little), value, pad]
    if element.is_raw:
        element = ds[tag]
    if element.VR == "SQ":
        items = []
        for item in element.value or ():
            data = encode_dataset(item, implicit, little)
            items += [_header(_ITEM, "", len(data), True, little), data]
        value = b"".join(items)
        return [_header(tag, "SQ", len(value), implicit, little), value]
    element = correct_ambiguous_vr_element(element, ds, little)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    write_data_element(buffer, element, ["utf8"])
    return [buffer.getvalue()]


def _fits(element: RawDataElement) -> bool:
    """Whether an element can be written in explicit VR as it is."""
    vr = element.VR
    return vr is not None and len(vr) == 2 and (vr in LONG or len(element.value or b"") < 0xFFFF)


def _header(tag: int, vr: str | None, length: int, implicit: bool, little: bool) -> bytes:
    order = "<" if little else ">"
    group, number = tag >> 16, tag & 0xFFFF
    if implicit:
        return struct.pack(order + "HHL", group, number, length)
    code = (vr or "UN").encode()
    if vr in LONG:
        return struct.pack(order + "HH2s2sL", group, number, code, _NO_FLAGS, length)
    return struct.pack(order + "HH2sH", group, number, code, length)


def _file_meta(syntax: UID, sop_class: str, sop_instance: str) -> bytes:
    """File meta information (PS3.10 7.1), always explicit VR little endian."""
    parts = [_header(0x00020001, "OB", 2, False, True), b"\0\1"]
    for tag, vr, value in (
        (0x00020002, "UI", sop_class),
        (0x00020003, "UI", sop_instance),
        (0x00020010, "UI", str(syntax)),
        (0x00020012, "UI", str(IMPLEMENTATION_UID)),
        (0x00020013, "SH", IMPLEMENTATION_VERSION),
    ):
        raw = raw_text(tag, vr, value)
        parts += [_header(tag, vr, raw.length, False, True), raw.value or b""]
    body = b"".join(parts)
    return _header(0x00020000, "UL", 4, False, True) + struct.pack("<L", len(body)) + body
