"""The report's part on similarity: maps around the tips of lines and tubes on test images, all models side by side."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from pipelines.cohort import Cohort
from pipelines.contract import RunFolder, atomic, write_atomic
from pipelines.evaluate import features
from pipelines.evaluate.measured import Section
from pipelines.evaluate.models import Model
from pipelines.evaluate.tasks import Images
from pipelines.segmentation import rasters, truth
from pipelines.similarity import vectors
from pipelines.similarity.maps import Map, ModelMaps, Point, Seen, at_point

FOLDER = "similarity"
TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True)
class Tip:
    """The tip of a line or tube in a test image."""

    structure: str
    label: str
    number: int
    """Of the images of this structure, from 1."""
    image: int
    """Row of the cohort's index."""
    point: Point


def choose_tips(cohort: Cohort, images: Images, most: int) -> list[Tip]:
    """Of each line structure the first `most` test images, in the cohort's own keyed order, with a polyline whose tip
    lies in the central square. No score and no eye takes part."""
    found = []
    for structure in truth.structures(cohort, images.rows) if most else []:
        own: list[Tip] = []
        for place in sorted(structure.drawn) if structure.is_line else []:
            lines = truth.polylines(structure, place)
            if len(own) < most and images.split[place] == "test" and lines:
                row = int(images.rows[place])
                height, width = cohort.image(row).shape
                x, y = lines[0][-1] + 0.5
                square = rasters.central_square(height, width)
                if square.left <= x <= square.right and square.top <= y <= square.bottom:
                    point = Point(float(x / width), float(y / height))
                    own.append(Tip(structure.name, structure.label, len(own) + 1, row, point))
        found += own
    return found


def write_panels(
    cohort: Cohort, images: Images, models: Sequence[Model], most: int, device: str, run: RunFolder, store: Path
) -> list[dict[str, Any]]:
    """Draw `similarity/<structure>-<number>.png` for every tip; returns what `sections` shows of each."""
    from pipelines.similarity.panel import draw  # matplotlib

    tips = choose_tips(cohort, images, most)
    if not tips:
        return []
    by_model = []
    for model in models:
        run.check_stop()
        by_model.append(_maps_of(model, cohort, tips, device, store))
    (run.root / FOLDER).mkdir(exist_ok=True)
    shown = []
    for i, tip in enumerate(tips):
        path = run.root / FOLDER / f"{tip.structure}-{tip.number}.png"
        write_atomic(path, draw(cohort.image(tip.image), [maps[i] for maps in by_model], tip.point))
        facts = {"label": tip.label, "number": tip.number, "image": tip.image}
        shown.append(facts | {"file": path.relative_to(run.root).as_posix()})
    run.artifact("similarity maps", run.root / FOLDER)
    return shown


def _maps_of(model: Model, cohort: Cohort, tips: list[Tip], device: str, store: Path) -> list[ModelMaps]:
    """A model's maps for every tip; the model is opened only if they do not stand in the store."""
    asked = json.dumps([asdict(tip) for tip in tips])
    which = hashlib.sha256((cohort.digest + asked).encode()).hexdigest()
    path = store / FOLDER / f"{model.digest[:16]}-{which[:16]}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        encoder: Any = features.load(model, device)
        found = []
        for tip in tips:
            image = cohort.image(tip.image)
            seen = vectors.seen_part(image, encoder.how)
            found.append(at_point(model.name, vectors.read_depths(encoder, image), seen, tip.point))
        _save(path, found)
    return _read(path, model.name)


def _save(path: Path, found: list[ModelMaps]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for i, model in enumerate(found):
        arrays[f"{i}-seen"] = np.array(model.seen)
        for d, one in enumerate(model.maps):
            arrays[f"{i}-{d}-place"] = np.array([one.block, one.blocks, *one.patch])
            arrays[f"{i}-{d}-values"] = one.values
    with atomic(path) as temporary, temporary.open("wb") as f:
        np.savez_compressed(f, allow_pickle=False, **arrays)


def _read(path: Path, name: str) -> list[ModelMaps]:
    """What `_save` wrote, under the name that the weights have in this evaluation."""
    found: list[ModelMaps] = []
    with np.load(path) as stored:
        while f"{len(found)}-seen" in stored:
            i = len(found)
            maps: list[Map] = []
            while f"{i}-{len(maps)}-place" in stored:
                block, blocks, row, column = stored[f"{i}-{len(maps)}-place"].tolist()
                maps.append(Map(block, blocks, (row, column), stored[f"{i}-{len(maps)}-values"]))
            found.append(ModelMaps(name, Seen(*stored[f"{i}-seen"].tolist()), maps))
    return found


def sections(shown: list[dict[str, Any]], root: Path) -> list[Section]:
    """The part of the report, from what `write_panels` returned and left in the folder; none without a tip."""
    if not shown:
        return []
    pictures = [one | {"data": base64.b64encode((root / one["file"]).read_bytes()).decode()} for one in shown]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return [Section("What looks alike to the encoders", template.render(pictures=pictures))]
