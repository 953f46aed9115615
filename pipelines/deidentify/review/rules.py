"""Which rule decided over an attribute, in one short sentence: the row of PS3.15 Table E.1-1, an option, or our own."""

from __future__ import annotations

from pydicom.datadict import dictionary_has_tag

from pipelines.deidentify.policy import Policy
from pipelines.deidentify.table import dictionary_rules, resolve, rows
from pipelines.deidentify.values import TEMPORAL, TEXT

_PSEUDONYMS = {
    0x00100010: "keyed pseudonym of the patient",
    0x00100020: "keyed pseudonym of the patient",
    0x00080050: "keyed pseudonym of the accession number",
}
# PS3.15 E.1.1 step 6, E.3.1, E.3.6: written from what was done and verified.
_MARKERS = {0x00120062, 0x00120063, 0x00120064, 0x00280301, 0x00280302, 0x00280303, 0x0018A001}
_BY_VR = {
    "UI": "not in the table; a UID that is no constant of the standard is mapped by key (U)",
    "PN": "not in the table; a name that no rule keeps is emptied",
    "AS": "not in the table; ages over 89 count as 90",
    "SQ": "not in the table; every item is cleaned by the same rules",
}


def code(tag: int) -> str:
    """(gggg,eeee)"""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


class Rules:
    """The rules of one policy for one kind of object."""

    CONTAINER = "PS3.15 E.1.1: preamble and file meta are replaced"
    WITHIN = "removed with the sequence that holds it"

    def __init__(self, policy: Policy, enhanced: bool) -> None:
        self.policy, self.enhanced = policy, enhanced
        self.rows = {row.tag: row for row in rows()}

    def explain(self, tag: int, vr: str, action: str) -> str:
        """The rule behind what happened to an attribute; `action` as in compare.Line."""
        group = tag >> 16
        if group == 2:
            return self.CONTAINER
        if tag in _MARKERS:
            return "PS3.15 E.1.1, E.3: marker, written from what was done and verified"
        if group & 1:
            return f"PS3.15 E.3.10: private attribute {'listed as safe' if action == 'kept' else 'not listed as safe'}"
        if group >> 8 in (0x50, 0x60):
            return f"Table E.1-1: {'curve' if group >> 8 == 0x50 else 'overlay'} data (X)"
        if tag == 0x00080005:
            return "own rule: every character set becomes ISO_IR 192"
        if action == "added":
            return "own rule: written by the de-identification"
        if tag & 0xFFFF == 0:
            return "own rule: group lengths are not carried over"
        if tag in self.rows:
            return self._of_table(tag)
        return self._own(tag, vr)

    def _of_table(self, tag: int) -> str:
        row = self.rows[tag]
        action, rule = resolve(row, self.policy.options, self.enhanced, safe_private=self.policy.keeps_private)
        told = f"Table E.1-1: {rule}" + (f", here {action}" if "/" in row.basic and rule.endswith(row.basic) else "")
        return f"{told}; {_PSEUDONYMS[tag]}" if tag in _PSEUDONYMS else told

    def _own(self, tag: int, vr: str) -> str:
        if not dictionary_has_tag(tag):
            return "allow-list: in neither the table nor the dictionary, so removed"
        if tag in dictionary_rules():
            return f"not in the table; house rule for this attribute: {dictionary_rules()[tag][1]}"
        if vr in _BY_VR:
            return _BY_VR[vr]
        if vr in TEMPORAL:
            return "not in the table; dates and times go by VR, like those in it"
        if vr in TEXT:
            return "allow-list: a text that no rule names, so removed"
        return "not in the table; kept as harmless by VR"
