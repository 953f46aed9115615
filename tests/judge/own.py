"""What a DICOM source says of people, places and times, collected the suspicious way round.

Nothing here knows the engine: every text of a source counts as identifying unless its attribute is on the short list
of what may stay. The engine lists what identifies; the judge lists what does not.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UID_dictionary

BULK = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
Path = tuple[str | int, ...]
"""Where an element stands: keywords, and between them the numbers of items."""
TEXT = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE"})
# Texts of the standard, of a maker or of a method: they may stay as they are, and excuse equal words elsewhere.
MAY_STAY = re.compile(
    r"Manufacturer\w*|SoftwareVersions|Code(Value|Meaning|ing\w*)|LongCodeValue|\w*Scheme\w*|MappingResource\w*"
    r"|ContextGroup\w*|ContextIdentifier|SequenceName|SequenceVariant|PulseSequenceName|ConvolutionKernel|FilterType"
    r"|Rescale\w*|LUT\w*|LossyImage\w*|DetectorType|FilterMaterial|ContrastBolus\w*|ScanOptions|PositionReference\w*"
    r"|\w*Units?\w*|PixelIntensity\w*|WindowCenterWidthExplanation|\w*Description\w*|BodyPartExamined|ReconstructionMethod"
    r"|ProtocolName|DerivationDescription|ImplementationVersionName|Algorithm\w*|DeidentificationMethod"
    r"|PlateType|SeriesType|RandomsCorrection\w*|AttenuationCorrection\w*|ScatterCorrection\w*|DecayCorrection|Radiopharma\w*"
    r"|TransducerType|ProcessingFunction|FrameOfReference\w*|ReceiveCoilName|TransmitCoilName|CoilName|ImagedNucleus"
    r"|ROI\w*|Segment\w*|Beam\w*|FractionGroup\w*|Dose\w*|RTPlan\w*|\w*Label|TypeOf\w*|Tolerance\w*"
)


@dataclass
class Own:
    """Values of one source. `kept` are texts that may stay and therefore prove nothing when found again."""

    names: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    dates: set[dt.date] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)


def own_values(ds: Dataset) -> Own:
    """Everything in all levels, the file meta and the preamble of a source."""
    own = Own()
    for part in (getattr(ds, "file_meta", None), ds):
        if part is not None:
            for _, keyword, vr, values in leaves(part):
                _add(own, keyword, vr, values)
    preamble = (getattr(ds, "preamble", None) or b"").strip(b"\0 ")
    own.texts.update(_printable(preamble))
    own.texts -= own.kept
    return own


def leaves(
    ds: Dataset, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], str, str, list[str]]]:
    """(path, keyword, VR, decoded values) of every element that is no sequence; private ones have no keyword."""
    for tag in sorted(ds.keys()):
        try:
            element = ds[tag]
            vr, value, keyword = element.VR, element.value, element.keyword
        except Exception:  # noqa: BLE001 - the sources are odd on purpose: what pydicom cannot convert is read raw
            raw = ds.get_item(tag)
            vr = raw.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
            value, keyword = raw.value, ""
        here = (*path, keyword or f"{int(tag):08X}")
        if vr == "SQ":
            for i, item in enumerate(value or ()):
                if isinstance(item, Dataset):
                    yield from leaves(item, (*here, i))
        elif keyword not in BULK:
            yield here, keyword, vr, _strings(value)


def _strings(value: object) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, bytes):
        return _printable(value)
    if isinstance(value, (str, int, float)) or not hasattr(value, "__iter__") or type(value).__name__ == "PersonName":
        return [str(value).strip(" \0")]
    return [str(v).strip(" \0") for v in value]


def _printable(value: bytes) -> list[str]:
    """Runs of at least five printable characters in bytes of no declared character set."""
    if len(value) > 1 << 16:
        return []
    text = value.decode("utf-8", "replace") if b"\0" not in value.strip(b"\0") else value.decode("latin-1")
    return [run for run in re.findall(r"[^\W_][\w ,.^=/:@'-]{4,}", text) if sum(c.isalpha() for c in run) >= 3]


def _add(own: Own, keyword: str, vr: str, values: list[str]) -> None:
    for value in values:
        if vr == "PN":
            own.names.update(group.strip("^ ") for group in value.split("=") if group.strip("^ "))
        elif vr == "UI":
            if value not in UID_dictionary and not value.startswith("1.2.840.10008."):
                own.uids.add(value)
        elif vr in ("DA", "DT"):
            if day := read_day(value):
                own.dates.add(day)
        elif vr == "CS" or (keyword and MAY_STAY.fullmatch(keyword)):
            own.kept.add(value)
        elif vr in TEXT or vr in ("UN", "OB"):
            own.texts.add(value)


def read_day(value: str) -> dt.date | None:
    """The day of a DA or DT value, the dotted form of ACR-NEMA included."""
    match = re.match(r"(\d{4})\.?(\d\d)\.?(\d\d)", value)
    try:
        return dt.date(*map(int, match.groups())) if match else None
    except ValueError:
        return None
