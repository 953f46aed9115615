"""What identifies a person in one source: collected from its header, searched in its pixels, report and output."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from pipelines.deidentify.reasons import REASONS, Quarantine

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


__all__ = ["REASONS", "Identities", "Quarantine", "from_dataset"]


@dataclass(frozen=True)
class Identities:
    """Identifying values of one source (an instance, or a study's report with its paired header). Never logged."""

    names: frozenset[str] = frozenset()
    """Persons as PN strings (`Family^Given^Middle^Prefix^Suffix`), patient and staff alike."""
    ids: frozenset[str] = frozenset()
    """MRN, other patient IDs, accession, study ID, serial numbers, station and AE titles."""
    dates: frozenset[date] = frozenset()
    phones: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    institutions: frozenset[str] = frozenset()
    uids: frozenset[str] = frozenset()

    def __or__(self, other: Identities) -> Identities:
        return Identities(**{f: getattr(self, f) | getattr(other, f) for f in self.__dataclass_fields__})


# ---- collecting ------------------------------------------------------------------------------------------------

# Attributes that name or number a person, an order or a device; which of them the profile also changes is another
# matter (table.py). Keywords of PS3.6.
_ID = re.compile(r"\w*(?:ID|IDs|SerialNumber|IdentificationNumber|OrderNumber\w*|StationName|AccessionNumber)")
_NO_ID = re.compile(r"IssuerOf\w+|\w*(?:ProtocolID|TransformationID|ContextID|RegistrationID|MultiplexGroupID|ViewID)")
_INSTITUTION = {"InstitutionName", "ResponsibleOrganization", "VerifyingOrganization", "ClinicalTrialSiteName"}
_PHONE = re.compile(r"(?<![\d.])(?:\+\d{1,3}[ .-]?)?\(?\d{2,4}\)?[ .-]\d{3,4}[ .-]\d{4}(?!\d)")
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]++\.[\w.]+")  # from its start only: linear in any text
_TEXT = {"LO", "SH", "LT", "ST", "UT", "UC", "PN", "AE", "UR"}
# Never converted here: these identify nobody, and converting is what costs.
_NUMERIC = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "AT", "DS", "IS", "UV", "SV"})
_SILENT = _NUMERIC | {"CS", "AS", "TM", "OB", "OW", "OF", "OD", "OL", "OV"}
_SILENT |= {"US or SS", "OB or OW", "US or OW", "US or SS or OW"}
_META_AE = (0x00020016, 0x00020017, 0x00020018)


@dataclass
class _Found:
    names: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    dates: set[date] = field(default_factory=set)
    phones: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    institutions: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)


def from_dataset(ds: Dataset) -> Identities:
    """Every identifying value of an object: all levels of sequences, private text, file meta and preamble.

    Raises Quarantine for an identifying element that cannot be read: what it names is unknown.
    """
    found = _Found()
    _walk(ds, found)
    meta = getattr(ds, "file_meta", None) or {}
    for tag in _META_AE:
        if tag in meta:
            found.ids.add(str(meta[tag].value).strip(" \0"))
    if preamble := _plain_text(getattr(ds, "preamble", None)):
        _from_preamble(preamble, found)
    return Identities(**{name: frozenset(v for v in values if v) for name, values in vars(found).items()})


# What an element of these bytes names, by (tag, VR, value, character set). A series repeats most of its header.
_Named = tuple[tuple[str, frozenset[Any]], ...]
_memo: dict[tuple[int, str, bytes, str], _Named] = {}
_MOST, _LONGEST = 1 << 15, 1 << 12


def _walk(ds: Dataset, found: _Found) -> None:
    from pipelines.deidentify.values import vr_of

    charset = str(ds.original_character_set)
    for key, raw in ds.items():
        tag = int(key)
        private = tag >> 16 & 1
        vr = raw.VR if raw.VR and raw.VR != "UN" else vr_of(ds, key)
        if vr in (_NUMERIC if private else _SILENT):
            continue
        value = raw.value if raw.is_raw else None
        if vr == "SQ" or value is None or len(value) > _LONGEST or (private and vr == "UN"):
            _element(ds, key, found)
            continue
        remembered = (tag, vr, value, charset)
        named = _memo.get(remembered)
        if named is None:
            alone = _Found()
            _element(ds, key, alone)
            named = tuple((kind, frozenset(values)) for kind, values in vars(alone).items() if values)
            if len(_memo) >= _MOST:
                _memo.clear()
            _memo[remembered] = named
        for kind, values in named:
            getattr(found, kind).update(values)


def _element(ds: Dataset, tag: Any, found: _Found) -> None:
    """What one element names, and everything below it."""
    try:
        element = ds[tag]
    except RecursionError:
        raise
    except Exception as error:  # noqa: BLE001 - a malformed element raises anything at all
        if tag >> 16 & 1:
            return
        raise Quarantine("unreadable", f"{type(error).__name__} in an identifying element") from None
    if element.VR == "SQ":
        for item in element.value or ():
            _walk(item, found)
    elif tag >> 16 & 1:
        for text in _texts(element):
            if "^" in text and len(text) <= 3 * 64:
                found.names.add(text)
            _from_text(text, found)
    else:
        _collect(element.VR, element.keyword, _texts(element), found)


def _collect(vr: str, keyword: str, texts: list[str], found: _Found) -> None:
    from pipelines.deidentify.values import Malformed, parse_date

    if vr == "PN":
        found.names.update(texts)
    elif vr == "UI":
        found.uids.update(t for t in texts if not t.startswith("1.2.840.10008."))
    elif vr in ("DA", "DT"):
        for text in texts:
            try:
                found.dates.add(parse_date(text[:8]))
            except Malformed:
                continue
    elif vr == "AE" or (vr in _TEXT and _ID.fullmatch(keyword) and not _NO_ID.fullmatch(keyword)):
        found.ids.update(texts)
    elif keyword in _INSTITUTION:
        found.institutions.update(texts)
    elif keyword.endswith("Address"):
        found.addresses.update(texts)
    elif "Telephone" in keyword:
        found.phones.update(texts)
    elif vr in _TEXT:
        for text in texts:
            _from_text(text, found)


def _from_text(text: str, found: _Found) -> None:
    found.phones.update(_PHONE.findall(text))
    found.ids.update(_EMAIL.findall(text))


def _from_preamble(text: str, found: _Found) -> None:
    """A preamble is free space: words there are a name unless they are clinical or a device's own."""
    from pipelines.deidentify.vocabulary import clinical_words, words

    _from_text(text, found)
    if any(len(w) >= 3 and w not in clinical_words() for w in words(text)):
        found.names.add(text)


def _texts(element: Any) -> list[str]:
    value = element.value
    if isinstance(value, bytes):
        text = _plain_text(value)
        return [text] if text else []
    if value is None or isinstance(value, (int, float)):
        return []
    values = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    if type(value).__name__ == "PersonName":
        values = [value]
    return [t for t in (str(v).strip(" \0") for v in values) if t]


def _plain_text(value: bytes | None) -> str:
    """Bytes of no declared character set as text, or an empty string when they are no text."""
    stripped = (value or b"").strip(b"\0 ")
    if not 3 <= len(stripped) <= 1024:
        return ""
    try:
        text = stripped.decode("utf-8")
    except UnicodeDecodeError:
        text = stripped.decode("latin-1")
    return text if text.isprintable() and sum(c.isalpha() for c in text) >= 3 else ""
