"""Reports as a hospital hands them over: tables (CSV, TSV) and HL7 v2 messages. Nothing is skipped silently."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reports import hl7
from pipelines.deidentify.reports.dates import parse_any

MAX_CHARACTERS = 200_000  # a report is a few thousand; what is longer is not one
# Column names in use, by what they hold; compared without case, spaces and punctuation.
COLUMNS: dict[str, tuple[str, ...]] = {
    "accession": ("accession", "accessionnumber", "accessionno", "acc", "ordernumber", "examid"),
    "patient_id": ("patientid", "mrn", "patientmrn", "medicalrecordnumber", "pid", "subjectid"),
    "issuer": ("issuer", "issuerofpatientid", "assigningauthority"),
    "name": ("name", "patientname", "patient"),
    "date": ("ordered", "studydate", "examdate", "date", "performed", "ordereddate"),
    "birth": ("dob", "birthdate", "dateofbirth", "patientbirthdate"),
    "signed": ("signed", "signeddate", "reportdate", "dictated", "finalized"),
    "staff": ("radiologist", "physician", "referringphysician", "author", "signedby", "reader", "orderingphysician"),
    "phone": ("phone", "telephone", "patientphone"),
    "address": ("address", "patientaddress"),
    "institution": ("institution", "hospital", "facility", "site", "institutionname"),
    "text": ("text", "report", "reporttext", "body", "narrative", "content"),
}
STAFF_FIELDS = {"PV1": (7, 8, 9, 17, 52), "OBR": (16, 28), "ORC": (12,), "OBX": (16,)}
READER_FIELDS = (32, 33, 34, 35)  # OBR, composite: name in the subcomponents of the first component


@dataclass(frozen=True)
class SourceReport:
    """One report as it came, with what its own row or message says of persons. Never logged."""

    source_id: str
    accession: str
    patient_id: str
    issuer: str
    date: date | None
    text: str
    identities: Identities


@dataclass(frozen=True)
class Rejected:
    """An input that is no usable report; `reason` is a code of identities.REASONS, `detail` holds no PHI."""

    source_id: str
    reason: str
    detail: str


def read_reports(export: Path, files: Iterable[tuple[str, Path]]) -> Iterator[SourceReport | Rejected]:
    """Every report of the files (source_id, path below `export`), in their order, or why there is none. Never raises
    for what a file holds."""
    for source_id, path in files:
        try:
            data = (export / path).read_bytes()
        except OSError:
            yield Rejected(source_id, "malformed", "the file cannot be read")
            continue
        if not data.strip(b"\0\r\n\t \x0b\x1c"):
            yield Rejected(source_id, "empty", "")
        elif path.suffix.lower() in (".csv", ".tsv"):
            yield from _read_table(source_id, data)
        else:
            yield from _read_messages(source_id, data)


# ---- tables ------------------------------------------------------------------------------------------------------


def decode_text(data: bytes) -> str:
    """Text by its byte order mark, else UTF-8, else Windows-1252; undefined bytes of that become U+FFFD."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _read_table(source_id: str, data: bytes) -> Iterator[SourceReport | Rejected]:
    text = decode_text(data).replace("\0", "")
    csv.field_size_limit(max(len(text), 1 << 17) + 1)
    delimiter = max(",;\t|", key=text[: text.find("\n") if "\n" in text else len(text)].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: dict[str, int] | None = None
    width = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield Rejected(source_id, "malformed", f"quoting is broken near line {reader.line_num}")
            continue
        if not any(cell.strip() for cell in row):
            continue
        if header is None:
            header, width = _columns(row), len(row)
            if not {"accession", "text"} <= header.keys():
                yield Rejected(source_id, "malformed", "the table needs the columns accession and text")
                return
        elif len(row) != width:
            yield Rejected(source_id, "malformed", f"line {reader.line_num} has {len(row)} cells of {width}")
        else:
            cells = {name: row[i].strip() for name, i in header.items()}
            yield _report(source_id, cells, f"line {reader.line_num}")


def _columns(row: list[str]) -> dict[str, int]:
    """Which column holds what; the first one that fits."""
    plain = [re.sub(r"[\W_]+", "", cell).lower() for cell in row]
    return {name: next(plain.index(s) for s in known if s in plain) for name, known in COLUMNS.items() if
            any(s in plain for s in known)}  # fmt: skip


def _report(source_id: str, cells: dict[str, str], where: str) -> SourceReport | Rejected:
    get = cells.get
    if problem := _problem(get("accession", ""), get("text", "")):
        return Rejected(source_id, "malformed", f"{where}: {problem}")
    dates = [parse_any(get(k, "")) for k in ("date", "signed", "birth")]
    identities = Identities(
        names=frozenset(pn for k in ("name", "staff") if (pn := person(get(k, "")))),
        ids=frozenset(v for k in ("accession", "patient_id") if (v := get(k, ""))),
        dates=frozenset(d for d in dates if d),
        phones=frozenset(v for v in [get("phone", "")] if v),
        addresses=frozenset(v for v in [get("address", "")] if v),
        institutions=frozenset(v for v in [get("institution", "")] if v),
    )
    return SourceReport(
        source_id, cells["accession"], get("patient_id", ""), get("issuer", ""), dates[0], cells["text"], identities
    )


def person(name: str) -> str:
    """A name as written in a table, as PN: `Family, Given` or `Given Family`, or PN already."""
    name = name.strip()
    if "^" in name or not name:
        return name
    if "," in name:
        family, given = name.split(",", 1)
    else:
        given, _, family = name.rpartition(" ")
    return f"{family.strip()}^{given.strip()}".rstrip("^")


def _problem(accession: str, text: str) -> str:
    if not accession:
        return "no accession number"
    if not text.strip():
        return "the text is empty"
    return "the text is too long for a report" if len(text) > MAX_CHARACTERS else ""


# ---- messages ----------------------------------------------------------------------------------------------------


def _read_messages(source_id: str, data: bytes) -> Iterator[SourceReport | Rejected]:
    count = 0
    for count, message in enumerate(hl7.parse(data), 1):
        if not message.whole:
            yield Rejected(source_id, "malformed", f"message {count} is cut off")
            continue
        groups = _observation_groups(message)
        if not groups:
            yield Rejected(source_id, "malformed", f"message {count} holds no result")
        for request, observations in groups:
            yield _message_report(source_id, message, request, observations, f"message {count}")
    if not count:
        yield Rejected(source_id, "malformed", "no HL7 message")


def _observation_groups(message: hl7.Message) -> list[tuple[hl7.Segment, list[hl7.Segment]]]:
    """Each OBR with its OBX; OBR of one accession number are one report."""
    groups: list[tuple[hl7.Segment, list[hl7.Segment]]] = []
    for segment in message.segments:
        if segment.name == "OBR":
            if not groups or _accession(groups[-1][0]) != _accession(segment):
                groups.append((segment, []))
        elif segment.name == "OBX" and groups:
            groups[-1][1].append(segment)
    return groups


def _accession(request: hl7.Segment) -> str:
    """Filler order number, else placer order number, else placer field 1 (IHE RAD TF-2)."""
    values = [(request.repetitions(n) or [[""]])[0][0].strip() for n in (3, 2, 18)]
    return next((v for v in values if v), "")


def _message_report(
    source_id: str, message: hl7.Message, request: hl7.Segment, observations: list[hl7.Segment], where: str
) -> SourceReport | Rejected:
    accession, text = _accession(request), hl7.report_text(observations)
    if problem := _problem(accession, text):
        return Rejected(source_id, "malformed", f"{where}: {problem}")
    pid = next(iter(message.all("PID")), None)
    identifiers = pid.repetitions(3) if pid else []
    first = identifiers[0] if identifiers else [""]
    when = parse_any(request.field(7)[:8]) or parse_any((message.all("MSH")[0].field(7))[:8])
    return SourceReport(
        source_id,
        accession,
        first[0].strip(),
        first[3].strip() if len(first) > 3 else "",
        when,
        text,
        _message_identities(message, accession),
    )


def _message_identities(message: hl7.Message, accession: str) -> Identities:
    names, ids, dates, phones, addresses = set(), {accession}, set(), set(), set()
    for pid in message.all("PID"):
        names |= {"^".join(r[:5]) for n in (5, 6, 9) for r in pid.repetitions(n)}
        ids |= {r[0].strip() for n in (2, 3, 4, 18, 19) for r in pid.repetitions(n)}
        phones |= {r[0].strip() for n in (13, 14) for r in pid.repetitions(n)}
        addresses |= {", ".join(c for c in r[:5] if c) for r in pid.repetitions(11)}
        dates.add(parse_any(pid.field(7)[:8]))
    for name, numbers in STAFF_FIELDS.items():
        for segment in message.all(name):
            names |= {"^".join(r[1:4]) for n in numbers for r in segment.repetitions(n) if len(r) > 1}
    for segment in message.all("OBR"):
        ids |= {r[0].strip() for n in (2, 3) for r in segment.repetitions(n)}
        dates |= {parse_any(segment.field(n)[:8]) for n in (6, 7, 8, 22)}
        for number in READER_FIELDS:
            parts = segment.field(number).split(message.component)[0].split(message.subcomponent)
            names.add("^".join(message.unescape(p) for p in parts[1:4]))
    return Identities(
        names=frozenset(n for n in names if n.strip("^ ")),
        ids=frozenset(i for i in ids if i),
        dates=frozenset(d for d in dates if d),
        phones=frozenset(p for p in phones if p),
        addresses=frozenset(a for a in addresses if a),
    )
