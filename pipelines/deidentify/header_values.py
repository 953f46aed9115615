"""What the header engine makes of a value by its VR alone (PS3.5 section 6.2), and of the items of a sequence."""

from __future__ import annotations

from functools import cached_property

from pydicom._uid_dict import UID_dictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipelines.deidentify.content import names_subject
from pipelines.deidentify.header_parts import strings, with_value
from pipelines.deidentify.header_texts import Texts
from pipelines.deidentify.values import BULK, TEMPORAL, TEXT, Malformed, cap_age, holds_date, is_number, shift
from pipelines.deidentify.vocabulary import CLOSED, is_defined_term, is_listed

_CONTENT, _LUT_GROUP = 0x0040A730, 0x0028


class ByVR(Texts):
    """What becomes of one value that no rule names."""

    def dataset(self, ds: Dataset) -> Dataset:
        """The level below (header.py)."""
        raise NotImplementedError

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
            return with_value(element, None)
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

    def _sequence(self, element: DataElement) -> DataElement:
        items = element.value or ()
        if element.tag == _CONTENT:
            traits = self.options.patient_characteristics
            items = [item for item in items if not names_subject(item, traits=traits)]
        return with_value(element, Sequence([self.dataset(item) for item in items]))

    @cached_property
    def _days(self) -> int:
        return self.secret.shift_days(self.who.patient)

    def _temporal(self, element: DataElement) -> DataElement | None:
        if self.options.dates == "remove":
            return None
        days = self._days if self.options.dates == "shift" else 0
        self.personal = self.personal or days != 0
        try:
            moved = [shift(element.VR, value, days) for value in strings(element)]
        except Malformed:
            self.result.malformed += 1
            return with_value(element, None)
        if not days and element.VR != "TM":
            self.personal = True
            self.result.kept.update(value[:8] for value in moved)
        return with_value(element, moved)

    def _age(self, element: DataElement) -> DataElement | None:
        if not self.options.patient_characteristics:
            return None
        try:
            return self._mapped(element, cap_age)
        except Malformed:
            self.result.malformed += 1
            return with_value(element, None)

    def _numbers(self, element: DataElement) -> DataElement:
        if all(not s or is_number(s) for s in strings(element)):
            return element
        self.result.malformed += 1
        return with_value(element, None)

    def _codes(self, element: DataElement) -> DataElement:
        """CS: enumerated values and defined terms. What is made of other words is no term, and malformed."""
        values = strings(element)
        closed = element.tag in CLOSED
        fit = [v if (is_listed(element.tag, v) if closed else is_defined_term(v)) else "" for v in values]
        self.result.malformed += fit != values
        return with_value(element, fit if closed else [self._without_echo(v) for v in fit])

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
