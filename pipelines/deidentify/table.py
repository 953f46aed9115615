"""PS3.15 Table E.1-1 (edition 2024e): what the Basic Profile and its options ask of each attribute."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from pipelines.deidentify.policy import DATA, TABLE, Options, Policy, Private


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
    """One row of the table: the Basic Profile's code and the codes of the options. A pattern row has tag 0."""

    tag: int
    pattern: str
    name: str
    basic: str
    options: dict[str, str]


_TAG = re.compile(r"\(([0-9A-F]{4}),([0-9A-F]{4})\)")
# Column of the table -> our option and the standard's name of it.
COLUMNS = {
    "rtnUIDsOpt": ("uids", "Retain UIDs"),
    "rtnDevIdOpt": ("device", "Retain Device Identity"),
    "rtnInstIdOpt": ("institution", "Retain Institution Identity"),
    "rtnPatCharsOpt": ("patient_characteristics", "Retain Patient Characteristics"),
    "rtnLongFullDatesOpt": ("full_dates", "Retain Longitudinal, Full Dates"),
    "rtnLongModifDatesOpt": ("modified_dates", "Retain Longitudinal, Modified Dates"),
    "cleanDescOpt": ("descriptors", "Clean Descriptors"),
    "cleanStructContOpt": ("structured_content", "Clean Structured Content"),
    "cleanGraphOpt": ("graphics", "Clean Graphics"),
    "rtnSafePrivOpt": ("safe_private", "Retain Safe Private"),
}
_NAMES = dict(COLUMNS.values())
# What a compound code means for an image object. Zero length is allowed for types 2 and 3 and says nothing, so it
# stands for every compound that allows it; the enhanced multi-frame IODs make several of these type 1 (PS3.3), hence D.
# Sequences of which an empty one is not allowed (types 3 and 1C with 1-n items, PS3.3 C.7.2.1 and C.7.3.1).
_NEVER_EMPTY = frozenset({0x00081110, 0x00081111})
_CLASSIC = {"X/Z": "Z", "X/D": "X", "Z/D": "Z", "X/Z/D": "Z", "X/Z/U*": "U"}
_ENHANCED = {"X/Z": "Z", "X/D": "D", "Z/D": "D", "X/Z/D": "D", "X/Z/U*": "U"}


@cache
def table() -> tuple[Row, ...]:
    """Every row, in the order of the standard."""
    found = []
    with TABLE.open(encoding="utf-8", newline="") as f:
        for record in csv.DictReader(f):
            options = {ours: record[column] for column, (ours, _) in COLUMNS.items() if record[column]}
            match = _TAG.fullmatch(record["tag"])
            tag = int(match[1] + match[2], 16) if match else 0
            name = " ".join(record["name"].split())
            found.append(Row(tag, record["tag"], name, record["basicProfile"], options))
    return tuple(found)


@cache
def rows() -> tuple[Row, ...]:
    """The rows for single attributes. Curves, overlays and private groups are patterns, settled by group instead."""
    return tuple(row for row in table() if row.tag)


def resolve(row: Row, options: Options, enhanced: bool, *, safe_private: bool = False) -> tuple[Action, str]:
    """The one action of a row under a policy, and the rule it follows from.

    An option's K wins over another's C, and either over the profile (E.3). A date of a device is a date: whether it
    stays is for the dates to say, so that a policy which moves or removes dates does so everywhere.
    """
    chosen = _chosen(options, safe_private)
    codes = {option: code for option, code in row.options.items() if option in chosen}
    if "full_dates" in row.options:
        codes.pop("device", None)
    for wanted in ("K", "C"):
        for option, code in codes.items():
            if code == wanted:
                return Action(code), f"{_NAMES[option]} {code}"
    compounds = _ENHANCED if enhanced else _CLASSIC
    code = "X" if row.tag in _NEVER_EMPTY else compounds.get(row.basic, row.basic)
    return Action(code), f"Basic Profile {row.basic}"


