"""What was done, told in each object: PS3.15 E.1.1 (0012,0062-0064), E.2, E.3.1, E.3.2, E.3.6; PS3.16 CID 7050."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipelines import __version__
from pipelines.deidentify.policy import Policy

# CID 7050 De-identification Method.
_METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113103": "Clean Graphics Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}


_TEMPORAL = {"remove": "REMOVED", "shift": "MODIFIED", "keep": "UNMODIFIED"}


@dataclass(frozen=True)
class Done:
    """What was really done to one object, and verified."""

    pixels_proved: bool = False
    """Every frame was looked at, and no text is left."""
    uids_kept: bool = False
    """No UID had to be replaced."""
    recognizable: bool = False
    """A face could be drawn from it. The opposite is never claimed: nothing is defaced here."""
    burned_in: bool = False
    """The source says that text is burned in, and nobody proved it gone."""


def methods(policy: Policy, done: Done) -> list[str]:
    """Codes of CID 7050 for what `policy` did. 113102 (visual features cleaned) is never among them."""
    options = policy.options
    applied = {
        "113100": True,
        "113101": done.pixels_proved,
        "113103": options.graphics == "clean",
        "113104": options.structured_content == "clean",
        "113105": options.descriptors == "clean",
        "113106": options.dates == "keep",
        "113107": options.dates == "shift",
        "113108": options.patient_characteristics,
        "113109": options.device,
        "113110": options.uids == "keep" and done.uids_kept,
        "113111": policy.keeps_private,
        "113112": options.institution,
    }
    return [code for code, was_done in applied.items() if was_done]


@cache
def markers(policy: Policy, done: Done) -> Dataset:
    """The markers as a dataset. No time of processing is written: the same input gives the same bytes."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = [f"PS3.15 {policy.edition} Table E.1-1", f"policy {policy.name} {policy.digest[:16]}"]
    ds.DeidentificationMethodCodeSequence = Sequence(
        [_code(code, "DCM", _METHODS[code]) for code in methods(policy, done)]
    )
    ds.LongitudinalTemporalInformationModified = _TEMPORAL[policy.options.dates]
    if done.pixels_proved or done.burned_in:
        ds.BurnedInAnnotation = "NO" if done.pixels_proved else "YES"
    if done.recognizable:
        ds.RecognizableVisualFeatures = "YES"
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = Sequence([_code("109104", "DCM", "De-identifying Equipment")])
    equipment.Manufacturer, equipment.ManufacturerModelName = "Intramural", "intramural deidentify"
    equipment.SoftwareVersions = __version__
    ds.ContributingEquipmentSequence = Sequence([equipment])
    return ds


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
