"""The header engine: a new dataset of what the policy allows, made from every level of the old one (PS3.15 E.1.1).

Nothing is edited in place. What is neither in Table E.1-1 nor in the data dictionary as harmless is not carried over,
nor are private groups, curves, overlays and what cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import dictionary_has_tag
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pydicom.values import convert_SQ

from pipelines.deidentify.content import names_subject
from pipelines.deidentify.encode import STRINGS, raw_text
from pipelines.deidentify.needles import Needles
from pipelines.deidentify.policy import Policy
from pipelines.deidentify.table import Action, actions, dictionary_rules, identity_options, required, safe_private
from pipelines.deidentify.values import (
    BULK,
    LONG_TEXT,
    NUMBERS,
    SHORT_TEXT,
    TEMPORAL,
    TEXT,
    Malformed,
    cap_age,
    dummy,
    fits,
    holds_date,
    is_number,
    is_zone,
    shift,
    untouched,
    vr_of,
)
from pipelines.deidentify.vocabulary import clinical_words, is_defined_term, is_term, listed, words
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import PIXEL_DATA, Subject, text

PATIENT_NAME, PATIENT_ID, ISSUER, AGE = 0x00100010, 0x00100020, 0x00100021, 0x00101010
ACCESSION, TIMEZONE, CHARACTER_SET, CONTENT = 0x00080050, 0x00080201, 0x00080005, 0x0040A730
# Written anew from what was done (markers.py), never carried over.
MARKERS = frozenset({CHARACTER_SET, 0x00120062, 0x00120063, 0x00120064, 0x00280301, 0x00280302, 0x00280303, 0x0018A001})
# The one sequence whose D asks for items: a verified document says by whom (type 1C), in dummies.
_DUMMY_ITEMS = 0x0040A073
_SCHEME, _LABEL_LENGTH, _ANONYMOUS = "CodingSchemeDesignator", 4, "REMOVED"
_VALUES = frozenset({"CodeValue", "LongCodeValue", "ExtendedCodeValue", "URNCodeValue"})
_ENUMERATED = {
    0x00080068: frozenset({"FOR PRESENTATION", "FOR PROCESSING"}),
    0x00100040: frozenset({"M", "F", "O"}),
    0x00102203: frozenset({"ALTERED", "UNALTERED"}),
    0x001021A0: frozenset({"YES", "NO", "UNKNOWN"}),
}
_LUT_GROUP = 0x0028
_ASCII_VRS = frozenset({"UI", "DA", "TM", "DT", "CS", "AS", "AE", "LO", "SH"})


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
    """Identifying values kept by an option: of devices and institutions, UIDs, dates as YYYYMMDD."""


class HeaderCleaner:
    """Applies one policy with one site's secret.

    Most elements come out the same whoever the patient is; what they became is remembered by their bytes (`_Memo`).
    """

    def __init__(self, policy: Policy, secret: DerivationSecret) -> None:
        self.policy, self.secret = policy, secret
        self.private = safe_private(policy.private)
        self.memos: dict[bool, _Memo] = {False: _Memo(), True: _Memo()}

    def clean(self, ds: Dataset, who: Subject, needles: Needles, *, careful: bool = False) -> Cleaned:
        """The de-identified header of `ds`; `ds` itself is left as it is.

        Only when `careful` are texts searched for the values of their own source, one by one. Without, the result
        holds for an object that passes the proof: most have no echo anywhere, and one look at all of it shows that.
        """
        name = UID(text(ds, "SOPClassUID")).name
        enhanced = "Enhanced" in name or "Image Storage" not in name
        walk = _Walk(self, who, needles, actions(self.policy.options, enhanced), self.memos[enhanced], careful)
        walk.required = required(enhanced)
        walk.patient_id = text(ds, "PatientID")
        new = walk.dataset(ds)
        if walk.clinical & needles.name_words:
            return self.clean(ds, who, needles, careful=True)
        for tag, vr, value in (
            (PATIENT_NAME, "PN", who.patient),
            (PATIENT_ID, "LO", who.patient),
            (ACCESSION, "SH", who.accession),
            *([(ISSUER, "LO", "PRACTICE")] if who.practice else ()),
        ):
            new[tag] = raw_text(tag, vr, value)
        walk.result.ds = new
        return walk.result


@dataclass(frozen=True)
class _Outcome:
    """What became of an element of these bytes, for any patient."""

    element: DataElement | RawDataElement | None
    unknown: int
    malformed: int
    clinical: frozenset[str]


class _Memo(dict[Any, _Outcome]):
    """Outcomes by tag, VR, bytes and character set. Bounded; what is in it changes no byte of any result."""

    MOST, LONGEST = 1 << 14, 1 << 12

    def remember(self, key: Any, outcome: _Outcome) -> None:
        if len(self) >= self.MOST:
            self.clear()
        self[key] = outcome


class _Walk:
    def __init__(
        self,
        cleaner: HeaderCleaner,
        who: Subject,
        needles: Needles,
        table: dict[int, Action],
        memo: _Memo,
        careful: bool,
    ) -> None:
        self.private, self.options = cleaner.private, cleaner.policy.options
        self._who, self._needles, self._secret = who, needles, cleaner.secret
        self.table, self.memo, self.careful = table, memo, careful
        self.patient_id = ""
        self.retained = identity_options(cleaner.policy.options)
        self.rules = dictionary_rules()
        self.schemes = listed("coding_schemes")
        self.required: frozenset[int] = frozenset()
        self.retaining = False
        self.personal = False
        """Whether the element at hand was judged by whose it is or by what stands beside it."""
        self.clinical: set[str] = set()
        """Words kept because they are clinical. Where one is also a name in this object, the walk must be careful."""
        self.result = Cleaned(Dataset())
        self.special: dict[int, Callable[[str], str | None]] = {
            PATIENT_NAME: lambda _: self.who.patient,
            # An item of a sequence may speak of another patient, or give another number of this one.
            PATIENT_ID: lambda value: self.who.patient if value == self.patient_id else "",
            ISSUER: lambda _: "PRACTICE" if self.who.practice else None,
            ACCESSION: lambda value: self.secret.accession(value) if value else "",
        }

    # Everything that differs from patient to patient is reached by these, so that no outcome of one is remembered.

    @property
    def who(self) -> Subject:
        self.personal = True
        return self._who

    @property
    def secret(self) -> DerivationSecret:
        self.personal = True
        return self._secret

    @property
    def needles(self) -> Needles:
        self.personal = True
        return self._needles

    def dataset(self, ds: Dataset) -> Dataset:
        """A new dataset of what may be carried over from one level, and from all levels below it."""
        new: dict[BaseTag, Any] = {}
        charset = str(ds.original_character_set)
        for key, raw in sorted(ds.items(), key=_number):
            tag = int(key)
            if tag == PIXEL_DATA or not self._carried(ds, tag):
                continue
            try:
                element = self._remembered(ds, tag, raw, charset)
            except RecursionError:
                raise
            except Exception:  # noqa: BLE001 - pydicom and values.py raise many kinds; the element is dropped, counted
                self.result.malformed += 1
                element = None
            if element is not None:
                new[key] = element
        return Dataset(new, parent_encoding=["utf8"])

    def _remembered(self, ds: Dataset, tag: int, raw: Any, charset: str) -> DataElement | RawDataElement | None:
        """`_element`, or what it said before of the same bytes."""
        value = raw.value
        if not raw.is_raw or tag >> 16 & 1 or self.retaining or value is None or len(value) > _Memo.LONGEST:
            return self._element(ds, tag)
        key = (tag, raw.VR, value, charset, raw.is_little_endian, self.careful)
        outcome = self.memo.get(key)
        result = self.result
        if outcome is None:
            before = (result.unknown, result.malformed, len(result.kept), len(result.uids))
            spoken, self.clinical, self.personal = self.clinical, set(), False
            try:
                element = self._element(ds, tag)
            finally:
                words_here, self.clinical = frozenset(self.clinical), spoken | self.clinical
            if not self.personal and before[2:] == (len(result.kept), len(result.uids)):
                counts = (result.unknown - before[0], result.malformed - before[1])
                self.memo.remember(key, _Outcome(element, *counts, words_here))
            return element
        result.unknown += outcome.unknown
        result.malformed += outcome.malformed
        self.clinical |= outcome.clinical
        return outcome.element

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
        if action is None and (not dictionary_has_tag(tag) or self._ruled_out(tag)):
            self.result.unknown += 1
            return False
        return action is not Action.REMOVE

    def _ruled_out(self, tag: int) -> bool:
        """Whether a house rule removes an attribute: one that identifies, or one whose option is not chosen."""
        rule = self.rules.get(tag, ("", ""))[1]
        return rule == "remove" or (
            rule in ("structured_content", "graphics") and getattr(self.options, rule) != "clean"
        )

    def _is_safe_private(self, ds: Dataset, tag: int) -> bool:
        group, block, number = tag >> 16, tag >> 8 & 0xFF, tag & 0xFF
        if block == 0:
            creator = str(ds[tag].value).strip()
            return any(c == creator and g == group for c, g, _ in self.private)
        reserved = group << 16 | block
        creator = str(ds[reserved].value).strip() if reserved in ds else ""
        return (creator, group, number) in self.private

    def _element(self, ds: Dataset, tag: int) -> DataElement | RawDataElement | None:
        if tag >> 16 & 1:
            return self._private(ds, tag)
        raw = ds.get_item(tag)
        if raw.VR is None:
            raw = raw._replace(VR=vr_of(ds, tag))
        if not fits(raw.VR, tag):
            self.result.malformed += 1
            return None
        if self.table.get(tag, Action.KEEP) is Action.KEEP and untouched(raw):
            return raw
        if raw.VR == "SQ" or len(raw.VR) > 2:  # items are remembered themselves; such a VR hangs on another element
            self.personal = True
        element = _converted(ds, tag, raw)
        if tag in self.special:
            value = self.special[tag](str(element.value or "").strip(" \0"))
            return None if value is None else _with(element, value)
        action = self.table.get(tag)
        if element.VR == "UN":
            self.result.unknown += 1
            return None
        if element.VR in TEMPORAL and action is not Action.ZERO and action is not Action.DUMMY:
            return self._temporal(element)
        match action:
            case None:
                return self._by_rule(ds, element)
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

    def _by_rule(self, ds: Dataset, element: DataElement) -> DataElement | None:
        """What the table does not name: texts by dictionary_rules, everything else by VR."""
        if element.VR not in TEXT - {"PN"}:
            return self._default(element)
        rule = self.rules.get(element.tag, ("", ""))[1]
        if self.retaining:
            return self._retain(element)
        if not rule:
            self.result.unknown += 1
            return None
        if rule == "keep":
            return self._mapped(element, self._without_echo)
        if rule == "code":
            return self._code(ds, element)
        if rule == "term":
            return self._mapped(element, _term)
        if rule == "clean":
            return self._mapped(element, self._clinical_only)
        return self._mapped(element, self._label)

    def _default(self, element: DataElement) -> DataElement | None:
        """By VR, with the echo of own values taken out of every text."""
        vr = element.VR
        if vr == "SQ":
            return self._sequence(element)
        if vr == "UI":
            return self._uid(element)
        if vr in TEMPORAL:
            return self._temporal(element)
        if vr == "PN":
            return _with(element, None)
        if vr == "AS":
            return self._age(element)
        if vr in ("DS", "IS"):
            return self._numbers(element)
        if vr == "CS":
            return self._codes(element)
        if vr in TEXT:
            return self._mapped(element, self._without_echo)
        if vr in BULK and element.tag.group != _LUT_GROUP:
            self.result.unknown += 1
            return None
        return element

    def _private(self, ds: Dataset, tag: int) -> DataElement | None:
        """A private element that a rule calls safe, by the rule's VR where the source has none; no bulk data."""
        raw, block = ds.get_item(tag), tag >> 8 & 0xFF
        vr = self.private[str(ds[tag >> 16 << 16 | block].value).strip(), tag >> 16, tag & 0xFF] if block else "LO"
        if raw.VR in (None, "UN") and vr == "SQ" and isinstance(raw.value, bytes):
            items = convert_SQ(raw.value, True, True, list(ds.original_character_set or ()) or None)
            return self._sequence(DataElement(tag, "SQ", items))
        element = ds[tag]
        if element.VR == "UN" and vr:
            raw = RawDataElement(element.tag, vr, len(element.value), element.value, 0, False, True)
            element = convert_raw_data_element(raw, encoding=ds.original_character_set or None, ds=ds)
        if element.VR == "UN":
            self.result.unknown += 1
            return None
        return self._default(element)

    def _kept(self, element: DataElement) -> DataElement | None:
        if element.VR == "AS":
            return self._age(element)
        if element.tag in self.retained:
            if element.VR == "SQ":
                self.retaining, before = True, self.retaining
                try:
                    return self._sequence(element)
                finally:
                    self.retaining = before
            return self._retain(element)
        if element.tag == TIMEZONE:
            return self._clean(element)
        if element.VR in SHORT_TEXT:
            return self._mapped(element, _term)
        return self._default(element)

    def _retain(self, element: DataElement) -> DataElement | None:
        """As it is, because an option says so; the proof is told (Cleaned.kept)."""
        if element.VR in BULK:
            return None
        self.personal = True
        if element.VR not in NUMBERS:
            self.result.kept.update(_strings(element))
        return element

    def _clean(self, element: DataElement) -> DataElement | None:
        if element.tag == TIMEZONE:
            return element if is_zone(element.value) else _with(element, None)
        required = element.tag in self.required and not element.is_empty
        if element.VR in SHORT_TEXT:
            return self._mapped(element, self._label if required else self._clinical_only)
        if element.VR == "CS":
            return self._mapped(element, lambda value: value if is_term(value) else _ANONYMOUS * required)
        if element.VR in LONG_TEXT or element.VR == "AE" or element.VR in BULK:
            return self._dummy(element) if required else None
        return self._default(element)

    def _dummy(self, element: DataElement) -> DataElement | None:
        if element.VR == "UI":
            return self._uid(element)
        if element.tag == _DUMMY_ITEMS:
            return self._sequence(element)
        value = dummy(element.VR)
        return None if value is None else _with(element, value)

    def _uid(self, element: DataElement) -> DataElement | None:
        if element.VR == "SQ":
            return self._sequence(element)
        return self._mapped(element, self._map_uid) if element.VR == "UI" else None

    def _sequence(self, element: DataElement) -> DataElement:
        items = element.value or ()
        if element.tag == CONTENT:
            traits = self.options.patient_characteristics
            items = [item for item in items if not names_subject(item, traits=traits)]
        return _with(element, Sequence([self.dataset(item) for item in items]))

    # ---- by VR -------------------------------------------------------------------------------------------------

    def _temporal(self, element: DataElement) -> DataElement | None:
        if self.options.dates == "remove":
            return None
        days = self.secret.shift_days(self.who.patient) if self.options.dates == "shift" else 0
        try:
            moved = [shift(element.VR, value, days) for value in _strings(element)]
        except Malformed:
            self.result.malformed += 1
            return _with(element, None)
        if not days and element.VR != "TM":
            self.personal = True
            self.result.kept.update(value[:8] for value in moved)
        return _with(element, moved)

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

    def _codes(self, element: DataElement) -> DataElement:
        """CS: enumerated values and defined terms. What is made of other words is no term, and malformed."""
        values = _strings(element)
        allowed = _ENUMERATED.get(element.tag)
        fit = [v if is_defined_term(v) and (allowed is None or v.strip() in allowed) else "" for v in values]
        self.result.malformed += fit != values
        return _with(element, [self._without_echo(v) for v in fit])

    def _map_uid(self, uid: str) -> str:
        uid = uid.strip(" \0")
        if not uid or uid in UID_dictionary:
            return uid
        self.personal = True
        if self.options.uids == "keep" and (self.options.dates == "keep" or not holds_date(uid)):
            self.result.kept.add(uid)
            return uid
        new = self.secret.uid(uid)
        self.result.uids[new] = uid
        return new

    def _code(self, ds: Dataset, element: DataElement) -> DataElement:
        """A part of a coded entry: as it is in a public scheme, else a keyed name for the scheme and for the code.

        Keyed, because codes of one site must still be equal where they were equal. Meanings are plain text.
        """
        self.personal = True
        scheme = text(ds, _SCHEME)
        if scheme in self.schemes or (not scheme and element.keyword == _SCHEME):
            return self._mapped(element, self._without_echo)
        if element.keyword == _SCHEME:
            return self._mapped(element, lambda value: f"99{self._keyed('scheme', value)}"[:16])
        if element.keyword in _VALUES:
            return self._mapped(element, lambda v: v if is_term(v) else self._keyed("code", f"{scheme}:{v}"))
        return self._mapped(element, self._label)

    def _keyed(self, kind: str, value: str) -> str:
        return f"{self.secret.surrogate(kind, value.strip()):016X}"

    def _without_echo(self, value: str) -> str:
        """The text without words of the names in this object, empty when another own value stands in it."""
        if is_term(value) or not self.careful:
            return value
        names = self.needles.weak_words
        kept = " ".join(w for w in value.split() if not names.intersection(words(w)))
        kept = value if kept == " ".join(value.split()) else kept
        return "" if kept and self.needles.in_text(kept) else kept

    def _clinical_only(self, value: str) -> str:
        """The clinical words of a description, without those that are also names in this object."""
        names = self.needles.name_words if self.careful else frozenset()
        spaced = " ".join(t.replace("/", " / ") for t in value.split() if "://" not in t)
        found = (t.strip(_BRACKETS) for t in spaced.split())
        tokens = [t for t in found if _is_plain(t, names)]
        self.clinical.update(w for t in tokens for w in words(t))
        return " ".join(tokens).strip(" /")

    def _label(self, value: str) -> str:
        """A text that may not be left empty: clinical words, a number or mark of a few characters, or REMOVED."""
        value = value.strip(" \0")
        short = len(value) <= _LABEL_LENGTH and not (self.careful and self.needles.in_text(value))
        return value and (value if short else self._clinical_only(value) or _ANONYMOUS)

    def _mapped(self, element: DataElement, function: Callable[[str], str]) -> DataElement:
        return _with(element, [function(s) for s in _strings(element)])


