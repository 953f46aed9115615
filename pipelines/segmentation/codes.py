"""Codes of the structures that masks are of, for DICOM SEG: SNOMED CT, as far as pydicom's dictionary names them."""

from __future__ import annotations

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipelines.tables import LINE_STRUCTURES, STRUCTURES

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage."""
TYPES: dict[str, Code] = {
    "lung": codes.SCT.Lung,
    "heart": codes.SCT.Heart,
    "clavicle": codes.SCT.Clavicle,
    "rib": codes.SCT.Rib,
    "ett": codes.SCT.EndotrachealTube,
    "cvc": codes.SCT.CentralVenousCatheter,
    "swan_ganz": codes.SCT.PulmonaryArteryCatheter,
}
_STANDS_FOR = {"lungs": "lung", "left_lung": "lung", "right_lung": "lung"}


def category(structure: str) -> Code:
    """Segmented Property Category of a structure."""
    return codes.SCT.PhysicalObject if structure in LINE_STRUCTURES else codes.SCT.AnatomicalStructure


def property_type(structure: str) -> Code:
    """Segmented Property Type; the general one where no code names the structure, as the segment's label does."""
    found = TYPES.get(_STANDS_FOR.get(structure, structure))
    return found or (codes.SCT.Tube if structure in LINE_STRUCTURES else codes.SCT.AnatomicalStructure)


def structure_of(label: str, code: str) -> str | None:
    """The structure that a segment shows, by its label if that names one, else by its code value."""
    name = label.strip().lower().replace("-", "_").replace(" ", "_")
    return name if name in STRUCTURES else next((n for n, value in TYPES.items() if value.value == code), None)
