"""A small synthetic cohort whose images show their labels, for the tests of every stage that reads cohorts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from pipelines import tables
from pipelines.cohort import Cohort, writer
from pipelines.contract import write_atomic
from pipelines.keys import DerivationSecret

LABELS = ("Cardiomegaly", "Effusion", "ETT")
SENTENCES = {
    "Cardiomegaly": ("The heart is enlarged.", "The heart size is normal."),
    "Effusion": ("There is a pleural effusion.", "No pleural effusion."),
    "ETT": ("Endotracheal tube in place.", "No lines or tubes."),
}


def make_cohort(
    folder: Path, patients: int = 40, images_per_patient: int = 2, side: int = 64, seed: int = 0, practice: bool = True
) -> Path:
    """Write a finished cohort: one study per image, labels and view drawn into the pixels, and reports that agree.

    One study in ten has no report, one in ten an uncertain Effusion. Splits and order are keyed by `seed`.
    """
    secret = DerivationSecret("test", 1, seed.to_bytes(32, "big"))
    names = [secret.patient("TEST", str(n)) for n in range(patients)]
    rows, pixels, texts, labels, masks = [], [], [], [], []
    for patient in sorted(names, key=lambda p: (secret.order(p), p)):
        for n in range(images_per_patient):
            rng = np.random.default_rng(secret.surrogate("image", f"{patient} {n}"))
            truth = {label: bool(rng.random() < 0.5) for label in LABELS}
            image = draw(rng, side, truth, "AP" if rng.random() < 0.5 else "PA")
            row = _row(secret, patient, n, len(rows), image)
            rows.append(row)
            pixels.append(image["pixels"])
            key = {"accession": row["accession"], "patient": patient}
            if rng.random() < 0.9:
                texts.append(key | _report(truth))
            unsure = rng.random() < 0.1
            labels += [
                key | {"label": name, "value": -1 if unsure and name == "Effusion" else int(value)}
                for name, value in truth.items()
            ]
            masks.append(
                key
                | {"image": len(rows) - 1, "structure": "lung", "path": f"masks/lung/{row['accession']}.png"}
                | {"points": None, "position": None}
            )
            path = folder / masks[-1]["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", image["lung"])[1].tobytes())
    _write(folder, rows, pixels, {"texts": texts, "labels": labels, "masks": masks}, secret, side, practice)
    return folder


def tubes(cohort: Cohort) -> list[dict[str, Any]]:
    """Rows of tables.COHORT_MASKS: the line that `draw` draws for ETT, as a polyline that ends at its tip."""
    rows, labels = [], cohort.label_matrix(["ETT"])[:, 0]
    for row in cohort.index.to_pylist():
        if labels[row["image"]] == 1:
            middle, keys = 0.5 * row["columns"] - 0.5, {k: row[k] for k in ("image", "accession", "patient")}
            points = [middle, 0.0, middle, 0.45 * row["rows"] - 0.5]
            rows.append(keys | {"structure": "ett", "path": None, "points": points, "position": None})
    return rows


def add_masks(folder: Path, more: list[dict[str, Any]]) -> Path:
    """Give a finished cohort further rows of tables.COHORT_MASKS and seal it again."""
    cohort, result = Cohort.open(folder), json.loads((folder / "result.json").read_text())
    rows = sorted([*cohort.masks.to_pylist(), *more], key=lambda r: (r["image"], r["structure"]))
    content = {name: getattr(cohort, name) for name in ("index", "texts", "labels")}
    tables.write_table(folder / "masks.parquet", rows, tables.COHORT_MASKS)
    content["masks"] = tables.read_table(folder / "masks.parquet", tables.COHORT_MASKS)
    facts = {k: v for k, v in result.items() if k not in ("digest", "shards")}
    sealed = writer.seal_cohort(folder, content, [s["sha256"] for s in result["shards"]], facts)
    write_atomic(folder / "result.json", json.dumps(sealed))
    return folder


def draw(rng: np.random.Generator, side: int, truth: dict[str, bool], view: str) -> dict[str, object]:
    """A crude chest: dark lungs, a heart that is wide with Cardiomegaly, a white base with Effusion, a line for ETT."""
    height, width = side, side + int(rng.integers(0, side // 4))
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    lung = ((x - 0.28) / 0.17) ** 2 + ((y - 0.5) / 0.36) ** 2 < 1
    lung |= ((x - 0.72) / 0.17) ** 2 + ((y - 0.5) / 0.36) ** 2 < 1
    chest = np.where(lung, 0.25, 0.6) + (0.15 * (1 - y) if view == "AP" else 0.15 * y)
    heart = ((x - 0.55) / (0.24 if truth["Cardiomegaly"] else 0.12)) ** 2 + ((y - 0.65) / 0.18) ** 2 < 1
    chest = np.where(heart, 0.7, chest)
    if truth["Effusion"]:
        chest = np.where(lung & (y > 0.68), 0.8, chest)
    if truth["ETT"]:
        chest = np.where((np.abs(x - 0.5) < 0.02) & (y < 0.45), 1.0, chest)
    noise = cv2.GaussianBlur(rng.normal(0, 0.25, chest.shape), (0, 0), 1.0) + rng.normal(0, 0.03)
    pixels = (np.clip(chest + noise, 0, 1) * 255).round().astype(np.uint8)
    return {"pixels": pixels, "lung": lung.astype(np.uint8) * 255, "view": view}


def _row(secret: DerivationSecret, patient: str, n: int, image: int, drawn: dict[str, object]) -> dict[str, object]:
    height, width = drawn["pixels"].shape
    study = f"{patient} {n}"
    return {
        "image": image,
        "instance": secret.uid(f"{study} instance"),
        "study": secret.uid(study),
        "accession": secret.accession(study),
        "patient": patient,
        "site": secret.fingerprint,
        "split": secret.split(patient),
        "order": secret.order(patient),
        "view": drawn["view"],
        "modality": "DX",
        "sex": "FM"[secret.surrogate("sex", patient) % 2],
        "age": 20 + secret.surrogate("age", patient) % 70,
        "date": f"2011-0{1 + n % 9}-15",
        "rows": height,
        "columns": width,
        "source_rows": height * 2,
        "source_columns": width * 2,
        "spacing_row": 0.35,
        "spacing_column": 0.35,
        "affine": [0.5, 0.0, -0.25, 0.0, 0.5, -0.25],
    }


def _report(truth: dict[str, bool]) -> dict[str, str]:
    findings = " ".join(SENTENCES[label][0 if value else 1] for label, value in truth.items())
    impression = ", ".join(label for label, value in truth.items() if value) or "Normal chest"
    text = f"FINDINGS: {findings}\nIMPRESSION: {impression}."
    blank = {"indication": "", "comparison": "", "technique": ""}
    return blank | {"text": text, "findings": findings, "impression": f"{impression}."}


def _write(
    folder: Path,
    rows: list[dict],
    pixels: list[np.ndarray],
    tables_: dict[str, list[dict]],
    secret: DerivationSecret,
    side: int,
    practice: bool,
) -> None:
    part = writer.write_part(folder / "parts" / "00000.bin", pixels)
    # Small shards, so that readers meet more than one.
    joined = list(writer.assemble_shards(folder, [part], shard_bytes=1 << 18))
    shards, offsets = (np.concatenate([j[i] for j in joined]) for i in (0, 1))
    for row, shard, offset in zip(rows, shards.tolist(), offsets.tolist(), strict=True):
        row |= {"shard": shard, "offset": offset}
    content = {"index": pa.Table.from_pylist(rows, schema=tables.INDEX)}
    content |= {name: pa.Table.from_pylist(value, schema=writer.SCHEMAS[name]) for name, value in tables_.items()}
    counts = {"images": len(rows), "studies": len(rows), "patients": len({r["patient"] for r in rows})}
    facts = {"practice": practice, "side": side, "policies": ["test"], "sites": [secret.fingerprint]}
    result = writer.seal_cohort(folder, content, [j[2] for j in joined], facts | {"counts": counts, "flow": []})
    write_atomic(folder / "result.json", json.dumps(result))
