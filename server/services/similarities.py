"""Similarity maps: patch vectors of images of a cohort by several models, and the map around any point of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from pipelines.contract import BadInput
from pipelines.similarity import folder
from pipelines.similarity.maps import ModelMaps, Point
from pipelines.similarity.spec import Spec
from server.access import Caller
from server.audit import Action, record
from server.errors import Conflict, Invalid, NotFound
from server.services import common
from server.services.runs import ENVELOPE
from server.settings import Settings
from server.specs import Launch, body_model, resolve
from server.store.models import Cohort, Model, Similarity, new_id

SimilarityBody = body_model(Spec, Launch)


def create(session: Session, caller: Caller, settings: Settings, body: Any) -> Similarity:
    """Queue the maps of images of a cohort whose exports are released. One process, on at most one GPU."""
    if body.processes != 1 or body.gpus > 1:
        raise Invalid("Similarity maps are made in one process on at most one GPU; give gpus 0 or 1 and processes 1.")
    spec = resolve(session, Spec, body, caller, settings)
    cohort = common.get(session, Cohort, body.cohort)
    _require_released(cohort)
    models = [common.get(session, Model, id_) for id_ in body.models]
    id_ = new_id()
    row = Similarity(
        id=id_,
        name=body.name,
        spec=body.model_dump(mode="json", exclude=ENVELOPE),
        folder=f"similarities/{id_}",
        practice=cohort.practice or any(m.practice for m in models),
        cohort=cohort,
        created_by=caller.user_id,
    )
    job = common.queue(session, caller, settings, row, "similarity", spec, gpus=body.gpus)
    record(session, caller, Action.SIMILARITY_CREATE, f"similarity:{id_}", job=job.id, cohort=cohort.id)
    return row


def _require_released(cohort: Cohort) -> None:
    """Images are seen as long as every export of the cohort is released."""
    held = [e.name for e in cohort.exports if e.state != "released"]
    if held:
        raise Conflict(f"The export {held[0]} is no longer released; its images may not be seen.")


def opened(session: Session, settings: Settings, id_: str) -> tuple[Similarity, Path, dict[str, Any]]:
    """The row, its folder and its result; Conflict before its job is done or when a release was taken back."""
    row = common.get(session, Similarity, id_)
    _require_released(row.cohort)
    if row.state != "ready" or row.result is None:
        raise Conflict("The maps are not ready; wait for their job to finish.")
    return row, settings.root / row.folder, row.result


def at_point(root: Path, result: dict[str, Any], image: int, x: float, y: float) -> list[ModelMaps]:
    """The maps of every model around a point of an image, its number being that in the cohort."""
    try:
        return folder.at_point(root, result, image, Point(x, y))
    except BadInput as error:
        raise NotFound(str(error)) from None


def image_of(result: dict[str, Any], image: int | None) -> dict[str, Any]:
    """What the result says of an image, by its number in the cohort; None takes the first."""
    try:
        found: dict[str, Any] = result["images"][0 if image is None else folder.place_of(result, image)]
    except BadInput as error:
        raise NotFound(str(error)) from None
    return found


def panel_of(result: dict[str, Any], image: int, panel: int) -> str:
    """The file of the `panel`-th picture that was drawn of an image."""
    points = image_of(result, image)["points"]
    if not 0 <= panel < len(points):
        raise NotFound(f"{len(points)} pictures were drawn of image {image}; count from 0.")
    return str(points[panel]["panel"])