def _term(value: str) -> str:
    return value if is_defined_term(value) else ""


# What may stand in a description beside letters and digits: no mark-up, no address, no quotation.
_PLAIN = re.compile(r"[\w.,/+\-]+")
_BRACKETS = "()[]:;"


def _is_plain(token: str, names: frozenset[str]) -> bool:
    """A clinical word that is no name here, or a number too short to be one of a person's."""
    found = words(token)
    short = sum(c.isdigit() for c in token) <= 2 and (bool(found) or len(token) <= 3)
    return short and bool(_PLAIN.fullmatch(token)) and all(w in clinical_words() and w not in names for w in found)


def _strings(element: DataElement) -> list[str]:
    value = element.value
    if value is None:
        return []
    if isinstance(value, (str, int, float)) or not hasattr(value, "__iter__") or element.VM <= 1:
        return [str(value)]
    return [str(v) for v in value]


def _with(element: DataElement, value: Any) -> DataElement | RawDataElement:
    """The element with another value, texts as the bytes that will be written."""
    if isinstance(value, list) and not isinstance(value, Sequence):
        if element.VR in STRINGS:
            return raw_text(element.tag, element.VR, *value)
        if len(value) <= 1:
            value = value[0] if value else None
    elif element.VR in STRINGS and (value is None or isinstance(value, str)):
        return raw_text(element.tag, element.VR, value or "")
    return DataElement(element.tag, element.VR, value)


def _converted(ds: Dataset, tag: int, raw: Any) -> DataElement:
    """`ds[tag]`, for plain ASCII without pydicom's conversion, which costs ten times as much."""
    value = raw.value
    if not raw.is_raw or raw.VR not in _ASCII_VRS or not value or not value.isascii() or b"\x1b" in value:
        return ds[tag]
    values: Any = value.decode("ascii").rstrip(" \0").split("\\")
    return DataElement(raw.tag, raw.VR, values if len(values) > 1 else values[0], already_converted=True)


def _number(item: tuple[Any, Any]) -> int:
    # A plain number: comparing pydicom's tags costs more than everything else here.
    return int(item[0])
