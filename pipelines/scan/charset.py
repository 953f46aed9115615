"""Which character set the texts of an object are really in (PS3.3 C.12.1.1.2), whatever it declares.

Sources leave Specific Character Set out, misspell it, or declare Latin-1 over UTF-8. A name decoded wrongly is a name
that neither the header engine nor the proof would recognise, so the declaration is held against the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydicom.charset import CODES_TO_ENCODINGS, convert_encodings, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

CHARACTER_SET = 0x00080005
UTF8, LATIN1 = "ISO_IR 192", "ISO_IR 100"
_ESCAPE = re.compile(rb"\x1b(?:\$[()].|\$.|[(\-)].)", re.DOTALL)
_NUMBER = re.compile(r"(?:IR)?[ _-]*(\d{1,3})$")
_TEXT = frozenset({"LO", "SH", "PN", "LT", "ST", "UT", "UC"})
_STANDALONE = frozenset({UTF8, "GB18030", "GBK"})
# Python encoding -> defined term of the code extension that an escape sequence switches to.
_EXTENSIONS = {python_encoding[t]: t for t in python_encoding if re.fullmatch(r"ISO 2022 IR \d+", t)}
_OTHER_NAMES = {"UTF8": UTF8, "UTF_8": UTF8, "UNICODE": UTF8, "LATIN1": LATIN1, "LATIN_1": LATIN1}
_OTHER_NAMES |= {f"ISO{dash}8859{dash}1": LATIN1 for dash in ("", "_")} | {"WINDOWS_1252": LATIN1, "CP1252": LATIN1}


def settle_charset(ds: Dataset) -> None:
    """Make `ds`, as read, decode its texts by the character set they are in; the declaration is put right with it."""
    texts = [value for value in _texts(ds) if not value.isascii() or b"\x1b" in value]
    element = ds.get_item(CHARACTER_SET)
    if not texts and element is None:
        return
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        value = value.decode("latin-1").split("\\")
    declared = [str(v) for v in ([value] if isinstance(value, str) else value or [])]
    found = charset_of(declared, texts)
    if found == declared:
        return
    ds[CHARACTER_SET] = DataElement(CHARACTER_SET, "CS", found[0] if len(found) == 1 else found)
    _apply(ds, convert_encodings(found))


def charset_of(declared: Iterable[str], texts: list[bytes]) -> list[str]:
    """Defined terms of the character set in which `texts`, those beyond ASCII, can be read."""
    terms = [t for t in map(_term, declared) if t is not None]
    if not any(terms):
        terms = []
    single = next((t for t in terms if t in _STANDALONE), None)
    if single:
        terms = [single]
    escapes = {e for text in texts for e in _ESCAPE.findall(text)}
    if escapes and not single:
        return _with_extensions(terms, escapes)
    beyond = [text for text in texts if not text.isascii()]
    if single != "GB18030" and single != "GBK" and beyond and all(_reads(t, "utf-8") for t in beyond):
        return [UTF8]
    if single and not all(_reads(t, python_encoding[single]) for t in beyond):
        return [UTF8] if all(_reads(t, "utf-8") for t in beyond) else [LATIN1]
    return terms or [LATIN1]


def _with_extensions(terms: list[str], escapes: set[bytes]) -> list[str]:
    """`terms` and, behind them, the code extensions that the escape sequences switch to and nobody declared."""
    terms = terms or [""]
    known = {python_encoding.get(t) for t in terms}
    wanted = {CODES_TO_ENCODINGS.get(e) for e in escapes} - known - {None}
    return terms + sorted(_EXTENSIONS[w] for w in wanted if w in _EXTENSIONS)


def _term(declared: str) -> str | None:
    """The defined term that a declaration stands for; None when it stands for none."""
    if declared in python_encoding:
        return declared
    name = declared.strip(" \0").upper()
    if name in python_encoding:
        return name
    name = re.sub(r"[ \-]+", "_", name)
    if name in _OTHER_NAMES or name in ("GB18030", "GBK"):
        return _OTHER_NAMES.get(name, name)
    if not name.startswith("ISO") or not (number := _NUMBER.search(name)):
        return None
    term = f"ISO 2022 IR {number[1]}" if "2022" in name else f"ISO_IR {number[1]}"
    return term if term in python_encoding else None


def _reads(text: bytes, encoding: str) -> bool:
    try:
        text.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _texts(ds: Dataset) -> Iterable[bytes]:
    """The undecoded texts of the top level; what is nested is in the same character set or names its own."""
    for tag, raw in ds.items():  # as stored: iterating the dataset itself would convert every element
        value = raw.value
        if not isinstance(value, bytes) or (value.isascii() and b"\x1b" not in value) or tag == CHARACTER_SET:
            continue
        try:
            vr = raw.VR or dictionary_VR(tag)
        except KeyError:
            continue
        if vr in _TEXT:
            yield value


def _apply(ds: Dataset, encodings: list[str]) -> None:
    ds.set_original_encoding(*ds.original_encoding, encodings)
    ds._parent_encoding = encodings
    for tag in ds.keys():  # noqa: SIM118 - as above
        element = ds.get_item(tag)
        if element.VR == "SQ" and isinstance(element, DataElement):
            for item in element.value or ():
                if CHARACTER_SET not in item:
                    _apply(item, encodings)
