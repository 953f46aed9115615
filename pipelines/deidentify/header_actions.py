"""The actions of PS3.15 Table E.1-1 on one element, and the house rules for what the table does not name."""

from __future__ import annotations

from collections.abc import Callable

from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.values import convert_SQ

from pipelines.deidentify.encode import STRINGS
from pipelines.deidentify.header_parts import converted, strings, with_value
from pipelines.deidentify.header_texts import ANONYMOUS, defined_term
from pipelines.deidentify.header_values import ByVR
from pipelines.deidentify.needles import Needles
from pipelines.deidentify.policy import Policy
from pipelines.deidentify.table import (
    Action,
    actions,
    dictionary_rules,
    identity_options,
    may_be_empty,
    required,
    safe_private,
)
from pipelines.deidentify.values import (
    BULK,
    LONG_TEXT,
    NUMBERS,
    SHORT_TEXT,
    TEMPORAL,
    TEXT,
    dummy,
    fits,
    is_zone,
    untouched,
    vr_of,
)
from pipelines.deidentify.vocabulary import is_term
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import Subject

PATIENT_NAME, PATIENT_ID, ISSUER, ACCESSION = 0x00100010, 0x00100020, 0x00100021, 0x00080050
_TIMEZONE = 0x00080201
# The one sequence whose D asks for items: a verified document says by whom (type 1C), in dummies.
_DUMMY_ITEMS = 0x0040A073
_VALUELESS = frozenset({Action.ZERO, Action.DUMMY, Action.REMOVE})


class ByAction(ByVR):
    """What becomes of one element."""

    def __init__(
        self,
        policy: Policy,
        secret: DerivationSecret,
        who: Subject,
        needles: Needles,
        careful: bool,
        enhanced: bool,
        patient_id: str,
    ) -> None:
        super().__init__(policy, secret, who, needles, careful)
        self.private = safe_private(policy.private)
        self.table, self.required = actions(policy.options, enhanced), required(enhanced)
        self.emptiable = may_be_empty()
        self.retained, self.rules = identity_options(policy.options), dictionary_rules()
        self.retaining = False
        self.special: dict[int, Callable[[str], str | None]] = {
            PATIENT_NAME: lambda _: self.who.patient,
            # An item of a sequence may speak of another patient, or give another number of this one.
            PATIENT_ID: lambda value: self.who.patient if value == patient_id else "",
            ISSUER: lambda _: "PRACTICE" if self.who.practice else None,
            ACCESSION: lambda value: self.secret.accession(value) if value else "",
        }

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
        element = converted(ds, tag, raw)
        if tag in self.special:
            value = self.special[tag](str(element.value or "").strip(" \0"))
            return None if value is None else with_value(element, value)
        action = self.table.get(tag)
        if element.VR == "UN":
            self.result.unknown += 1
            return None
        if element.VR in TEMPORAL and action not in _VALUELESS:
            return self._temporal(element)
        match action:
            case None:
                return self._by_rule(ds, element)
            case Action.KEEP:
                return self._kept(element)
            case Action.DUMMY if not element.is_empty:
                return self._dummy(element)
            case Action.ZERO | Action.DUMMY | Action.REMOVE:
                return with_value(element, Sequence() if element.VR == "SQ" else None)
            case Action.CLEAN:
                return self._clean(element)
        return self._uid(element)

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
            return self._mapped(element, defined_term)
        if rule == "clean":
            return self._mapped(element, self._clinical_only)
        return self._mapped(element, self._label)

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
        if element.tag == _TIMEZONE:
            return self._clean(element)
        if element.VR in SHORT_TEXT:
            return self._mapped(element, defined_term)
        return self._default(element)

    def _retain(self, element: DataElement) -> DataElement | None:
        """As it is, because an option says so; the proof is told (Cleaned.kept)."""
        if element.VR in BULK:
            return None
        self.personal = True
        if element.VR not in STRINGS:
            return element
        values = strings(element)
        if element.VR not in NUMBERS:
            self.result.kept.update(values)
        return with_value(element, values)

    def _clean(self, element: DataElement) -> DataElement | None:
        if element.tag == _TIMEZONE:
            return element if is_zone(element.value) else with_value(element, None)
        required = element.tag in self.required and not element.is_empty
        if element.VR in SHORT_TEXT:
            return self._mapped(element, self._label if required else self._clinical_only)
        if element.VR == "CS":
            return self._mapped(element, lambda value: value if is_term(value) else ANONYMOUS * required)
        if element.VR in LONG_TEXT or element.VR == "AE" or element.VR in BULK:
            return self._dummy(element) if required else None
        return self._default(element)

    def _dummy(self, element: DataElement) -> DataElement | None:
        if element.VR == "UI":
            return self._uid(element)
        if element.tag == _DUMMY_ITEMS:
            return self._sequence(element)
        value = dummy(element.VR)
        return None if value is None else with_value(element, value)

    def _uid(self, element: DataElement) -> DataElement | None:
        if element.VR == "SQ":
            return self._sequence(element)
        return self._mapped(element, self._map_uid) if element.VR == "UI" else None
