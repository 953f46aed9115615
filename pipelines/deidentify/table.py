"""PS3.15 Table E.1-1 (edition 2024e): what the Basic Profile and its options ask of each attribute."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from pipelines.deidentify.policy import TABLE, Options


class Action(StrEnum):
    """Action codes of PS3.15 E.1."""

    KEEP = "K"
    REMOVE = "X"
    ZERO = "Z"
    DUMMY = "D"
    CLEAN = "C"
    UID = "U"


@dataclass(frozen=True)
class Row:
    """One attribute of the table: the Basic Profile's code and the codes of the options."""

    tag: int
    name: str
    basic: str
    options: dict[str, str]


_TAG = re.compile(r"\(([0-9A-F]{4}),([0-9A-F]{4})\)")
_COLUMNS = {
    "cleanDescOpt": "descriptors",
    "rtnDevIdOpt": "device",
    "rtnInstIdOpt": "institution",
    "rtnLongModifDatesOpt": "dates",
    "rtnPatCharsOpt": "patient_characteristics",
}
# What a compound code means for an image object. Zero length is allowed for types 2 and 3 and says nothing, so it
# stands for every compound that allows it; the enhanced multi-frame IODs make several of these type 1 (PS3.3), hence D.
_CLASSIC = {"X/Z": "Z", "X/D": "X", "Z/D": "Z", "X/Z/D": "Z", "X/Z/U*": "U"}
_ENHANCED = {"X/Z": "Z", "X/D": "D", "Z/D": "D", "X/Z/D": "D", "X/Z/U*": "U"}


@cache
def rows() -> tuple[Row, ...]:
    """The rows for single attributes. Curves, overlays and private groups are patterns, removed by group instead."""
    found = []
    with TABLE.open(encoding="utf-8", newline="") as f:
        for record in csv.DictReader(f):
            if match := _TAG.fullmatch(record["tag"]):
                options = {ours: record[column] for column, ours in _COLUMNS.items() if record[column]}
                tag = int(match[1] + match[2], 16)
                found.append(Row(tag, " ".join(record["name"].split()), record["basicProfile"], options))
    return tuple(found)


@cache
def actions(options: Options, enhanced: bool) -> dict[int, Action]:
    """Tag -> the one action of a policy. An option's K wins over another's C, and either over the profile (E.3)."""
    chosen = {
        "descriptors": options.descriptors == "clean",
        "device": options.device,
        "institution": options.institution,
        "dates": options.dates == "shift",
        "patient_characteristics": options.patient_characteristics,
    }
    compounds = _ENHANCED if enhanced else _CLASSIC
    resolved = {}
    for row in rows():
        codes = {code for option, code in row.options.items() if chosen[option]}
        code = "K" if "K" in codes else "C" if "C" in codes else compounds.get(row.basic, row.basic)
        resolved[row.tag] = Action(code)
    return resolved


@cache
def identity_options(options: Options) -> frozenset[int]:
    """Tags whose value identifies a device or an institution and is kept because an option asks for it."""
    chosen = {"device": options.device, "institution": options.institution}
    return frozenset(row.tag for row in rows() if any(on and row.options.get(o) == "K" for o, on in chosen.items()))
