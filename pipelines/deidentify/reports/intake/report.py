"""One report as it came, what its status says of others of the same study, and how its bytes become text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path

from pipelines.deidentify.identities import Identities

MAX_CHARACTERS = 200_000  # a report is a few thousand; what is longer is not one


class Status(StrEnum):
    """What a report is to the others of its study (HL7 table 0123, FHIR DiagnosticReport.status)."""

    UNKNOWN = ""
    PRELIMINARY = "preliminary"
    FINAL = "final"
    CORRECTED = "corrected"
    ADDENDUM = "addendum"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class SourceReport:
    """One report with what its own row or message says of persons. Never logged.

    It joins its study by `accession`, else by `study_uid`, else by `patient_id` and `date`.
    """

    source_id: str
    accession: str
    patient_id: str
    issuer: str
    date: date | None
    text: str
    identities: Identities
    study_uid: str = ""
    status: Status = Status.UNKNOWN
    written: str = ""
    """When this text was written, as digits of a time stamp, for the order of addenda; empty when not said."""
    encoding: str = ""
    """The character set that its bytes were read as."""
    place: str = ""
    """Where in its file it stands, as `line 12`; empty where it is all of it."""
    mapped: tuple[str, ...] = ()
    """Fields of a table that were found under the site's own column names."""


@dataclass(frozen=True)
class Rejected:
    """An input that is no usable report; `reason` is a code of reasons.REASONS, `detail` holds no PHI."""

    source_id: str
    reason: str
    detail: str


@dataclass
class Persons:
    """Identities while they are collected."""

    names: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    dates: set[date | None] = field(default_factory=set)
    phones: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    institutions: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)

    def identities(self) -> Identities:
        """What was collected, without what is empty."""
        return Identities(
            names=frozenset(n for n in self.names if n.strip("^ ")),
            ids=frozenset(i for i in self.ids if i),
            dates=frozenset(d for d in self.dates if d),
            phones=frozenset(p for p in self.phones if p),
            addresses=frozenset(a for a in self.addresses if a),
            institutions=frozenset(i for i in self.institutions if i),
            uids=frozenset(u for u in self.uids if u),
        )


def problem(keys: tuple[str, ...], text: str) -> str:
    """Why a report with these join keys and this text cannot be used; empty when it can."""
    if not any(keys):
        return "no accession number, StudyInstanceUID, or patient and date"
    if not text.strip():
        return "the text is empty"
    return "the text is too long for a report" if len(text) > MAX_CHARACTERS else ""


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


def decode_text(data: bytes) -> tuple[str, list[str]]:
    """Text, and the character set of each of its lines.

    By the byte order mark; UTF-16 without one by its zero bytes; else each line is UTF-8 or, where it is not,
    Windows-1252, because tables joined from several systems mix the two. Bytes that it leaves undefined become U+FFFD.
    """
    for mark, charset in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if data.startswith(mark) and (charset == "utf-16" or _fits(data, charset)):
            text = data.decode(charset, "replace")
            return text, [charset.removesuffix("-sig")] * (text.count("\n") + 1)
    if guessed := _sixteen(data):
        text = data.decode(guessed, "replace")
        return text, [guessed] * (text.count("\n") + 1)
    lines, charsets = [], []
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        charset = "utf-8" if _fits(line, "utf-8") else "cp1252"
        lines.append(line.decode(charset, "replace"))
        charsets.append(charset)
    return "\n".join(lines), charsets


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file, each with the character set it was read as (`decode_text`), however long the file is."""
    with path.open("rb") as file:
        start = file.read(4096)
        charset = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else _sixteen(start)
        file.seek(3 if start.startswith(b"\xef\xbb\xbf") else 0)
        if charset:
            yield from ((line, charset) for line in io.TextIOWrapper(file, charset, "replace", newline="\n"))
            return
        for line in file:
            charset = "utf-8" if _fits(line, "utf-8") else "cp1252"
            yield line.decode(charset, "replace"), charset


def named(charsets: list[str], start: int = 0, end: int | None = None) -> str:
    """The character set of lines start to end: Windows-1252 as soon as one of them needs it."""
    lines = charsets[start:end] or charsets[:1] or ["utf-8"]
    return "cp1252" if "cp1252" in lines else lines[0]


def stamp(value: str) -> str:
    """The digits of a time, which sort as time does when years come first; empty for other spellings."""
    digits = "".join(c for c in value[:19] if c.isdigit())
    return digits if digits[:2] in ("19", "20") and len(digits) >= 8 else ""


def _fits(data: bytes, charset: str) -> bool:
    try:
        data.decode(charset)
    except UnicodeDecodeError:
        return False
    return True


def _sixteen(data: bytes) -> str:
    sample = data[:4096]
    if len(sample) < 8 or sample.count(0) * 4 < len(sample):
        return ""
    return "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"
