"""Stage `similarity`: patch vectors of chosen images by every model, and pictures around chosen points.

The vectors stay in the folder, so that whoever reads it (`folder`) can ask for any other patch without a model.
"""

from __future__ import annotations

import io
from itertools import groupby
from typing import Any

import numpy as np

from pipelines.cohort import Cohort
from pipelines.contract import BadInput, RunFolder, write_atomic
from pipelines.evaluate import features
from pipelines.evaluate.models import Model, unique_names
from pipelines.evaluate.tasks import frontal_images
from pipelines.similarity import folder, picture, vectors
from pipelines.similarity.maps import Point
from pipelines.similarity.panel import draw, palette
from pipelines.similarity.report import choose_tips
from pipelines.similarity.spec import Place, Spec

FOUND = 4
"""Images that are shown of a label."""


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """Write `images/`, `vectors/`, `panels/` and `scale.png`."""
    cohort = Cohort.open(spec.cohort)
    models = list(unique_names([Model.open(path) for path in spec.models]).values())
    images = _images(cohort, _places(spec, cohort))
    for name in ("images", "vectors", "panels"):
        (run.root / name).mkdir(exist_ok=True)
    for image in images:
        write_atomic(run.root / image["file"], picture.grey_png(cohort.image(image["image"])))
    write_atomic(run.root / folder.SCALE, picture.map_png(np.linspace(0, 1, 256)[None], palette()))
    read = [_read(model, m, cohort, images, spec.device, run) for m, model in enumerate(models)]
    result = {
        "practice": cohort.practice or any(m.card.practice for m in models),
        "cohort": cohort.digest,
        "images": images,
        "models": read,
    }
    for image in images:
        for point in image["points"]:
            found = folder.at_point(run.root, result, image["image"], Point(point["x"], point["y"]))
            drawn = draw(cohort.image(image["image"]), found, Point(point["x"], point["y"]))
            write_atomic(run.root / point["panel"], drawn)
    run.artifact("pictures", run.root / "panels")
    return result


def _places(spec: Spec, cohort: Cohort) -> list[tuple[Place, str]]:
    """Places and what is there, in words: those given, else images of a label, else the tips that a report shows."""
    if spec.places:
        if any(place.image >= len(cohort) for place in spec.places):
            raise BadInput(f"The cohort has images 0 to {len(cohort) - 1}; choose one of these.")
        return [(place, "") for place in spec.places]
    images = frontal_images(cohort)
    test = images.rows[images.of("test")]
    if spec.label is not None:
        rows = test[cohort.label_matrix([spec.label])[test, 0] == 1][:FOUND]
        if not len(rows):
            known = ", ".join(cohort.label_names()) or "none"
            raise BadInput(f"No test image is positive for the label asked for; the cohort's labels are {known}.")
        return [(Place(image=int(row)), spec.label) for row in rows]
    tips = choose_tips(cohort, images, 1)
    if not tips:
        raise BadInput(
            "The cohort has no test image with a drawn tip of a line or tube; name images in 'places', or a 'label'."
        )
    return [(Place(image=t.image, x=t.point.x, y=t.point.y), f"tip of {t.label}") for t in tips]


def _images(cohort: Cohort, places: list[tuple[Place, str]]) -> list[dict[str, Any]]:
    """Each image once, with its points."""
    found = []
    for number, group in groupby(sorted(places, key=lambda p: p[0].image), key=lambda p: p[0].image):
        height, width = cohort.image(number).shape
        points = [
            {"x": place.x, "y": place.y, "words": words, "panel": f"panels/{number}-{i}.png"}
            for i, (place, words) in enumerate(p for p in group if p[0].x is not None)
        ]
        row = cohort.index.slice(number, 1).to_pylist()[0]
        facts = {"width": width, "height": height, "split": row["split"], "view": row["view"]}
        found.append({"image": number, "file": f"images/{number}.png", "points": points, **facts})
    return found


def _read(
    model: Model, number: int, cohort: Cohort, images: list[dict[str, Any]], device: str, run: RunFolder
) -> dict[str, Any]:
    """Write the vectors of every image by a model; returns what the result says of it."""
    run.check_stop()
    encoder: Any = features.load(model, device)
    seen, depths = [], []
    for done, image in enumerate(images, 1):
        pixels = cohort.image(image["image"])
        seen.append(list(vectors.seen_part(pixels, encoder.how)))
        read = vectors.read_depths(encoder, pixels)
        depths = [{"block": block, "blocks": blocks} for block, blocks, _ in read]
        for d, (_, _, units) in enumerate(read):
            out = io.BytesIO()
            np.save(out, units)
            write_atomic(run.root / folder.vectors_file(image["image"], number, d), out.getvalue())
        run.progress(done, len(images), f"patch features of {model.name}")
    return {"name": model.name, "encoder": model.card.encoder, "depths": depths, "seen": seen, "weights": model.digest}
