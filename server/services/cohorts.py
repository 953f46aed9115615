"""Cohorts: datasets built from released exports."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy.orm import Session

from pipelines.build.spec import Spec
from server.access import Caller
from server.audit import Action, record
from server.errors import Conflict
from server.services import common, labels, review
from server.settings import Settings
from server.specs import body_model, resolve
from server.store.models import Cohort, Export, new_id

CohortBody = body_model(Spec)


def build(session: Session, caller: Caller, settings: Settings, body: Any) -> Cohort:
    """Queue a cohort from the released exports that `body.deid` names. Practice and real data do not mix."""
    spec = resolve(session, Spec, body, caller, settings, {"release_key": settings.release_public_key})
    exports = [cast(Export, session.get(Export, id_)) for id_ in body.deid]
    if len({e.practice for e in exports}) > 1:
        raise Conflict("Practice data and real data may not mix in a cohort; choose exports of one kind.")
    labels.require_exports(session, body.labels, exports)
    for export in exports:
        review.ensure_release_file(session, settings, export)
    id_ = new_id()
    cohort = Cohort(
        id=id_,
        name=body.name,
        spec=body.model_dump(mode="json", exclude={"name"}),
        folder=f"cohorts/{id_}",
        practice=exports[0].practice,
        exports=exports,
        created_by=caller.user_id,
    )
    job = common.queue(session, caller, settings, cohort, "build", spec)
    record(session, caller, Action.COHORT_BUILD, f"cohort:{id_}", job=job.id, exports=[e.id for e in exports])
    return cohort
