"""The answer key of an export: what was planted where, which files are broken, which stand twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.contract import BadInput, read_json


@dataclass(frozen=True)
class Planted:
    """One planted value; `kind` is NAME, ID, DATE, PHONE, ADDRESS, HOSPITAL or UID."""

    where: str
    kind: str
    value: str


@dataclass(frozen=True)
class Box:
    """A line of burned-in text in pixels of the source."""

    text: str
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Instance:
    """One planted instance; `patient` names the true person whatever IDs the person goes by."""

    uid: str
    path: str
    accession: str
    patient: str
    planted: tuple[Planted, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Report:
    """A report as handed over and the planted spans (kind, start, end) in it."""

    text: str
    spans: tuple[tuple[str, int, int], ...]

    def values(self) -> list[Planted]:
        """The planted values of the report."""
        return [Planted("report", kind, self.text[start:end]) for kind, start, end in self.spans]

    def clinical(self) -> str:
        """The report without its planted spans."""
        text = self.text
        for _, start, end in sorted(self.spans, key=lambda span: -span[1]):
            text = text[:start] + "\n" + text[end:]
        return text


@dataclass(frozen=True)
class Key:
    """All of `EXPORT.key.json`; paths are relative to the export."""

    instances: list[Instance]
    reports: dict[str, Report]
    broken: list[str]
    duplicates: list[str]
    conflicts: list[str] = field(default_factory=list)


def load_key(path: Path) -> Key:
    """Read an answer key; BadInput when it is missing or of another form."""
    raw = read_json(path)
    try:
        return Key(
            [_instance(uid, record) for uid, record in raw["instances"].items()],
            {accession: _report(record) for accession, record in raw["reports"].items()},
            list(_strings(raw["broken"])),
            list(_strings(raw["duplicates"])),
            list(_strings(raw.get("conflicts", []))),
        )
    except (KeyError, TypeError, AttributeError):
        raise BadInput(f"{path.name} is no answer key of an export; give EXPORT.key.json.") from None


def _instance(uid: str, record: dict[str, Any]) -> Instance:
    planted = tuple(Planted(p["where"], p["kind"], p["value"]) for p in record["planted"])
    boxes = tuple(Box(b["text"], b["left"], b["top"], b["width"], b["height"]) for b in record["burned_in"])
    return Instance(uid, record["path"], record["accession"], str(record["patient"]), planted, boxes)


def _report(record: dict[str, Any]) -> Report:
    return Report(record["text"], tuple((s["type"], s["start"], s["end"]) for s in record["spans"]))


def _strings(value: Any) -> Iterator[str]:
    """Every path in a list of paths, or of groups of paths."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (s for part in value.values() for s in _strings(part))
    else:
        yield from (s for part in value for s in _strings(part))
