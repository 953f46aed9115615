"""Texts of the header engine: reduced to clinical words, freed of the source's own values, codes kept or keyed."""

from __future__ import annotations

import re
from collections.abc import Callable

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from pipelines.deidentify.header_parts import Scope, strings, with_value
from pipelines.deidentify.vocabulary import (
    clinical_words,
    coded_words,
    is_defined_term,
    is_meaning,
    is_term,
    listed,
    words,
)
from pipelines.scan.dicom import text

_SCHEME, _LABEL_LENGTH, ANONYMOUS = "CodingSchemeDesignator", 4, "REMOVED"
_MEANINGS = frozenset({"CodeMeaning", "ExtendedCodeMeaning"})
_VALUES = frozenset({"CodeValue", "LongCodeValue", "ExtendedCodeValue", "URNCodeValue"})


class Texts(Scope):
    """What becomes of one text."""

    def _code(self, ds: Dataset, element: DataElement) -> DataElement:
        """A part of a coded entry: as it is in a public scheme, else a keyed name for the scheme and for the code.

        Keyed, because codes of one site must still be equal where they were equal. Meanings are plain text; one of a
        public scheme may also use the eponyms that coded concepts use.
        """
        self.personal = True
        scheme = text(ds, _SCHEME)
        public = scheme in listed("coding_schemes")
        if public and element.keyword in _MEANINGS:
            meant = coded_words()
            return self._mapped(element, lambda v: self._without_echo(v) if is_meaning(v) else self._label(v, meant))
        if public or (not scheme and element.keyword == _SCHEME):
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

    def _clinical_only(self, value: str, known: frozenset[str] = frozenset()) -> str:
        """The clinical and `known` words of a description, without those that are also names in this object."""
        names = self.needles.name_words if self.careful else frozenset()
        spaced = " ".join(t.replace("/", " / ") for t in value.split() if "://" not in t)
        found = (t.strip(_BRACKETS) for t in spaced.split())
        tokens = [t for t in found if _is_plain(t, names, known)]
        self.clinical.update(w for t in tokens for w in words(t))
        return " ".join(tokens).strip(" /")

    def _label(self, value: str, known: frozenset[str] = frozenset()) -> str:
        """A text that may not be left empty: clinical words, a number or mark of a few characters, or REMOVED."""
        value = value.strip(" \0")
        short = len(value) <= _LABEL_LENGTH and not (self.careful and self.needles.in_text(value))
        return value and (value if short else self._clinical_only(value, known) or ANONYMOUS)

    def _mapped(self, element: DataElement, function: Callable[[str], str]) -> DataElement:
        return with_value(element, [function(s) for s in strings(element)])


def defined_term(value: str) -> str:
    return value if is_defined_term(value) else ""


# What may stand in a description beside letters and digits: no mark-up, no address, no quotation.
_PLAIN = re.compile(r"[\w.,/+\-]+")
_BRACKETS = "()[]:;"


def _is_plain(token: str, names: frozenset[str], known: frozenset[str]) -> bool:
    """A clinical or known word that is no name here, or a number too short to be one of a person's."""
    found = words(token)
    short = sum(c.isdigit() for c in token) <= 2 and (bool(found) or len(token) <= 3)
    fit = all((w in clinical_words() or w in known) and w not in names for w in found)
    return short and fit and bool(_PLAIN.fullmatch(token))
