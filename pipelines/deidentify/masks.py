"""Masks and polylines of an export: re-encoded without metadata, checked against the frontal image of their study."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.contract import write_atomic
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.studies import Studies, Study
from pipelines.keys import DerivationSecret
from pipelines.tables import STRUCTURES

POSITIONS = ("normal", "borderline", "abnormal")  # from good to bad
_SPACES = re.compile(r"[\s-]+")


class MaskReader:
    """Joins masks to studies by the accession number in their file names, polylines by their column."""

    def __init__(self, root: Path, studies: Studies, secret: DerivationSecret) -> None:
        self.root, self.studies, self.secret = root, studies, secret
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        self.rejected: list[tuple[str, Quarantine]] = []
        self.used: set[str] = set()

    def add_mask(self, source_id: str, relative: str, path: Path) -> None:
        """Take one mask image; `relative` is its path in the export."""
        self._take(source_id, lambda: self._mask(PurePosixPath(relative), path))

    def add_line(self, source_id: str, line: str) -> None:
        """Take one line of lines.jsonl."""
        self._take(source_id, lambda: self._line(line))

    def table(self) -> list[dict[str, Any]]:
        """Rows of tables.MASKS, by accession number and structure."""
        return [self.rows[key] for key in sorted(self.rows)]

    def _take(self, source_id: str, call: Callable[[], None]) -> None:
        try:
            call()
            self.used.add(source_id)
        except Quarantine as verdict:
            self.rejected.append((source_id, verdict))

    def _mask(self, relative: PurePosixPath, path: Path) -> None:
        structure = "lung" if relative.parts[0].lower() == "lung_masks" else _structure(relative.parts[1])
        accession = self.secret.accession(relative.stem)
        study = self.studies.join(accession)
        data = _encode(path, study)
        digest = hashlib.sha256(data).hexdigest()
        output = f"masks/{structure}/{accession}.png"
        row = self._row(accession, structure, study)
        if row["sha256"] not in (None, digest):
            raise Quarantine("ambiguous", "two masks of one structure")
        (self.root / output).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.root / output, data)
        row |= {"output": output, "sha256": digest}

    def _line(self, line: str) -> None:
        try:
            record = json.loads(line)
            structure = _structure(record["structure"])
            points = [float(v) for point in record["points"] for v in point]
            accession, position = self.secret.accession(str(record["accession"])), record.get("position")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise Quarantine("malformed", "a line of lines.jsonl") from None
        if len(points) % 2 or len(points) < 4 or (position is not None and position not in POSITIONS):
            raise Quarantine("malformed", "a line of lines.jsonl")
        row = self._row(accession, structure, self.studies.join(accession))
        if row["points"]:
            # A second line of one structure, two central venous catheters say: a pair of nan parts them.
            points = [*row["points"], math.nan, math.nan, *points]
            position = max((p for p in (row["position"], position) if p), key=POSITIONS.index, default=None)
        row |= {"points": points, "position": position}

    def _row(self, accession: str, structure: str, study: Study) -> dict[str, Any]:
        patient = next(iter(study.patients))
        row: dict[str, Any] = {"accession": accession, "patient": patient, "structure": structure}
        row |= dict.fromkeys(("output", "sha256", "points", "position"))
        return self.rows.setdefault((accession, structure), row)


def lines(path: Path) -> Iterator[str]:
    """The lines of lines.jsonl; raises Quarantine when it is no text."""
    try:
        with path.open(encoding="utf-8") as f:
            yield from (line for line in f if line.strip())
    except (OSError, UnicodeDecodeError):
        raise Quarantine("malformed", "lines.jsonl is not UTF-8 text") from None


def accession_of_mask(relative: str) -> str:
    """The accession number in a mask's file name."""
    return PurePosixPath(relative).stem


def accession_of_line(line: str) -> str:
    """The accession number in a line of lines.jsonl; an empty one where there is none, which joins nothing."""
    try:
        record = json.loads(line)
        return str(record["accession"]) if isinstance(record, dict) else ""
    except (ValueError, KeyError, RecursionError):
        return ""


def _structure(name: str) -> str:
    structure = _SPACES.sub("_", str(name).strip().lower())
    if structure not in STRUCTURES:
        raise Quarantine("malformed", "a mask of an unknown structure")
    return structure


def _encode(path: Path, study: Study) -> bytes:
    """A 1-bit PNG of where the mask is not zero, with no chunk of the source's."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L")) > 0
    except Exception as error:  # noqa: BLE001 - decoders raise many kinds on a damaged file
        raise Quarantine("malformed", type(error).__name__) from None
    if pixels.shape not in study.frontal_sizes:
        raise Quarantine("malformed", "the mask has not the size of a frontal image of its study")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=False)
    return buffer.getvalue()
