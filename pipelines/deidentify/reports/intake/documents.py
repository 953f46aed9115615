"""Reports inside DICOM: structured reports (PS3.3 A.35.1 to A.35.3) and encapsulated CDA (PS3.3 A.45.2)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from pydicom.charset import python_encoding
from pydicom.dataset import Dataset

from pipelines.deidentify.identities import from_dataset
from pipelines.deidentify.reasons import Quarantine
from pipelines.deidentify.reports.intake.clinical_document import parse_cda
from pipelines.deidentify.reports.intake.report import Rejected, SourceReport, Status, problem, stamp
from pipelines.deidentify.values import Malformed, parse_date
from pipelines.scan.dicom import configure_pydicom, per_file, read_object, text

# Basic Text, Enhanced and Comprehensive SR; the other SR classes hold measurements and doses.
REPORT_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (11, 22, 33))
CDA_CLASS = "1.2.840.10008.5.1.4.1.1.104.2"
DEEPEST = 32


def read_document(source_id: str, path: Path) -> Iterator[SourceReport | Rejected]:
    """The one report of a DICOM object; none for an SR without any text."""
    configure_pydicom()
    try:
        with per_file(), path.open("rb") as file:
            report = _report(source_id, read_object(file))
    except Quarantine as verdict:
        yield Rejected(source_id, "malformed", f"the document is {verdict.reason}")
    except ValueError as error:  # parse_cda's own words
        yield Rejected(source_id, "malformed", str(error))
    else:
        if report is not None:
            yield report


def _report(source_id: str, ds: Dataset) -> SourceReport | Rejected | None:
    keys = text(ds, "AccessionNumber"), text(ds, "StudyInstanceUID")
    if text(ds, "SOPClassUID") == CDA_CLASS:
        made = parse_cda(source_id, bytes(ds.get("EncapsulatedDocument") or b"").rstrip(b"\0"), *keys)
        if isinstance(made, Rejected):
            return made
        body, status, known = made.text, Status.UNKNOWN, made.identities | from_dataset(ds)
        charset = made.encoding
    else:
        body, status, known, charset = sr_text(ds), _status(ds), from_dataset(ds), _charset(ds)
        if not body:
            return None
    if trouble := problem(keys, body):
        return Rejected(source_id, "malformed", trouble)
    return SourceReport(
        source_id,
        keys[0],
        text(ds, "PatientID"),
        text(ds, "IssuerOfPatientID"),
        _day(text(ds, "StudyDate")),
        body,
        known,
        study_uid=keys[1],
        status=status,
        written=stamp(text(ds, "ContentDate") + text(ds, "ContentTime")),
        encoding=charset,
    )


def sr_text(ds: Dataset) -> str:
    """The TEXT items of a document tree, each after the headings of its containers, in their order."""
    lines: list[str] = []
    _walk(ds, "", lines, 0)
    return "\n".join(lines).strip()


def _walk(item: Dataset, heading: str, lines: list[str], depth: int) -> None:
    if depth > DEEPEST:
        raise Quarantine("unreadable", "nested too deeply")
    for child in item.get("ContentSequence") or ():
        name = _meaning(child)
        match text(child, "ValueType"):
            case "CONTAINER":
                _walk(child, name or heading, lines, depth + 1)
            case "TEXT":
                said = text(child, "TextValue").strip()
                if said:
                    lines.append(f"{name or heading}: {said}" if name or heading else said)
                _walk(child, heading, lines, depth + 1)
            case _:
                _walk(child, heading, lines, depth + 1)


def _meaning(item: Dataset) -> str:
    concept = next(iter(item.get("ConceptNameCodeSequence") or ()), None)
    return text(concept, "CodeMeaning").strip() if concept is not None else ""


def _status(ds: Dataset) -> Status:
    if text(ds, "CompletionFlag") == "PARTIAL":
        return Status.PRELIMINARY
    if ds.get("PredecessorDocumentsSequence"):
        return Status.CORRECTED
    return Status.FINAL if text(ds, "VerificationFlag") == "VERIFIED" else Status.UNKNOWN


def _charset(ds: Dataset) -> str:
    """Specific Character Set (PS3.3 C.12.1.1.2) as it stands; a term that is none of its terms is not repeated."""
    terms = text(ds, "SpecificCharacterSet").split("\\")
    return "\\".join(term or "ISO_IR 6" for term in terms) if set(terms) <= python_encoding.keys() else "undefined"


def _day(value: str) -> date | None:
    try:
        return parse_date(value)
    except Malformed:
        return None
