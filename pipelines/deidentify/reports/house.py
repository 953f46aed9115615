"""What a site knows of itself: how its numbers look, and what its hospitals, departments and physicians are called.

In a policy either as a table or as the name of a TOML file beside the policy:

    [reports.house]
    numbers = ['MRN-\d{6}', '[A-Z]{2}\d{8}']   # regular expressions of record and accession numbers
    hospitals = ["Lakemoor Medical Center"]
    departments = ["Ward 7 North"]
    physicians = ["Okonkwo, Chinwe", "Brandauer^Anneliese"]
    phones = ['x\d{4}']                         # regular expressions of extensions and pagers
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, field_validator

from pipelines.deidentify.reports.spans import Span


class House(BaseModel):
    """Lists and patterns of a site. Numbers are whole tokens; names count in any case and spacing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    numbers: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    hospitals: tuple[str, ...] = ()
    departments: tuple[str, ...] = ()
    physicians: tuple[str, ...] = ()
    """`Family, Given`, `Family^Given` or `Given Family`."""

    @field_validator("numbers", "phones")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                compiled = re.compile(pattern)
            except re.error:
                raise ValueError(f"'{pattern}' is no regular expression") from None
            if compiled.match(""):
                raise ValueError(f"'{pattern}' matches nothing at all, and so everything")
        return patterns

    @field_validator("hospitals", "departments", "physicians")
    @classmethod
    def _named(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(re.findall(r"\w", name)) < 3 for name in names):
            raise ValueError("a name needs three letters at least")
        return names

    @property
    def persons(self) -> tuple[str, ...]:
        """The physicians as PN strings."""
        return tuple(map(_pn, self.physicians))


def find_house(text: str, house: House) -> Iterator[Span]:
    """Spans of the site's numbers, hospitals and departments; its physicians are sought with the known names."""
    for kind, pattern in _patterns(house):
        for match in pattern.finditer(text):
            yield Span(kind, *match.span(), "house", 0.95)


@lru_cache(maxsize=4)
def _patterns(house: House) -> tuple[tuple[str, re.Pattern[str]], ...]:
    found = [(kind, re.compile(rf"(?<![\w]){'(?:' + p + ')'}(?!\w)"))
             for kind, patterns in (("ID", house.numbers), ("PHONE", house.phones)) for p in patterns]  # fmt: skip
    names = sorted({*house.hospitals, *house.departments}, key=len, reverse=True)
    if names:
        spelt = "|".join(r"[\s.,'’-]{1,3}".join(map(re.escape, re.findall(r"\w+", n))) for n in names)
        found.append(("HOSPITAL", re.compile(rf"(?i)(?<!\w)(?:{spelt})(?!\w)")))
    return tuple(found)


def _pn(name: str) -> str:
    if "^" in name:
        return name
    family, comma, given = name.partition(",")
    if not comma:
        given, _, family = name.strip().rpartition(" ")
    return f"{family.strip()}^{given.strip()}"
