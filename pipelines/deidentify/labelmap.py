"""How a site's label table is written: names of columns, words for values, spellings of labels (`labels.toml`)."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.contract import BadInput

LINE_COLUMNS = {
    "ett": "ETT",
    "ngt": "NGT",
    "cvc": "CVC",
    "swan_ganz": "Swan-Ganz",
    "chest_tube": "Chest tube",
}
VERSION = "1"
# Yes, no and uncertain, and the numbers of CheXpert-style tables.
_WORDS = {"present": ("y", "1", "1.0"), "absent": ("n", "0", "0.0"), "uncertain": ("u", "-1", "-1.0")}
_VALUES = {"present": 1, "absent": 0, "uncertain": -1}
# A label is a term, not a place for free text: letters, a little punctuation, no long numbers.
_NAME = re.compile(r"[^\W\d_][\w ()/&,.'-]{0,63}")
_LONG_NUMBER = re.compile(r"\d{3}")


def is_plain(name: str) -> bool:
    """Whether a name can be that of a label."""
    return bool(_NAME.fullmatch(name)) and not _LONG_NUMBER.search(name)


class Mapping(BaseModel):
    """What `labels.toml` may say; without one, the table is as the defaults have it."""

    model_config = ConfigDict(extra="forbid")
    accession: str = "accession"
    """Column of the accession number."""
    positives: str = "labels"
    """Column that lists what is present; what other studies of the table list is absent."""
    separator: str = Field("|", min_length=1)
    """Between the entries of that column."""
    delimiter: str = Field(",", min_length=1, max_length=1)
    """Between the columns of the file."""
    columns: dict[str, str] = Field(default_factory=lambda: {label: column for column, label in LINE_COLUMNS.items()})
    """Label -> the column that gives its value; an empty cell says nothing."""
    values: dict[str, list[str]] = Field(default_factory=dict)
    """`present`, `absent`, `uncertain` -> words of the site's own for it."""
    names: dict[str, str] = Field(default_factory=dict)
    """What the site calls it -> label."""


@dataclass(frozen=True)
class Record:
    """A row of a label table, understood."""

    accession: str
    positives: list[str]
    values: dict[str, int]
    """Label -> 1 present, 0 absent, -1 uncertain, where a column says so."""
    wrong: str
    """A column whose cell says none of these; else empty."""
    version: str


def read_records(path: Path) -> Iterator[Record]:
    """The rows of a label table, one at a time. BadInput when it or its mapping is none."""
    mapping, version = load_mapping(path.with_suffix(".toml"))
    words = {word.lower(): _VALUES[kind] for kind in _VALUES for word in (*_WORDS[kind], *mapping.values.get(kind, ()))}
    try:
        with path.open(encoding="utf-8-sig", newline="") as f:
            reader = csv.DictReader(f, delimiter=mapping.delimiter)
            if mapping.accession not in (reader.fieldnames or ()):
                raise BadInput(
                    f"labels.csv has no column '{mapping.accession}'; name its columns in the first line, "
                    "or the column of the accession number in labels.toml."
                )
            for row in reader:
                yield _record(row, mapping, words, version)
    except (UnicodeDecodeError, csv.Error):
        raise BadInput("labels.csv is not a CSV file in UTF-8; save it as one.") from None


def _record(row: dict[str, str], mapping: Mapping, words: dict[str, int], version: str) -> Record:
    listed = [part.strip() for part in (row.get(mapping.positives) or "").split(mapping.separator)]
    values, wrong = {}, ""
    for label, column in mapping.columns.items():
        cell = (row.get(column) or "").strip().lower()
        if cell in words:
            values[label] = words[cell]
        elif cell:
            wrong = wrong or column
    positives = [mapping.names.get(name, name) for name in listed if name]
    return Record((row.get(mapping.accession) or "").strip(), positives, values, wrong, version)


def load_mapping(path: Path) -> tuple[Mapping, str]:
    """The mapping beside a label table and the version that its labels carry. BadInput says what is wrong in it."""
    if not path.exists():
        return Mapping(), VERSION
    try:
        mapping = Mapping.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise BadInput("labels.toml is not valid TOML; write it again.") from None
    except ValidationError as error:
        wrong = "; ".join(f"'{'.'.join(map(str, e['loc']))}': {e['msg'].lower()}" for e in error.errors())
        raise BadInput(f"labels.toml is not valid: {wrong}.") from None
    _require_sense(mapping)
    digest = hashlib.sha256(json.dumps(mapping.model_dump(), sort_keys=True).encode()).hexdigest()[:12]
    return mapping, f"{VERSION}-{digest}"


def _require_sense(mapping: Mapping) -> None:
    if unknown := sorted(mapping.values.keys() - _VALUES.keys()):
        raise BadInput(f"labels.toml has '{unknown[0]}' under values; it may have {', '.join(_VALUES)}.")
    for name in (*mapping.columns, *mapping.names.values()):
        if not is_plain(name):
            raise BadInput("labels.toml gives a label a name that is no plain term; use words.")
    meant: dict[str, Any] = {}
    for kind in _VALUES:
        for word in (*_WORDS[kind], *mapping.values.get(kind, ())):
            if meant.setdefault(word.lower(), kind) != kind:
                raise BadInput(f"labels.toml gives one word for {meant[word.lower()]} and for {kind}; give it one.")
