"""Content items of structured documents (PS3.3 C.17.3, PS3.16 TID 1001): which of them speak of the subject."""

from __future__ import annotations

from pydicom.dataset import Dataset

from pipelines.deidentify.values import OLDEST_YEARS
from pipelines.scan.dicom import text

# Concepts of CID 5009, 7455 and TID 1007 by code value, under DCM and the schemes that repeat them.
_IDENTITY = frozenset({"121028", "121029", "121030", "121031", "121022", "11878-6", "21112-8"})
_TRAITS = frozenset({"121032", "121033", "121110", "30525-0", "397669002", "424144002", "263495000", "371484003"})
_AGES = frozenset({"121033", "30525-0", "397669002", "424144002"})


def names_subject(item: Dataset, *, traits: bool) -> bool:
    """Whether a content item gives name, number or birth date of its subject, an age over 89, or without `traits` any
    characteristic. Such an item goes as a whole: a date of birth that was only moved would give the age away.
    """
    concepts = item.get("ConceptNameCodeSequence") or ()
    codes = {text(concept, "CodeValue") for concept in concepts}
    if codes & _IDENTITY or (not traits and codes & _TRAITS):
        return True
    return bool(codes & _AGES) and _too_old(item)


def _too_old(item: Dataset) -> bool:
    for measured in item.get("MeasuredValueSequence") or ():
        units = {text(unit, "CodeValue") for unit in measured.get("MeasurementUnitsCodeSequence") or ()}
        try:
            years = float(text(measured, "NumericValue") or "nan") / (1 if units <= {"a"} else 12)
        except ValueError:
            return True
        if not years < OLDEST_YEARS:
            return True
    return False
