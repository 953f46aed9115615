"""Masks and polylines of an export: re-encoded without metadata, checked against the frontal image of their study."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.contract import write_atomic
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.labels import LINE_COLUMNS
from pipelines.deidentify.studies import Studies, Study
from pipelines.keys import DerivationSecret

# Folder names reach the output, so only structures that are known by name are taken.
STRUCTURES = frozenset({"lung", "lungs", "left_lung", "right_lung", "heart", "clavicle", "rib", *LINE_COLUMNS})
POSITIONS = frozenset({"normal", "borderline", "abnormal"})
_SPACES = re.compile(r"[\s-]+")


class MaskReader:
    """Joins masks to studies by the accession number in their file names, polylines by their column."""

    def __init__(self, root: Path, studies: Studies, secret: DerivationSecret) -> None:
        self.root, self.studies, self.secret = root, studies, secret
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        self.rejected: list[tuple[str, Quarantine]] = []
        self.used: set[str] = set()

    def read(self, files: Iterable[tuple[str, str, Path]]) -> list[dict[str, Any]]:
        """Rows of tables.MASKS for files given as (source_id, relative path, path), sorted."""
        for source_id, relative, path in files:
            try:
                if relative.lower().endswith(".png"):
                    self._mask(PurePosixPath(relative), path)
                    self.used.add(source_id)
                else:
                    self._lines(source_id, path)
            except Quarantine as verdict:
                self.rejected.append((source_id, verdict))
        return [self.rows[key] for key in sorted(self.rows)]

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

    def _lines(self, source_id: str, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise Quarantine("malformed", "lines.jsonl is not UTF-8 text") from None
        for line in lines:
            if not line.strip():
                continue
            try:
                self._line(line)
                self.used.add(source_id)
            except Quarantine as verdict:
                self.rejected.append((source_id, verdict))

    def _line(self, line: str) -> None:
        try:
            record = json.loads(line)
            structure = _structure(record["structure"])
            points = [float(v) for point in record["points"] for v in point]
            accession, position = self.secret.accession(str(record["accession"])), record.get("position")
        except (ValueError, KeyError, TypeError):
            raise Quarantine("malformed", "a line of lines.jsonl") from None
        if len(points) % 2 or len(points) < 4 or (position is not None and position not in POSITIONS):
            raise Quarantine("malformed", "a line of lines.jsonl")
        row = self._row(accession, structure, self.studies.join(accession))
        row |= {"points": points, "position": position}

    def _row(self, accession: str, structure: str, study: Study) -> dict[str, Any]:
        patient = next(iter(study.patients))
        row: dict[str, Any] = {"accession": accession, "patient": patient, "structure": structure}
        row |= dict.fromkeys(("output", "sha256", "points", "position"))
        return self.rows.setdefault((structure, accession), row)


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
