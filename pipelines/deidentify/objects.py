"""What kind of object a DICOM file is, beyond its pixels: which risks its kind carries."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import UID

from pipelines.deidentify.vocabulary import listed_words, words
from pipelines.scan.dicom import items, text

# From a volume of these a face can be drawn (PS3.15 E.3.2).
_VOLUMES = frozenset({"CT", "MR", "PT", "NM"})
_TOLD_BY = (
    "BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName", "RequestedProcedureDescription",
    "PerformedProcedureStepDescription", "AcquisitionProtocolName",
)  # fmt: skip


def recognizable(ds: Dataset) -> bool:
    """Whether the header says that a face may be seen in the object or drawn from it. It can only raise the risk."""
    if text(ds, "RecognizableVisualFeatures") == "YES":
        return True
    modality, name = text(ds, "Modality"), UID(text(ds, "SOPClassUID")).name
    if modality == "XC" or "Photographic Image" in name or "Craniofacial" in name:
        return True
    if modality not in _VOLUMES:
        return False
    told = " ".join(text(ds, keyword) for keyword in _TOLD_BY)
    for item in items(ds, "AnatomicRegionSequence"):
        told += " " + text(item, "CodeMeaning")
    return bool(listed_words("head_words").intersection(words(told.replace("_", " "))))
