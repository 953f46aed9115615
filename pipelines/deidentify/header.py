"""The header engine: a new dataset of what the policy allows, made from every level of the old one (PS3.15 E.1.1).

Nothing is edited in place. What is neither in Table E.1-1 nor in the data dictionary as harmless is not carried over,
nor are private groups, curves, overlays and what cannot be read. What becomes of one element is in header_actions.py,
by its VR in header_values.py, of one text in header_texts.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from pipelines.deidentify.encode import STRINGS, raw_text
from pipelines.deidentify.header_actions import ACCESSION, ISSUER, PATIENT_ID, PATIENT_NAME, ByAction
from pipelines.deidentify.header_parts import Cleaned, is_empty
from pipelines.deidentify.needles import Needles
from pipelines.deidentify.policy import Policy
from pipelines.deidentify.table import Action
from pipelines.deidentify.values import in_dictionary
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import PIXEL_DATA, Subject, text

_CHARACTER_SET = 0x00080005
# Written anew from what was done (markers.py), never carried over.
MARKERS = frozenset(
    {_CHARACTER_SET, 0x00120062, 0x00120063, 0x00120064, 0x00280301, 0x00280302, 0x00280303, 0x0018A001}
)


class HeaderCleaner:
    """Applies one policy with one site's secret.

    Most elements come out the same whoever the patient is; what they became is remembered by their bytes (`_Memo`).
    """

    def __init__(self, policy: Policy, secret: DerivationSecret) -> None:
        self.policy, self.secret = policy, secret
        self.memos: dict[bool, _Memo] = {False: _Memo(), True: _Memo()}

    def clean(self, ds: Dataset, who: Subject, needles: Needles, *, careful: bool = False) -> Cleaned:
        """The de-identified header of `ds`; `ds` itself is left as it is.

        Only when `careful` are texts searched for the values of their own source, one by one. Without, the result
        holds for an object that passes the proof: most have no echo anywhere, and one look at all of it shows that.
        """
        name = UID(text(ds, "SOPClassUID")).name
        enhanced = "Enhanced" in name or "Image Storage" not in name
        walk = _Walk(self.policy, self.secret, who, needles, careful, enhanced, text(ds, "PatientID"))
        walk.memo = self.memos[enhanced]
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


class _Walk(ByAction):
    """All levels of one object."""

    memo: _Memo

    def dataset(self, ds: Dataset) -> Dataset:
        """A new dataset of what may be carried over from one level, and from all levels below it."""
        new: dict[BaseTag, Any] = {}
        charset = str(ds.original_character_set)
        stored = ((int(key), key, raw) for key, raw in ds.items())  # plain numbers: comparing pydicom's tags costs most
        for tag, key, raw in sorted(s for s in stored if s[0] != PIXEL_DATA and self._carried(ds, s[0])):
            try:
                element = self._remembered(ds, tag, raw, charset)
            except RecursionError:
                raise
            except Exception:  # noqa: BLE001 - pydicom and values.py raise many kinds; the element is emptied, counted
                self.result.malformed += 1
                element = _emptied(raw, tag)
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
        if action is None and (not in_dictionary(tag) or self._ruled_out(tag)):
            self.result.unknown += 1
            return False
        return action is not Action.REMOVE or (tag in self.emptiable and is_empty(ds.get_item(tag)))

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


def _emptied(raw: DataElement | RawDataElement, tag: int) -> RawDataElement | None:
    """What stays of an element that cannot be read: nothing of a sequence, of bulk data, and of a private one."""
    vr = raw.VR or (dictionary_VR(tag) if in_dictionary(tag) else "")
    return raw_text(tag, vr, "") if vr in STRINGS and not tag >> 16 & 1 else None


__all__ = ["Cleaned", "HeaderCleaner"]
