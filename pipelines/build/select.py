"""Which images enter a cohort: rules over header facts, each counted (the flow table)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

HEADER_TAGS = [
    "SOPClassUID",
    "Modality",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "ViewPosition",
    "ViewCodeSequence",
    "PresentationIntentType",
    "ImageType",
    "IrradiationEventUID",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "StudyDate",
    "SeriesNumber",
    "InstanceNumber",
    "PatientAge",
    "PatientSex",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagerPixelSpacing",
]
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
CHEST = ("CHEST", "THORAX", "LUNG", "RIB")
FRONTAL = {"AP", "PA"}
LATERAL = {"LATERAL", "LAT", "LL", "RL", "L", "R", "LLAT", "RLAT", "LEFT LATERAL", "RIGHT LATERAL"}
# SCT and SNOMED RT codes of CID 4010 that name a chest projection.
VIEW_CODES = {
    "272479007": "PA",
    "R-40888": "PA",
    "399348003": "AP",
    "R-10206": "AP",
    "399067008": "LATERAL",
    "399173006": "LATERAL",
    "R-10236": "LATERAL",
    "399198007": "LATERAL",
    "R-10232": "LATERAL",
}


@dataclass(frozen=True)
class Header:
    """What selection and the index need of one image."""

    candidate: dict[str, Any]
    chest: bool
    grey: bool
    view: str
    """AP | PA | LATERAL | unknown | other (a projection a cohort never holds, an oblique say)."""
    for_processing: bool
    exposure: str | None
    """Names the exposure the image was made from; null when the header does not say."""
    rank: tuple[int, int, int, str]
    """Among copies of one exposure the lowest is kept: originals before derived, then as numbered."""
    modality: str
    sex: str | None
    age: int | None
    date: str | None
    spacing: tuple[float, float] | None


def read_facts(candidate: dict[str, Any], ds: Dataset) -> Header:
    """Facts of one image from its header; values that make no sense count as absent."""
    rows, columns = _number(ds.get("Rows")), _number(ds.get("Columns"))
    frames = _number(ds.get("NumberOfFrames")) or 1
    grey = bool(rows and columns) and frames == 1 and _number(ds.get("SamplesPerPixel")) == 1
    grey = grey and ds.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
    modality = str(ds.get("Modality") or "")
    derived = "DERIVED" in [str(value) for value in _values(ds.get("ImageType"))]
    numbers = (_number(ds.get("SeriesNumber")) or 0, _number(ds.get("InstanceNumber")) or 0)
    intent = str(ds.get("PresentationIntentType") or "")
    date = str(ds.get("StudyDate") or "")
    return Header(
        candidate=candidate,
        chest=modality in ("CR", "DX") and _is_chest(ds),
        grey=grey,
        view=read_view(ds),
        for_processing=intent == "FOR PROCESSING" or ds.get("SOPClassUID") == DX_FOR_PROCESSING,
        exposure=_exposure(ds),
        rank=(int(derived), *numbers, candidate["instance"]),
        modality=modality,
        sex=ds.get("PatientSex") if ds.get("PatientSex") in ("F", "M", "O") else None,
        age=read_age(str(ds.get("PatientAge") or "")),
        date=f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 and date.isdigit() else None,
        spacing=_spacing(ds),
    )


def read_view(ds: Dataset) -> str:
    """The projection from ViewPosition, else ViewCodeSequence; `unknown` when neither says."""
    words = str(ds.get("ViewPosition") or "").upper().replace("_", " ").strip()
    if words.split(" ")[0] in FRONTAL:
        return words.split(" ")[0]
    if words in LATERAL:
        return "LATERAL"
    for item in ds.get("ViewCodeSequence") or []:
        if code := VIEW_CODES.get(str(item.get("CodeValue") or "")):
            return code
    return "other" if words else "unknown"


def read_age(text: str) -> int | None:
    """Whole years of an Age String (PS3.5 6.2: nnnD, nnnW, nnnM or nnnY), 90 for 90 and over; None when malformed."""
    if len(text) != 4 or not text[:3].isdigit() or text[3] not in "DWMY":
        return None
    per_year = {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1}[text[3]]
    return min(90, int(int(text[:3]) / per_year))


def apply_rules(headers: list[Header], views: tuple[str, ...], minimum_age: int) -> Iterable[tuple[str, list[Header]]]:
    """Yield (rule, headers that remain) after each rule. Headers must hold whole studies."""

    def drop(remain: list[Header], excluded: Callable[[Header], bool]) -> list[Header]:
        return [h for h in remain if not excluded(h)]

    headers = drop(headers, lambda h: not h.chest)
    yield "Chest radiograph, CR or DX", headers
    headers = drop(headers, lambda h: not h.grey)
    yield "One grey frame", headers
    headers = drop(headers, lambda h: h.view not in views)
    yield f"View {', '.join(views)}", headers
    shown = {(h.candidate["study"], h.view) for h in headers if not h.for_processing}
    headers = drop(headers, lambda h: h.for_processing and (h.candidate["study"], h.view) in shown)
    yield "FOR PROCESSING only where nothing is FOR PRESENTATION", headers
    headers = _once_each_exposure(headers)
    yield "Reprocessed copies of an exposure once", headers
    headers = drop(headers, lambda h: h.age is not None and h.age < minimum_age)
    yield f"Age {minimum_age} and over, or unknown", headers


def _once_each_exposure(headers: list[Header]) -> list[Header]:
    best: dict[tuple[str, str, str], Header] = {}
    for h in headers:
        if h.exposure:
            key = (h.candidate["study"], h.view, h.exposure)
            if key not in best or h.rank < best[key].rank:
                best[key] = h
    return [h for h in headers if not h.exposure or best[(h.candidate["study"], h.view, h.exposure)] is h]


def _exposure(ds: Dataset) -> str | None:
    events = [str(uid) for uid in _values(ds.get("IrradiationEventUID"))]
    if len(events) == 1:
        return events[0]
    moment = str(ds.get("AcquisitionDateTime") or "")
    moment = moment or str(ds.get("AcquisitionDate") or "") + str(ds.get("AcquisitionTime") or "")
    # A policy may put midnight in place of every time: that tells no two exposures apart.
    return moment if len(moment) >= 14 and moment[8:].strip("0.") else None


def _is_chest(ds: Dataset) -> bool:
    """Whether the header names the chest. One that names no body part passes: half of all CR headers are blank."""
    part = str(ds.get("BodyPartExamined") or "").upper()
    for item in ds.get("AnatomicRegionSequence") or []:
        part = part or str(item.get("CodeMeaning") or "").upper()
    return not part or any(word in part for word in CHEST)


def _spacing(ds: Dataset) -> tuple[float, float] | None:
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        values = _values(ds.get(name))
        if len(values) == 2 and all(float(value) > 0 for value in values):
            return float(values[0]), float(values[1])
    return None


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if not isinstance(value, str) and hasattr(value, "__iter__") else [value]


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
