"""The model folder: what a run exports, what `import` makes, what `load_encoder` opens.

card.json            where the model comes from and what may be done with it, and checksums
README.md            the same for people
patients.parquet     every patient whose data this model or an ancestor was trained or monitored on
model.safetensors    the weights under their published keys
rad-dino kinds       config.json, preprocessor_config.json (a transformers folder), dino_head.safetensors,
                     backbone_compatible.safetensors (the weights again, under the keys of the dinov2 hub and timm)
mi2 kinds            mi2.json, tokenizer.json
of a library         tower.json (family, architecture, preprocessing) and what that library reads besides
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines import tables
from pipelines.contract import BadInput, read_json, sha256_file, write_atomic

WEIGHTS = "model.safetensors"
HEAD = "dino_head.safetensors"
HUB = "backbone_compatible.safetensors"
TOWER = "tower.json"
README = "README.md"
PATIENTS = pa.schema([("patient", pa.string())])


class ModelCard(BaseModel):
    """`card.json`. Counts are of what this model itself was trained on; `patients.parquet` holds the ancestors' too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    encoder: str
    kind: Literal["run", "open-weight", "untrained"]
    practice: bool = False
    cohort: str | None = None
    """Digest of the cohort."""
    policies: tuple[str, ...] = ()
    """Digests of the de-identification policies of its data."""
    seen: tuple[str, ...] = ()
    """Public data sets the weights are known to have been trained on."""
    baseline: str = ""
    """Row of the table of baselines that open weights came in by."""
    licence: str = ""
    samples: int = 0
    studies: int = 0
    patients: int = 0
    budget: int = 0
    """Image forwards."""
    seed: int = 0
    start: str | None = None
    """`weights_sha256` of the model it was trained from."""
    weights_sha256: str = ""
    files: dict[str, str] = {}
    """SHA-256 of the other files, but of README.md, which people may add to."""
    spec: dict[str, Any] = {}
    metrics: dict[str, float] = {}


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder; BadInput when it has none or a wrong one."""
    if not (folder / "card.json").is_file():
        raise BadInput(f"{folder.name} is not a model folder (no card.json); give a run's model or import the weights.")
    try:
        return ModelCard.model_validate(read_json(folder / "card.json"))
    except ValidationError:
        raise BadInput(f"card.json in {folder.name} is damaged or of another version.") from None


def check_weights(folder: Path, card: ModelCard) -> None:
    """BadInput when the weights, or another file of the model, differ from their checksum on the card."""
    for name, digest in {WEIGHTS: card.weights_sha256, **card.files}.items():
        if not (folder / name).is_file() or sha256_file(folder / name) != digest:
            what = "The weights" if name == WEIGHTS else name
            raise BadInput(f"{what} in {folder.name}: missing or damaged (checksum differs); copy the model again.")


def read_patients(folder: Path) -> set[str]:
    """Pseudonyms of `patients.parquet`."""
    return set(tables.read_table(folder / "patients.parquet", PATIENTS)["patient"].to_pylist())


@contextmanager
def new_model_folder(folder: Path, card: ModelCard, patients: Iterable[str]) -> Iterator[Path]:
    """Yield an empty folder to write the weights into; it becomes `folder`, whole, with its card and patients."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        rows = pa.table({"patient": pa.array(sorted(set(patients)), pa.string())}, schema=PATIENTS)
        tables.write_table(part / "patients.parquet", rows, PATIENTS)
        files = {path.name: sha256_file(path) for path in sorted(part.iterdir())}
        write_atomic(part / README, describe(card, list(files)))
        card = card.model_copy(update={"weights_sha256": files.pop(WEIGHTS), "files": files})
        write_atomic(part / "card.json", json.dumps(card.model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        handle = os.open(folder.parent, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def describe(card: ModelCard, files: Sequence[str]) -> str:
    """The model card for people, in Markdown: what the model is, what it was made of, and what binds it."""
    kinds = {
        "run": "Continually pretrained on a hospital's own radiographs.",
        "open-weight": "Open weights, brought in unchanged.",
        "untrained": "The seeded start of a tiny form: random numbers, trained on nothing.",
    }
    facts = {
        "Encoder": card.encoder,
        "Licence of the weights": card.licence,
        "Cohort (digest)": card.cohort,
        "De-identification policies (digests)": ", ".join(card.policies),
        "Samples, studies, patients": f"{card.samples}, {card.studies}, {card.patients}" if card.samples else None,
        "Budget (image forwards)": card.budget or None,
        "Seed": card.seed,
        "Trained from (SHA-256 of the weights)": card.start,
        "Public data sets seen by the weights or an ancestor": ", ".join(card.seen),
    }
    lines = [f"# {card.name}", "", kinds[card.kind], ""]
    if card.practice:
        lines += ["**Practice data: of no use for patients.**", ""]
    lines += ["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in facts.items() if v not in (None, "")), ""]
    for title, values in (("Spec", card.spec), ("Metrics at the end", card.metrics)):
        if values:
            lines += [f"## {title}", "", *(f"- `{k}`: {v}" for k, v in values.items() if v is not None), ""]
    lines += ["## Files", "", f"{', '.join(files)}. `card.json` holds the SHA-256 of each.", ""]
    lines += [
        "Made with Intramural. The model inherits the restrictions of its cohort: it leaves the site only when a",
        "privacy officer has released it. It is an encoder for research, not a medical device.",
        "",
    ]
    return "\n".join(lines)
