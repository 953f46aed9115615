"""Evaluations: models x tasks on one cohort's test split."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from pipelines.evaluate.spec import Spec
from server.access import Caller
from server.audit import Action, record
from server.errors import Invalid
from server.services import champions, common
from server.services.runs import ENVELOPE
from server.settings import Settings
from server.specs import Launch, body_model, resolve
from server.store.models import Cohort, Evaluation, Model, new_id

EvaluationBody = body_model(Spec, Launch)


def create(session: Session, caller: Caller, settings: Settings, body: Any) -> Evaluation:
    """Queue an evaluation of models that are ready. One process, on at most one GPU."""
    if body.processes != 1 or body.gpus > 1:
        raise Invalid("An evaluation runs in one process on at most one GPU; give gpus 0 or 1 and processes 1.")
    cohort = common.get(session, Cohort, body.cohort)
    counted = {"looks": champions.looks(session, cohort) + 1}
    spec = resolve(session, Spec, body, caller, settings, counted)
    teacher = common.get(session, Cohort, body.teacher) if body.teacher else None
    named = [common.get(session, Model, id_) for id_ in (*body.models, *body.baselines)]
    id_ = new_id()
    evaluation = Evaluation(
        id=id_,
        name=body.name,
        spec=body.model_dump(mode="json", exclude=ENVELOPE),
        folder=f"evaluations/{id_}",
        practice=cohort.practice or bool(teacher and teacher.practice) or any(m.practice for m in named),
        cohort=cohort,
        created_by=caller.user_id,
    )
    job = common.queue(session, caller, settings, evaluation, "evaluate", spec, gpus=body.gpus)
    record(session, caller, Action.EVALUATION_CREATE, f"evaluation:{id_}", job=job.id, cohort=cohort.id)
    return evaluation
