"""The header engine: a new dataset of what the policy allows, made from every level of the old one (PS3.15 E.1.1).

Nothing is edited in place. What is neither in Table E.1-1 nor in the data dictionary is not carried over, nor are
private groups, curves, overlays and what cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import dictionary_has_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.policy import Policy
from pipelines.deidentify.proof import Needles
from pipelines.deidentify.table import Action, actions, identity_options
from pipelines.deidentify.values import (
    BULK,
    LONG_TEXT,
    SHORT_TEXT,
    TEMPORAL,
    TEXT,
    Malformed,
    cap_age,
    dummy,
    is_number,
    is_zone,
    shift,
    untouched,
    vr_of,
)
from pipelines.deidentify.vocabulary import clinical_words, is_term, words
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import PIXEL_DATA, Subject, text

PATIENT_NAME, PATIENT_ID, ISSUER, AGE = 0x00100010, 0x00100020, 0x00100021, 0x00101010
ACCESSION, TIMEZONE, CHARACTER_SET = 0x00080050, 0x00080201, 0x00080005
# Written anew from what was done (markers.py), never carried over.
MARKERS = frozenset({CHARACTER_SET, 0x00120062, 0x00120063, 0x00120064, 0x00280303, 0x0018A001})
_LUT_GROUP = 0x0028


@dataclass
class Cleaned:
    """A de-identified dataset without pixel data and what was done to make it."""

    ds: Dataset
    uids: dict[str, str] = field(default_factory=dict)
    """New UID -> original, for the vault."""
    unknown: int = 0
    """Elements dropped because neither the table nor the dictionary knows them."""
    malformed: int = 0
    """Elements emptied or dropped because their value does not follow their VR."""
    kept: set[str] = field(default_factory=set)
    """Identifying values kept by an option (device, institution)."""


class HeaderCleaner:
    """Applies one policy with one site's secret."""

    def __init__(self, policy: Policy, secret: DerivationSecret) -> None:
        self.policy, self.secret = policy, secret
        self.private = {(p.creator, p.group, p.element) for p in policy.private.keep}

    def clean(self, ds: Dataset, who: Subject, identities: Identities) -> Cleaned:
        """The de-identified header of `ds`; `ds` itself is left as it is."""
        enhanced = "Enhanced" in UID(text(ds, "SOPClassUID")).name
        walk = _Walk(self, who, Needles(identities), actions(self.policy.options, enhanced))
        walk.patient_id = text(ds, "PatientID")
        new = walk.result.ds = walk.dataset(ds)
        new.PatientName, new.PatientID, new.AccessionNumber = who.patient, who.patient, who.accession
        if who.practice:
            new.IssuerOfPatientID = "PRACTICE"
        return walk.result


