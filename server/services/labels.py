"""Label runs: structured labels of one released export, from each source that is asked, and how far they agree."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelines.label.spec import Spec
from server.access import Caller
from server.audit import Action, record
from server.errors import Conflict, Invalid
from server.services import common, review
from server.services.runs import ENVELOPE
from server.settings import Settings
from server.specs import Launch, body_model, resolve
from server.store.models import Export, LabelRun, new_id

LabelBody = body_model(Spec, Launch)


def create(session: Session, caller: Caller, settings: Settings, body: Any) -> LabelRun:
    """Queue the labelling of a released export. One process, on at most one GPU, which only a language model uses."""
    if body.processes != 1 or body.gpus > ("model" in body.sources):
        raise Invalid("A label run is one process, on one GPU at most and only for the source 'model'; mend gpus.")
    spec = resolve(session, Spec, body, caller, settings, {"release_key": settings.release_public_key})
    export = cast(Export, session.get(Export, body.deid))
    review.ensure_release_file(session, settings, export)
    id_ = new_id()
    run = LabelRun(
        id=id_,
        name=body.name,
        spec=body.model_dump(mode="json", exclude=ENVELOPE | {"model"}) | {"model": body.model is not None},
        folder=f"labels/{id_}",
        practice=export.practice,
        export=export,
        created_by=caller.user_id,
    )
    job = common.queue(session, caller, settings, run, "label", spec, gpus=body.gpus)
    record(session, caller, Action.LABEL_CREATE, f"label:{id_}", job=job.id, export=export.id)
    return run


def ready(session: Session) -> list[LabelRun]:
    """The finished label runs of exports that are still released, newest first: what a cohort may be built with."""
    rows = select(LabelRun).join(Export).where(LabelRun.state == "ready", Export.state == "released")
    return list(session.scalars(rows.order_by(LabelRun.created_at.desc())))


def require_exports(session: Session, ids: tuple[str, ...], exports: list[Export]) -> None:
    """Conflict when a label run belongs to none of `exports`, or two to one."""
    seen: set[str] = set()
    for id_ in ids:
        run = common.get(session, LabelRun, id_)
        if run.export_id not in {e.id for e in exports}:
            raise Conflict(f"The label run {run.name} is of another export; choose its export too or leave it out.")
        if run.export_id in seen:
            raise Conflict("Two label runs of one export were chosen; choose one.")
        seen.add(run.export_id)
