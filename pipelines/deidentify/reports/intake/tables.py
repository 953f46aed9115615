"""Reports in tables: CSV and TSV, JSON lines, Parquet; one report a row."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.deidentify.reports.dates import parse_any
from pipelines.deidentify.reports.intake.report import (
    MAX_CHARACTERS,
    Persons,
    Rejected,
    SourceReport,
    Status,
    decode_text,
    named,
    person,
    problem,
    stamp,
    text_lines,
)

# Column names in use, by what they hold; compared without case, spaces and punctuation.
COLUMNS: dict[str, tuple[str, ...]] = {
    "accession": ("accession", "accessionnumber", "accessionno", "acc", "ordernumber", "examid"),
    "study_uid": ("studyinstanceuid", "studyuid", "studyinstance", "suid"),
    "patient_id": ("patientid", "mrn", "patientmrn", "medicalrecordnumber", "pid", "subjectid"),
    "issuer": ("issuer", "issuerofpatientid", "assigningauthority"),
    "name": ("name", "patientname", "patient"),
    "date": ("ordered", "studydate", "examdate", "date", "performed", "ordereddate"),
    "birth": ("dob", "birthdate", "dateofbirth", "patientbirthdate"),
    "signed": ("signed", "signeddate", "reportdate", "dictated", "finalized"),
    "status": ("status", "reportstatus", "resultstatus"),
    "staff": ("radiologist", "physician", "referringphysician", "author", "signedby", "reader", "orderingphysician"),
    "phone": ("phone", "telephone", "patientphone"),
    "address": ("address", "patientaddress"),
    "institution": ("institution", "hospital", "facility", "site", "institutionname"),
    "text": ("text", "report", "reporttext", "body", "narrative", "content"),
    "findings": ("findings",),
    "impression": ("impression", "conclusion"),
}
LONGEST_ROW = 20 * MAX_CHARACTERS  # characters; a quote that is never closed must not swallow a file of gigabytes
_KEYS = ("accession", "study_uid", "patient_id")
_STATUS = {
    "p": Status.PRELIMINARY, "preliminary": Status.PRELIMINARY, "prelim": Status.PRELIMINARY,
    "draft": Status.PRELIMINARY,
    "f": Status.FINAL, "final": Status.FINAL, "signed": Status.FINAL,
    "c": Status.CORRECTED, "corrected": Status.CORRECTED, "amended": Status.CORRECTED, "revised": Status.CORRECTED,
    "a": Status.ADDENDUM, "addendum": Status.ADDENDUM, "addended": Status.CORRECTED,
    "x": Status.WITHDRAWN, "cancelled": Status.WITHDRAWN, "canceled": Status.WITHDRAWN, "withdrawn": Status.WITHDRAWN,
}  # fmt: skip
Item = SourceReport | Rejected


def read_csv(source_id: str, path: Path, columns: Mapping[str, str]) -> Iterator[Item]:
    """Rows of a CSV or TSV file with a header line; the delimiter is the one its header uses most."""
    header: dict[str, int] | None = None
    width, mapped = 0, ()
    for line, row, charset in _records(path):
        if row is None:
            yield Rejected(source_id, "malformed", f"quoting is broken in the row that begins on line {line}")
        elif header is None:
            header, width, mapped = find_columns(row, columns), len(row), as_said(row, columns)
            if lack := missing(header):
                yield Rejected(source_id, "malformed", lack)
                return
        elif len(row) != width:
            yield Rejected(source_id, "malformed", f"line {line} has {len(row)} cells of {width}")
        else:
            cells = {name: row[i].strip() for name, i in header.items()}
            yield report(source_id, cells, f"line {line}", charset, mapped)


class _Lines:
    """Lines of a file for a CSV reader, which can be taken back since the last row began."""

    def __init__(self, path: Path) -> None:
        self.source = text_lines(path)
        self.again: deque[tuple[str, str]] = deque()
        self.row: list[tuple[str, str]] = []
        self.size = 0
        self.number = 1
        """Of the row's first line, from 1."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else next(self.source)
        self.row.append(line)
        self.size += len(line[0])
        if self.size > LONGEST_ROW:
            raise csv.Error
        return line[0].replace("\0", "")

    def begin(self) -> None:
        """The next row begins on the next line."""
        self.number += len(self.row)
        self.row, self.size = [], 0

    def begin_on_second(self) -> None:
        """The next row begins on the second line of this one."""
        self.again.extendleft(reversed(self.row[1:]))
        self.number += 1
        self.row, self.size = [], 0