def _chosen(options: Options, safe_private: bool) -> set[str]:
    chosen = {
        "descriptors": options.descriptors == "clean",
        "structured_content": options.structured_content == "clean",
        "graphics": options.graphics == "clean",
        "device": options.device,
        "institution": options.institution,
        "full_dates": options.dates == "keep",
        "modified_dates": options.dates == "shift",
        "patient_characteristics": options.patient_characteristics,
        "uids": options.uids == "keep",
        "safe_private": safe_private,
    }
    return {option for option, on in chosen.items() if on}


@cache
def actions(options: Options, enhanced: bool) -> dict[int, Action]:
    """Tag -> the one action of a policy."""
    return {row.tag: resolve(row, options, enhanced)[0] for row in rows()}


@cache
def required(enhanced: bool) -> frozenset[int]:
    """Tags that the profile gives a dummy because their IOD wants a value: cleaned, they may not end up empty."""
    compounds = _ENHANCED if enhanced else _CLASSIC
    return frozenset(row.tag for row in rows() if compounds.get(row.basic, row.basic) == "D")


@cache
def may_be_empty() -> frozenset[int]:
    """Tags that the profile lets stand without a value: one that is empty already says nothing, and may be required."""
    return frozenset(row.tag for row in rows() if set(row.basic.split("/")) & {"Z", "D"})


@cache
def identity_options(options: Options) -> frozenset[int]:
    """Tags whose value identifies a device or an institution and is kept because an option asks for it."""
    chosen = {"device": options.device, "institution": options.institution}
    return frozenset(row.tag for row in rows() if any(on and row.options.get(o) for o, on in chosen.items()))


@dataclass(frozen=True)
class Ruling:
    """What a policy does with one attribute, for people."""

    tag: str
    name: str
    action: Action
    rule: str


def rulings(policy: Policy) -> list[Ruling]:
    """The whole of a policy: every row of Table E.1-1, then the house rules for the rest of the data dictionary."""
    found = []
    for row in table():
        action, rule = resolve(row, policy.options, False, safe_private=policy.keeps_private)
        found.append(Ruling(row.pattern, row.name, action, rule))
    for tag, (name, rule) in dictionary_rules().items():
        action = {"keep": Action.KEEP, "remove": Action.REMOVE}.get(rule, Action.CLEAN)
        if rule in ("structured_content", "graphics") and getattr(policy.options, rule) != "clean":
            action = Action.REMOVE
        found.append(Ruling(f"({tag >> 16:04X},{tag & 0xFFFF:04X})", name, action, f"house rule: {rule}"))
    for (creator, group, element), _ in safe_private(policy.private).items():
        found.append(Ruling(f"({group:04X},xx{element:02X})", creator, Action.KEEP, "Retain Safe Private"))
    return found


@cache
def dictionary_rules() -> dict[int, tuple[str, str]]:
    """Tag -> (keyword, rule) for attributes of the data dictionary (PS3.6) that Table E.1-1 does not name.

    Texts stay by this list only; every other text of the dictionary is removed and counted. `keep`: technical terms;
    `term`: terms of the standard; `code`: parts of codes, as they are under a public scheme, else keyed or reduced;
    `clean`: only clinical words stay; `label`: the same, never left empty, because its IOD wants a value (type 1);
    `structured_content` and `graphics`: as `label`, under that option only; `remove`: what identifies.
    """
    with (DATA / "dictionary_rules.csv").open(encoding="utf-8", newline="") as f:
        return {int(r["tag"], 16): (r["keyword"], r["rule"]) for r in csv.DictReader(f)}


@cache
def safe_private(private: Private) -> dict[tuple[str, int, int], str]:
    """(creator, group, element) -> VR of the private elements that a policy keeps (PS3.15 E.3.10)."""
    found = {}
    if private.standard:
        with (DATA / "safe_private.csv").open(encoding="utf-8", newline="") as f:
            for r in csv.DictReader(f):
                found[r["creator"], int(r["group"], 16), int(r["element"], 16)] = r["vr"]
    return found | {(e.creator, e.group, e.element): e.vr for e in private.keep}
