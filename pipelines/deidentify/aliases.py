"""Merged patients: old patient IDs and the current ones, applied before a patient is keyed (DESIGN, "Keys").

The CSV has a header row with the columns `old` and `current`, and if wanted `old_issuer` and `current_issuer`. A row
without an issuer speaks of its ID under every issuer, and leaves the issuer as it is.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from pipelines.contract import BadInput

_COLUMNS = ("old", "current")
_ISSUERS = ("old_issuer", "current_issuer")
Patient = tuple[str, str]
"""(issuer in capitals or empty, ID)"""


@dataclass(frozen=True)
class Aliases:
    """What was merged into what. Holds patient IDs: never logged, never written."""

    merged: dict[Patient, Patient] = field(default_factory=dict)

    def current(self, issuer: str, patient_id: str) -> Patient:
        """The (issuer, ID) under which a patient is known today, through any number of merges."""
        now = (issuer, patient_id)
        for _ in range(len(self.merged)):
            found = self.merged.get((now[0].upper(), now[1])) or self.merged.get(("", now[1]))
            if found is None:
                break
            now = (found[0] or now[0], found[1])
        return now

    def known_as(self, patient_id: str) -> frozenset[str]:
        """Every ID of the patient, old and current, whatever the issuer: needles of the proof, and of an opt-out."""
        return self._families.get(patient_id, frozenset({patient_id}))

    @cached_property
    def _families(self) -> dict[str, frozenset[str]]:
        family: dict[str, set[str]] = {}
        for (_, old), (_, new) in self.merged.items():
            both = family.get(old, {old}) | family.get(new, {new})
            for member in both:
                family[member] = both
        return {member: frozenset(both) for member, both in family.items()}


NO_ALIASES = Aliases()


def load_aliases(path: Path | None) -> Aliases:
    """The merged patients of a site; BadInput says what is wrong with the file, by line and never by ID."""
    return NO_ALIASES if path is None else _load(path)


def aliases_digest(path: Path | None) -> str:
    """Names the list without saying anything of it; empty without one."""
    return hashlib.sha256(_bytes(path)).hexdigest() if path else ""


@lru_cache(maxsize=2)
def _load(path: Path) -> Aliases:
    try:
        reader = csv.DictReader(io.StringIO(_bytes(path).decode("utf-8-sig"), newline=""), strict=True)
        columns = set(reader.fieldnames or ())
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error):
        raise BadInput(f"The list of merged patients {path.name} is no UTF-8 CSV file; save it as one.") from None
    if not columns.issuperset(_COLUMNS) or columns - {*_COLUMNS, *_ISSUERS}:
        raise BadInput(
            f"The list of merged patients {path.name} needs the columns old and current, and may have old_issuer and "
            "current_issuer; give it that header row."
        )
    return Aliases(_merged(path, rows))


def _merged(path: Path, rows: list[tuple[int, dict[str, str]]]) -> dict[Patient, Patient]:
    merged: dict[Patient, Patient] = {}
    for line, row in rows:
        old, new, old_issuer, new_issuer = ((row.get(c) or "").strip() for c in (*_COLUMNS, *_ISSUERS))
        if not old or not new:
            raise BadInput(
                f"Line {line} of the list of merged patients {path.name} lacks an ID; complete or remove it."
            )
        key, value = (old_issuer.upper(), old), (new_issuer, new)
        if merged.setdefault(key, value) != value:
            raise BadInput(f"Line {line} of {path.name} merges a patient into two others; keep the one that is right.")
    for key in merged:
        seen, now = {key}, merged[key]
        while (now[0].upper(), now[1]) in merged:
            now = merged[now[0].upper(), now[1]]
            if (now[0].upper(), now[1]) in seen:
                raise BadInput(f"The list of merged patients {path.name} runs in a circle; say which ID is current.")
            seen.add((now[0].upper(), now[1]))
    return merged


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise BadInput(f"The list of merged patients {path.name} cannot be read; check the path.") from None