def _records(path: Path) -> Iterator[tuple[int, list[str] | None, str]]:
    """(first line, cells, character set) of each row that is not blank; None for cells whose quoting is broken.

    A quote that is never closed swallows the rows behind it. So after a broken row, or one of several lines that has
    not as many cells as the header, reading begins again on its second line: no row is lost to its neighbour.
    """
    csv.field_size_limit(LONGEST_ROW)
    first = next(text_lines(path), ("", ""))[0]
    delimiter = max(",;\t|", key=first.count)
    lines, width = _Lines(path), 0
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            row: list[str] | None = next(reader)
        except StopIteration:
            return
        except csv.Error:
            row = None
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
        if row is None or any(cell.strip() for cell in row):
            yield lines.number, row, named([charset for _, charset in lines.row])
            width = width or len(row or ())
        if row is None or (len(row) != width and len(lines.row) > 1):
            lines.begin_on_second()
        else:
            lines.begin()


def read_json_lines(source_id: str, path: Path, columns: Mapping[str, str]) -> Iterator[Item]:
    """One JSON object a line; null and absent values are empty."""
    for number, (line, charset) in enumerate(text_lines(path), 1):
        if not line.strip("\0\r\n\t "):
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield Rejected(source_id, "malformed", f"line {number} is no JSON")
            continue
        if not isinstance(row, dict):
            yield Rejected(source_id, "malformed", f"line {number} is no JSON object")
            continue
        yield _mapped(source_id, row, columns, f"line {number}", charset)


def read_parquet(source_id: str, path: Path, columns: Mapping[str, str]) -> Iterator[Item]:
    """Rows of a Parquet table, read in batches."""
    try:
        table = pq.ParquetFile(path)
        number = 0
        for batch in table.iter_batches(1024):
            for row in batch.to_pylist():
                number += 1
                yield _mapped(source_id, row, columns, f"row {number}", "utf-8")
    except (pa.ArrowInvalid, pa.ArrowException, OSError):
        yield Rejected(source_id, "malformed", "the Parquet file is damaged or cut off")


def find_columns(row: list[str], columns: Mapping[str, str]) -> dict[str, int]:
    """What each column holds -> its number: as the site says where the table has it, else by the names in use.

    Tables of one export need not be laid out alike; what no table has is said at the end (summary.py).
    """
    plain = [_plain(cell) for cell in row]
    found = {}
    for name, known in COLUMNS.items():
        wanted = (_plain(columns[name]), *known) if name in columns else known
        if match := next((w for w in wanted if w in plain), None):
            found[name] = plain.index(match)
    return found


def as_said(row: list[str], columns: Mapping[str, str]) -> tuple[str, ...]:
    """Which of the columns that the site names the table has."""
    plain = {_plain(cell) for cell in row}
    return tuple(name for name, column in columns.items() if _plain(column) in plain)


def missing(header: Mapping[str, int]) -> str:
    """Why a table with these columns holds no reports; empty when it can."""
    texts = {"text", "findings", "impression"}
    if header.keys() & set(_KEYS) and header.keys() & texts:
        return ""
    return "the table needs a column of texts and one of accession, study_uid, or patient_id and date"


def report(source_id: str, cells: Mapping[str, str], where: str, encoding: str, mapped: tuple[str, ...] = ()) -> Item:
    """One row as a report; `cells` are named as in COLUMNS, those of `mapped` by the site."""

    def get(name: str) -> str:
        return cells.get(name, "")

    text = get("text") or _sections(get("findings"), get("impression"))
    by_date = get("patient_id") if parse_any(get("date")) else ""
    if trouble := problem((get("accession"), get("study_uid"), by_date), text):
        return Rejected(source_id, "malformed", f"{where}: {trouble}")
    who = Persons(
        names={person(get(k)) for k in ("name", "staff")},
        ids={get("accession"), get("patient_id")},
        dates={parse_any(get(k)) for k in ("date", "signed", "birth")},
        phones={get("phone")},
        addresses={get("address")},
        institutions={get("institution")},
        uids={get("study_uid")},
    )
    return SourceReport(
        source_id,
        get("accession"),
        get("patient_id"),
        get("issuer"),
        parse_any(get("date")),
        text,
        who.identities(),
        study_uid=get("study_uid"),
        status=_STATUS.get(get("status").lower(), Status.UNKNOWN),
        written=stamp(get("signed")),
        encoding=encoding,
        place=where,
        mapped=mapped,
    )


def _mapped(source_id: str, row: dict[str, Any], columns: Mapping[str, str], where: str, encoding: str) -> Item:
    keys = list(map(str, row))
    header = find_columns(keys, columns)
    if lack := missing(header):
        return Rejected(source_id, "malformed", f"{where}: {lack}")
    values = list(row.values())
    cells = {name: _text(values[i]) for name, i in header.items()}
    return report(source_id, cells, where, encoding, as_said(keys, columns))


def _text(value: Any) -> str:
    # What pandas writes for an absent value is a number that is none.
    if value is None or isinstance(value, (dict, list)) or value != value:
        return ""
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, bytes):
        return decode_text(value)[0].strip()
    # A number that a spreadsheet made of an accession number has lost nothing but its form.
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def _sections(findings: str, impression: str) -> str:
    parts = (("FINDINGS", findings), ("IMPRESSION", impression))
    return "\n\n".join(f"{heading}: {body}" for heading, body in parts if body)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
