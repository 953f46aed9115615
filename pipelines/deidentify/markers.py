"""What was done, written into each object: PS3.15 E.1.1 (0012,0062-0064), E.2, E.3.1, E.3.6 and PS3.16 CID 7050."""

from __future__ import annotations

from functools import cache

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipelines import __version__
from pipelines.deidentify.policy import Policy

# CID 7050 De-identification Method.
_METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113105": "Clean Descriptors Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}


def methods(policy: Policy, *, pixels_proved: bool) -> list[str]:
    """Codes of CID 7050 for what `policy` does; Clean Pixel Data only where the pixels were proven clean."""
    options = policy.options
    done = {
        "113100": True,
        "113101": pixels_proved,
        "113105": options.descriptors == "clean",
        "113107": options.dates == "shift",
        "113108": options.patient_characteristics,
        "113109": options.device,
        "113111": bool(policy.private.keep),
        "113112": options.institution,
    }
    return [code for code, was_done in done.items() if was_done]


@cache
def markers(policy: Policy, *, pixels_proved: bool) -> Dataset:
    """The markers as a dataset. No time of processing is written: the same input gives the same bytes."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = [f"PS3.15 {policy.edition} Table E.1-1", f"policy {policy.name} {policy.digest[:16]}"]
    ds.DeidentificationMethodCodeSequence = Sequence(
        [_code(code, "DCM", _METHODS[code]) for code in methods(policy, pixels_proved=pixels_proved)]
    )
    ds.LongitudinalTemporalInformationModified = "MODIFIED" if policy.options.dates == "shift" else "REMOVED"
    if pixels_proved:
        ds.BurnedInAnnotation = "NO"
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