class _Walk:
    def __init__(self, cleaner: HeaderCleaner, who: Subject, needles: Needles, table: dict[int, Action]) -> None:
        self.secret, self.private, self.options = cleaner.secret, cleaner.private, cleaner.policy.options
        self.who, self.needles, self.table = who, needles, table
        self.days = cleaner.secret.shift_days(who.patient)
        self.patient_id = ""
        self.retained = identity_options(cleaner.policy.options)
        self.result = Cleaned(Dataset())
        self.special: dict[int, Callable[[str], str | None]] = {
            PATIENT_NAME: lambda _: who.patient,
            # An item of a sequence may speak of another patient, or give another number of this one.
            PATIENT_ID: lambda value: who.patient if value == self.patient_id else "",
            ISSUER: lambda _: "PRACTICE" if who.practice else None,
            ACCESSION: lambda value: cleaner.secret.accession(value) if value else "",
        }

    def dataset(self, ds: Dataset) -> Dataset:
        """A new dataset of what may be carried over from one level, and from all levels below it."""
        new = Dataset()
        for tag in sorted(ds.keys()):
            if tag == PIXEL_DATA or not self._carried(ds, tag):
                continue
            try:
                element = self._element(ds, tag)
            except RecursionError:
                raise
            except Exception:  # noqa: BLE001 - pydicom and values.py raise many kinds; the element is dropped, counted
                self.result.malformed += 1
                element = None
            if element is not None:
                new[tag] = element
        return new

    def _carried(self, ds: Dataset, tag: int) -> bool:
        """Whether an element may be carried over at all, decided before its value is read."""
        group = tag >> 16
        if group & 1:
            return bool(self.private) and self._is_safe_private(ds, tag)
        if group < 8 or tag & 0xFFFF == 0 or group >> 8 in (0x50, 0x60) or tag in MARKERS:
            return False
        if tag in self.special:
            return True
        action = self.table.get(tag)
        if action is None and not dictionary_has_tag(tag):
            self.result.unknown += 1
            return False
        return action is not Action.REMOVE

    def _is_safe_private(self, ds: Dataset, tag: int) -> bool:
        group, block, number = tag >> 16, tag >> 8 & 0xFF, tag & 0xFF
        if block == 0:
            creator = str(ds[tag].value).strip()
            return any(c == creator and g == group for c, g, _ in self.private)
        reserved = group << 16 | block
        creator = str(ds[reserved].value).strip() if reserved in ds else ""
        return (creator, group, number) in self.private

    def _element(self, ds: Dataset, tag: int) -> DataElement | RawDataElement | None:
        raw = ds.get_item(tag)
        if raw.VR is None:
            raw = raw._replace(VR=vr_of(ds, tag))
        if self.table.get(tag, Action.KEEP) is Action.KEEP and not tag >> 16 & 1 and untouched(raw):
            return raw
        element = ds[tag]
        if tag in self.special:
            value = self.special[tag](str(element.value or "").strip(" \0"))
            return None if value is None else DataElement(tag, element.VR, value)
        if element.tag.is_private:
            return None if element.VR == "SQ" else self._default(element)
        action = self.table.get(tag)
        if element.VR == "UN":
            self.result.unknown += 1
            return None
        if element.VR in TEMPORAL and action is not Action.ZERO and action is not Action.DUMMY:
            return self._temporal(element, action)
        match action:
            case None:
                return self._default(element)
            case Action.KEEP:
                return self._kept(element)
            case Action.ZERO:
                return _with(element, Sequence() if element.VR == "SQ" else None)
            case Action.DUMMY:
                return self._dummy(element)
            case Action.CLEAN:
                return self._clean(element)
        return self._uid(element)

    # ---- by action ---------------------------------------------------------------------------------------------

    def _default(self, element: DataElement) -> DataElement | None:
        """What the table does not name: kept by VR, with the echo of own values taken out of every text."""
        vr = element.VR
        if vr == "SQ":
            return self._sequence(element)
        if vr == "UI":
            return self._uid(element)
        if vr == "PN":
            return _with(element, None)
        if vr == "AS":
            return self._age(element)
        if vr in ("DS", "IS"):
            return self._numbers(element)
        if vr in TEXT or vr == "CS":
            return self._mapped(element, self._without_echo)
        if vr in BULK and element.tag.group != _LUT_GROUP:
            self.result.unknown += 1
            return None
        return element

    def _kept(self, element: DataElement) -> DataElement | None:
        if element.tag == AGE or element.VR == "AS":
            return self._age(element)
        if element.VR in TEXT and element.tag in self.retained:
            self.result.kept.update(_strings(element))
            return element
        return self._default(element)

    def _clean(self, element: DataElement) -> DataElement | None:
        if element.tag == TIMEZONE:
            return element if is_zone(element.value) else _with(element, None)
        if element.VR in SHORT_TEXT:
            return self._mapped(element, self._clinical_only)
        if element.VR == "CS":
            return self._mapped(element, lambda value: value if is_term(value) else "")
        if element.VR in LONG_TEXT or element.VR == "AE" or element.VR in BULK:
            return None
        return self._default(element)

    def _dummy(self, element: DataElement) -> DataElement | None:
        if element.VR == "UI":
            return self._uid(element)
        value = dummy(element.VR)
        return None if value is None else _with(element, value)

    def _uid(self, element: DataElement) -> DataElement | None:
        if element.VR == "SQ":
            return self._sequence(element)
        return self._mapped(element, self._map_uid) if element.VR == "UI" else None

    def _sequence(self, element: DataElement) -> DataElement:
        return _with(element, Sequence([self.dataset(item) for item in element.value or ()]))

    # ---- by VR -------------------------------------------------------------------------------------------------

    def _temporal(self, element: DataElement, action: Action | None) -> DataElement | None:
        if self.options.dates == "remove":
            return None
        try:
            return self._mapped(element, lambda value: shift(element.VR, value, self.days))
        except Malformed:
            self.result.malformed += 1
            return _with(element, None)

    def _age(self, element: DataElement) -> DataElement | None:
        if not self.options.patient_characteristics:
            return None
        try:
            return self._mapped(element, cap_age)
        except Malformed:
            self.result.malformed += 1
            return _with(element, None)

    def _numbers(self, element: DataElement) -> DataElement:
        if all(not s or is_number(s) for s in _strings(element)):
            return element
        self.result.malformed += 1
        return _with(element, None)

    def _map_uid(self, uid: str) -> str:
        uid = uid.strip(" \0")
        if not uid or uid in UID_dictionary:
            return uid
        new = self.secret.uid(uid)
        self.result.uids[new] = uid
        return new

    def _without_echo(self, value: str) -> str:
        """The text without words of the names in this object, empty when another own value stands in it."""
        if is_term(value):
            return value
        names = self.needles.weak_words
        kept = " ".join(w for w in value.split() if not names.intersection(words(w)))
        kept = value if kept == " ".join(value.split()) else kept
        return "" if kept and self.needles.in_text(kept) else kept

    def _clinical_only(self, value: str) -> str:
        """The clinical words of a description, without those that are also names in this object."""
        tokens = [t for t in value.replace("/", " / ").split() if _is_plain(t, self.needles.name_words)]
        return " ".join(tokens).strip(" /")

    def _mapped(self, element: DataElement, function: Callable[[str], str]) -> DataElement:
        return _with(element, [function(s) for s in _strings(element)])


def _is_plain(token: str, names: frozenset[str]) -> bool:
    """A clinical word that is no name here, or a number too short to be one of a person's."""
    found = words(token)
    short = sum(c.isdigit() for c in token) <= 2 and (bool(found) or len(token) <= 3)
    return short and all(w in clinical_words() and w not in names for w in found)


def _strings(element: DataElement) -> list[str]:
    value = element.value
    if value is None:
        return []
    if isinstance(value, (str, int, float)) or not hasattr(value, "__iter__") or element.VM <= 1:
        return [str(value)]
    return [str(v) for v in value]


def _with(element: DataElement, value: Any) -> DataElement:
    if isinstance(value, list) and not isinstance(value, Sequence) and len(value) <= 1:
        value = value[0] if value else None
    return DataElement(element.tag, element.VR, value)
