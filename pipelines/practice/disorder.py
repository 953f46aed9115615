"""What every real export contains and nobody ordered: broken and foreign files, duplicates, conflicting UIDs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

# (key, files per study): at least one of each in any export.
RATES = {
    "truncated": 1 / 40,
    "duplicate": 1 / 50,
    "text": 1 / 60,
    "empty": 1 / 70,
    "foreign": 1 / 70,
    "conflict": 1 / 100,
}


def add_disorder(truths: list[dict[str, Any]], root: Path, seed: int) -> dict[str, list[str]]:
    """Add the files; returns `broken`, `duplicates` and `conflicts` (two paths for each conflict) of the key."""
    rng = np.random.default_rng([seed, 3])
    found: dict[str, list[str]] = {"broken": [], "duplicates": [], "conflicts": []}
    order = [truths[i] for i in rng.permutation(len(truths))]
    # An edit writes a preamble, which would be one difference too many in a file that never had one.
    order.sort(key=lambda truth: _first(truth)["preamble"] != "full")
    at = 0
    for kind, rate in RATES.items():
        for _ in range(max(1, round(rate * len(truths)))):
            entry = Path(_first(order[at % len(order)])["path"])
            at += 1
            _add(kind, root, entry, int(rng.integers(60, 95)), found)
    return found


def _first(truth: dict[str, Any]) -> dict[str, Any]:
    """The key's entry of a study's frontal instance."""
    return next(iter(truth["instances"].values()))


def _add(kind: str, root: Path, source: Path, number: int, found: dict[str, list[str]]) -> None:
    raw = (root / source).read_bytes()
    beside = root / source.parent
    if kind in ("duplicate", "conflict"):
        # Another folder: archives copy whole studies when they migrate.
        beside = root / "DICOM" / "RECOVERED" / source.parent.name
        beside.mkdir(parents=True, exist_ok=True)
    name = {"text": f"NOTES{number}.TXT", "foreign": f"SCAN{number}.PDF"}.get(kind, f"IM00{number}")
    while (beside / name).exists():
        name = "X" + name
    data = {
        "truncated": raw[: len(raw) // 3],
        "duplicate": raw,
        "text": b"not a DICOM file\n",
        "empty": b"",
        "foreign": b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" + raw[200:3000] + b"\n%%EOF\n",
    }
    (beside / name).write_bytes(_altered(raw) if kind == "conflict" else data[kind])
    path = (beside / name).relative_to(root).as_posix()
    if kind == "conflict":
        found["conflicts"] += [source.as_posix(), path]
    else:
        found["duplicates" if kind == "duplicate" else "broken"].append(path)


def _altered(raw: bytes) -> bytes:
    """The same instance after somebody edited it: same UID, other bytes."""
    ds = dcmread(io.BytesIO(raw), force=True)
    ds.ImageComments = "Corrected side marker"
    ds.SeriesDescription = "Chest, corrected"
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()
