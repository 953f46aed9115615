"""The ten actions of MIDI-B (arXiv 2508.01889), written anew from their description: one instance against its source.

A check passes or fails for one element at its place, as in that benchmark: text_removed, date_shifted and uid_changed
pass when nothing stands there any more, what must be retained or mapped fails then. Stricter here: planted values are
also looked for in the whole file, mappings are held against the crosswalk of the tool that is judged, and where it
promises whole weeks all dates of an instance must have moved by one such number of days.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, UID_dictionary

from tests.judge.own import leaves, read_day
from tests.judge.search import full_names, header_bytes, patterns, spellings

ACTIONS = ("tag_retained", "text_notnull", "text_retained", "text_removed", "date_shifted", "uid_changed",
           "uid_consistent", "patid_consistent", "pixels_hidden", "pixels_retained")  # fmt: skip
REMOVALS = ("text_removed", "date_shifted", "uid_changed", "pixels_hidden")
# Clinical and technical attributes that must survive, as they are, under a policy for research over time.
RETAINED = frozenset(
    re.findall(
        r"\w+",
        """
    SOPClassUID Modality ImageType PresentationIntentType Manufacturer ManufacturerModelName BodyPartExamined
    ViewPosition ImageLaterality Laterality PatientOrientation PatientSex PatientAge PatientSize PatientWeight
    SeriesNumber InstanceNumber AcquisitionNumber KVP Exposure ExposureTime XRayTubeCurrent ExposureInuAs
    DistanceSourceToDetector DistanceSourceToPatient FilterType Grid DetectorType DetectorConfiguration
    ImagerPixelSpacing PixelSpacing PixelSpacingCalibrationType PixelAspectRatio SliceThickness SliceLocation
    ImagePositionPatient ImageOrientationPatient PixelIntensityRelationship PixelIntensityRelationshipSign
    SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation
    NumberOfFrames PlanarConfiguration SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue WindowCenter
    WindowWidth RescaleIntercept RescaleSlope RescaleType VOILUTFunction PresentationLUTShape LossyImageCompression
    LossyImageCompressionRatio LossyImageCompressionMethod CodeValue CodingSchemeDesignator CodeMeaning
    ReferencedSOPClassUID
    """,
    )
)
DESCRIPTIONS = ("StudyDescription", "SeriesDescription")
MOVED = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime", "StudyTime", "SeriesTime",
         "AcquisitionTime", "ContentTime")  # fmt: skip
FILLED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "PatientName",
          "Modality", "PatientIdentityRemoved", "DeidentificationMethodCodeSequence")  # fmt: skip
CLINICAL = frozenset(re.findall(r"\w+", "chest xr cr dx ap pa view lateral portable icu thorax 1 2"))


@dataclass(frozen=True)
class Check:
    """One action at one place. `where` is a path of keywords, never a value."""

    action: str
    where: str
    passed: bool


@dataclass(frozen=True)
class Mapping:
    """What a tool says it made of UIDs and patients: old to new, learnt on the way where the tool does not say."""

    uids: dict[str, str]
    patients: dict[str, str]
    whole_weeks: bool = False


def read(path: Path) -> Dataset:
    """A file as the engine may have got it: also a bare dataset without file meta (PS3.10 7.5)."""
    ds = dcmread(path, force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return ds


def header_checks(entry: dict[str, Any], source: Dataset, output: Path | None, known: Mapping) -> Iterator[Check]:
    """All checks of the header of one instance; `entry` is its part of the answer key. A missing output fails."""
    new = read(output) if output else Dataset()
    before = {path: (keyword, vr, values) for path, keyword, vr, values in leaves(source)}
    after = {path: values for path, _, _, values in leaves(new)}
    yield from _retained(before, after, _words(entry, "NAME"))
    for keyword in FILLED:
        value = new.get(keyword)
        yield Check("text_notnull", keyword, value is not None and str(value) not in ("", "[]"))
    yield from _removed(entry, before, after, output, new)
    yield from _dates(before, after, known.whole_weeks)
    yield from _uids(before, after, known)
    old = (entry["patient"], str(new.get("PatientID") or ""))
    yield Check("patid_consistent", "PatientID", bool(old[1]) and _one_to_one(known.patients, *old))


def _retained(before: dict, after: dict, names: set[str]) -> Iterator[Check]:
    for path, (keyword, _, values) in before.items():
        where, kept = _where(path), after.get(path, [])
        if keyword in RETAINED and any(values):
            yield Check("tag_retained", where, any(kept))
            yield Check("text_retained", where, _same(keyword, values, kept))
        elif keyword in MOVED and len(path) == 1 and any(values):
            yield Check("tag_retained", where, any(kept))
        elif keyword in DESCRIPTIONS:
            for word in sorted(tokens(" ".join(values)) & CLINICAL - names):
                yield Check("text_retained", where, word in tokens(" ".join(kept)))


def _same(keyword: str, old: list[str], new: list[str]) -> bool:
    if keyword == "PatientAge" and old[0][:3].isdigit() and old[0].endswith("Y") and int(old[0][:3]) > 89:
        return new[:1] == ["090Y"]
    return len(old) == len(new) and all(_equal(a, b) for a, b in zip(old, new, strict=True))


def _equal(a: str, b: str) -> bool:
    try:
        return a == b or float(a) == float(b)
    except ValueError:
        return False


def _removed(entry: dict[str, Any], before: dict, after: dict, output: Path | None, new: Dataset) -> Iterator[Check]:
    """Planted words at the places where the source has them, then whole planted values in all bytes of the file."""
    planted = [p for p in entry["planted"] if p["kind"] not in ("DATE", "UID")]
    words = {w for p in planted for w in tokens(p["value"]) if len(w) >= 3}
    for path, (keyword, vr, values) in before.items():
        if keyword in RETAINED or vr in ("UI", "DA", "DT", "TM", "CS", "DS", "IS", "AS"):
            continue
        if keyword == "IssuerOfPatientID" and values == ["PRACTICE"]:
            continue  # the mark of practice data, which stays by design; its hospitals are called by the same word
        there = words & tokens(" ".join(values))
        left = fold(" ".join(after.get(path, [])))
        yield from (Check("text_removed", _where(path), word not in left) for word in sorted(there))
    header = header_bytes(output.read_bytes(), new).lower() if output else b""
    for kind, where, value in sorted({(p["kind"], p["where"], p["value"]) for p in planted}):
        forms = full_names(value) if kind == "NAME" and "^" in value else [value]
        if kind == "NAME" and "^" not in value:
            continue  # a name part may be an ordinary word: judged at its places above
        found = any(p in header for form in forms for p in patterns(spellings(form)))
        yield Check("text_removed", f"whole file: {where}", not found)


def _dates(before: dict, after: dict, whole_weeks: bool) -> Iterator[Check]:
    moves = []
    for path, (_, vr, values) in before.items():
        if vr in ("DA", "DT"):
            for i, value in enumerate(values):
                then, new = read_day(value), after.get(path, [])
                now = read_day(new[i]) if i < len(new) else None
                if then:
                    moves.append((_where(path), (now - then).days if now else None))
    days = [d for _, d in moves if d is not None]
    constant = max(set(days), key=days.count, default=None)
    for where, moved in moves:
        weeks = not whole_weeks or (moved == constant and moved is not None and moved % 7 == 0)
        yield Check("date_shifted", where, moved is None or (moved != 0 and weeks))


def _uids(before: dict, after: dict, known: Mapping) -> Iterator[Check]:
    for path, (keyword, vr, values) in before.items():
        if vr != "UI" or not keyword:
            continue
        new = after.get(path, [])
        for i, uid in enumerate(values):
            if not uid or uid in UID_dictionary or uid.startswith("1.2.840.10008."):
                continue
            made = new[i] if i < len(new) else ""
            yield Check("uid_changed", _where(path), made != uid)
            yield Check("uid_consistent", _where(path), bool(made) and _one_to_one(known.uids, uid, made))


def _one_to_one(mapping: dict[str, str], old: str, new: str) -> bool:
    return mapping.setdefault(old, new) == new


def _where(path: tuple[str | int, ...]) -> str:
    return ".".join(p for p in map(str, path) if not p.isdigit() or len(p) > 4)


def _words(entry: dict[str, Any], kind: str) -> set[str]:
    return {w for p in entry["planted"] if p["kind"] == kind for w in tokens(p["value"])}


def tokens(text: str) -> set[str]:
    """Words and numbers, folded; `O'Sullivan` is one."""
    return set(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", fold(text)))


def fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
