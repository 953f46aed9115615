"""External sets: cohorts built from labelled folders of elsewhere, to evaluate on and never to train on."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelines.external.names import share_images
from pipelines.external.spec import Spec
from server.access import Caller
from server.audit import Action, record
from server.errors import Conflict, Invalid
from server.services import common
from server.settings import Settings
from server.specs import Named, below, body_model, resolve
from server.store.models import Cohort, Model, new_id


class Envelope(Named):
    """What a set is called here, and where it lies."""

    path: str
    """Absolute, below one of the configured external roots."""
    public_set: str = Field("", max_length=200)
    """Name of the set, by which models that were trained on it are known; a published layout has its own."""


ExternalBody = body_model(Spec, Envelope, frozenset({"name"}))


def build(session: Session, caller: Caller, settings: Settings, body: Any) -> Cohort:
    """Queue the cohort of a labelled folder. No release is asked for: nothing of the house may lie there."""
    path = below(body.path, settings.external_roots, "external")
    for root in (r.resolve() for r in settings.export_roots):
        if path.is_relative_to(root) or root.is_relative_to(path):
            raise Invalid(
                "PACS exports lie in this folder; their images come in by de-identification and release alone."
            )
    name = body.public_set.strip()
    if body.layout == "table" and not name:
        raise Invalid("Give the name of the set in 'public_set'; a plain table does not say it.")
    spec = resolve(session, Spec, body, caller, settings, {"folder": path, "name": name})
    id_ = new_id()
    cohort = Cohort(
        id=id_,
        name=body.name,
        spec=body.model_dump(mode="json", exclude={"name", "path"}),
        folder=f"cohorts/{id_}",
        created_by=caller.user_id,
    )
    job = common.queue(session, caller, settings, cohort, "external", spec)
    record(session, caller, Action.COHORT_EXTERNAL, f"cohort:{id_}", job=job.id, layout=body.layout)
    return cohort


def require_own(cohort: Cohort) -> None:
    """Conflict for an external set: only released data trains."""
    if cohort.external:
        raise Conflict(
            "This cohort is an external set, to evaluate on; choose one that is built from released exports."
        )


def contaminated(session: Session, cohort: Cohort) -> list[tuple[Model, list[str]]]:
    """The models that are known to have been trained on images of an external set, and by which sets that is known."""
    if cohort.public_set is None:
        return []
    ready = session.scalars(select(Model).where(Model.state == "ready").order_by(Model.name))
    seen = [(m, [s for s in (m.result or {}).get("seen", ()) if share_images(s, cohort.public_set)]) for m in ready]
    return [(model, sets) for model, sets in seen if sets]
