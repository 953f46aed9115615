"""Models: open weights brought in from a configured folder; those of runs are registered when the run ends."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from pipelines.weights.baselines import find_baseline
from pipelines.weights.spec import Spec
from server.access import Caller
from server.audit import Action, record
from server.services import common
from server.settings import Settings
from server.specs import body_model, resolve
from server.store.models import Model, new_id

ModelBody = body_model(Spec)


def import_weights(session: Session, caller: Caller, settings: Settings, body: Any) -> Model:
    """Queue the import of open weights below a weights root."""
    spec = resolve(session, Spec, body, caller, settings)
    id_ = new_id()
    model = Model(
        id=id_,
        name=body.name,
        spec={"family": body.family},
        folder=f"models/{id_}",
        kind="open-weight",
        encoder=find_baseline(body.family).starts_as,
        created_by=caller.user_id,
    )
    job = common.queue(session, caller, settings, model, "import", spec)
    record(session, caller, Action.MODEL_IMPORT, f"model:{id_}", job=job.id, family=body.family)
    return model
