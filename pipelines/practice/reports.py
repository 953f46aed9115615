"""Signed report texts with planted identities and their offsets, and the two forms hospitals hand over: CSV and HL7."""

from __future__ import annotations

import csv
import datetime as dt
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.practice.people import Person
from pipelines.practice.plan import Study
from pipelines.practice.sentences import findings_text, impression_text, indication, technique

DATES = ("%m/%d/%Y", "%d %B %Y", "%Y-%m-%d", "%d.%m.%Y", "%b %d, %Y")


@dataclass
class Text:
    """A text being composed; identifiers are noted with their offsets (in characters) as they are written."""

    parts: list[str] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)
    length: int = 0

    def put(self, *texts: str) -> None:
        """Add plain text."""
        for text in texts:
            self.parts.append(text)
            self.length += len(text)

    def plant(self, text: str, kind: str) -> None:
        """Add an identifier."""
        self.spans.append({"type": kind, "start": self.length, "end": self.length + len(text), "text": text})
        self.put(text)

    def __str__(self) -> str:
        return "".join(self.parts)


def report_text(
    study: Study, prior: Study | None, tips: dict[str, str], person: Person, doctor: Person, rng: np.random.Generator
) -> tuple[str, list[dict[str, Any]]]:
    """A report that agrees with the images; returns the text and the spans of every identifier in it."""
    text, style = Text(), int(rng.integers(4))
    name = _one(
        rng,
        f"{person.first} {person.last}",
        f"{person.last}, {person.first}",
        f"{person.last.upper()}, {person.first.upper()}",
    )
    text.put("PATIENT: ")
    text.plant(name, "NAME")
    text.put("  MRN: ")
    text.plant(person.mrn, "ID")
    if style in (0, 2):
        text.put("  DOB: ")
        text.plant(person.birth.strftime(_one(rng, "%m/%d/%Y", "%d-%b-%Y")), "DATE")
    text.put("\nEXAM DATE: ")
    text.plant(study.when.strftime(_one(rng, *DATES)), "DATE")
    text.put("\nHISTORY: ")
    if style == 1:
        text.put({"F": "Mrs. ", "M": "Mr. "}[person.sex])
        text.plant(person.last, "NAME")
        text.put(" presents with: ")
    text.put(indication(study, rng))
    if style == 3:
        text.put(" Lives at ")
        text.plant(person.street, "ADDRESS")
        text.put(", phone ")
        text.plant(person.phone, "PHONE")
        text.put(".")
    text.put("\nTECHNIQUE: ", technique(study, rng))
    _comparison(text, study, prior, rng)
    text.put("\nFINDINGS: ", " ".join(findings_text(study, prior, tips, rng)))
    text.put("\nIMPRESSION: ", " ".join(impression_text(study, prior, tips, rng)))
    if style in (0, 3):
        text.put("\nFindings were discussed with Dr. ")
        text.plant(doctor.last, "NAME")
        text.put(" by telephone at ")
        text.plant(doctor.phone, "PHONE")
        text.put(".")
    text.put("\nElectronically signed by ")
    text.plant(f"{doctor.first} {doctor.last}", "NAME")
    text.put(", MD on ")
    text.plant(study.when.strftime(_one(rng, *DATES)), "DATE")
    text.put(".\n")
    return str(text), text.spans


def _comparison(text: Text, study: Study, prior: Study | None, rng: np.random.Generator) -> None:
    text.put("\nCOMPARISON: ")
    if prior is None:
        text.put(_one(rng, "None.", "None available.", "No prior studies."))
        return
    text.put(_one(rng, "Compared with the study of ", "Radiograph of ", "Prior chest radiograph, "))
    text.plant(prior.when.strftime(_one(rng, *DATES)), "DATE")
    if rng.random() < 0.4:
        text.put(" from ")
        text.plant(prior.hospital, "HOSPITAL")
    text.put(".")


def _one(rng: np.random.Generator, *choices: str) -> str:
    return choices[int(rng.integers(len(choices)))]


def hl7_message(study: Study, person: Person, text: str) -> bytes:
    """An HL7 v2.5.1 ORU^R01 with the report in one OBX; separators in the text are escaped (HL7 v2, 2.7)."""
    body = text
    for plain, escaped in (("\\", "\\E\\"), ("|", "\\F\\"), ("^", "\\S\\"), ("&", "\\T\\"), ("\n", "\\.br\\")):
        body = body.replace(plain, escaped)
    acc, day = study.accession, f"{study.when:%Y%m%d}"
    segments = [
        f"MSH|^~\\&|RIS|PRACTICE|INTRAMURAL|SITE|{day}104500||ORU^R01|{acc}|P|2.5.1||||||UNICODE UTF-8",
        f"PID|1||{person.mrn}^^^PRACTICE^MR||{person.last}^{person.first}||{person.birth:%Y%m%d}",
        f"OBR|1|{acc}|{acc}|71045^XR CHEST 1 VIEW^CPT|||{day}104233",
        f"OBX|1|TX|71045^REPORT||{body}||||||F",
    ]
    return ("\r".join(segments) + "\r").encode()


def csv_bytes(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> bytes:
    """Rows as a CSV file with a header line, UTF-8."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=columns)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def age_text(birth: dt.date, when: dt.date) -> str:
    """PatientAge in years, DICOM AS."""
    years = when.year - birth.year - ((when.month, when.day) < (birth.month, birth.day))
    return f"{years:03d}Y"
