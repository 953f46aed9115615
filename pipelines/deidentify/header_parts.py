"""What the header engine works with: what it knows of the object at hand, and elements as it reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipelines.deidentify.encode import STRINGS, raw_text
from pipelines.deidentify.needles import Needles
from pipelines.deidentify.policy import Policy
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import Subject

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


class Scope:
    """One object under one policy: whose it is, what may not be found again, and what has become of it so far."""

    def __init__(self, policy: Policy, secret: DerivationSecret, who: Subject, needles: Needles, careful: bool) -> None:
        self.options, self.careful = policy.options, careful
        self._who, self._needles, self._secret = who, needles, secret
        self.personal = False
        """Whether the element at hand was judged by whose it is or by what stands beside it."""
        self.clinical: set[str] = set()
        """Words kept because they are clinical. Where one is also a name in this object, the walk must be careful."""
        self.result = Cleaned(Dataset())

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


def strings(element: DataElement) -> list[str]:
    """The values as texts, each up to its first NUL: what is hidden behind one is shown by no viewer."""
    value = element.value
    if value is None:
        return []
    if isinstance(value, (str, int, float)) or not hasattr(value, "__iter__") or element.VM <= 1:
        return [str(value).partition("\0")[0]]
    return [str(v).partition("\0")[0] for v in value]


def is_empty(element: DataElement | RawDataElement) -> bool:
    """Whether a stored element has no value, or no items."""
    return element.value is None or (isinstance(element.value, (bytes, Sequence)) and len(element.value) == 0)


def with_value(element: DataElement, value: Any) -> DataElement | RawDataElement:
    """The element with another value, texts as the bytes that will be written."""
    if isinstance(value, list) and not isinstance(value, Sequence):
        if element.VR in STRINGS:
            return raw_text(element.tag, element.VR, *value)
        if len(value) <= 1:
            value = value[0] if value else None
    elif element.VR in STRINGS and (value is None or isinstance(value, str)):
        return raw_text(element.tag, element.VR, value or "")
    return DataElement(element.tag, element.VR, value)


def converted(ds: Dataset, tag: int, raw: Any) -> DataElement:
    """`ds[tag]`, for plain ASCII without pydicom's conversion, which costs ten times as much."""
    value = raw.value
    if not raw.is_raw or raw.VR not in _ASCII_VRS or not value or not value.isascii() or b"\x1b" in value:
        return ds[tag]
    values: Any = value.decode("ascii").rstrip(" \0").split("\\")
    return DataElement(raw.tag, raw.VR, values if len(values) > 1 else values[0], already_converted=True)
