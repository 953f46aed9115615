"""Runs: one continual pretraining of an encoder on N samples of a cohort."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from pipelines.pretrain.spec import Spec
from server.access import Caller
from server.audit import Action, record
from server.errors import Conflict, Invalid
from server.services import common, external
from server.settings import Settings
from server.specs import Launch, body_model, resolve
from server.store.models import Cohort, Model, Run, new_id

RunBody = body_model(Spec, Launch)
ENVELOPE = {"name", "gpus", "processes"}


def create(session: Session, caller: Caller, settings: Settings, body: Any) -> Run:
    """Queue a pretraining on a cohort that is ready."""
    if body.start is None and not body.encoder.endswith("-tiny"):
        raise Invalid(f"'{body.encoder}' starts from its open weights; import them and give the model as 'start'.")
    check_launch(body)
    spec = resolve(session, Spec, body, caller, settings)
    cohort = common.get(session, Cohort, body.cohort)
    external.require_own(cohort)
    start = common.get(session, Model, body.start) if body.start else None
    if start is not None and start.encoder != body.encoder:
        raise Conflict(f"The model {start.id} is a '{start.encoder}', not a '{body.encoder}'; start from one of these.")
    id_ = new_id()
    run = Run(
        id=id_,
        name=body.name,
        spec=body.model_dump(mode="json", exclude=ENVELOPE),
        folder=f"runs/{id_}",
        practice=cohort.practice or bool(start and start.practice),
        cohort=cohort,
        encoder=body.encoder,
        created_by=caller.user_id,
    )
    job = common.queue(session, caller, settings, run, "pretrain", spec, gpus=body.gpus, processes=body.processes)
    record(session, caller, Action.RUN_CREATE, f"run:{id_}", job=job.id, cohort=cohort.id)
    return run


def check_launch(body: Any) -> None:
    """A job with GPUs has one rank per GPU; one on CPUs may have any number."""
    if body.gpus and body.processes not in (1, body.gpus):
        raise Invalid("Give as many processes as GPUs, or one.")
    if body.gpus and body.device == "cpu":
        raise Invalid("A job on the CPU takes no GPUs; leave 'gpus' out or choose another device.")
