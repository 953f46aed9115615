"""Champions: for each task of a site the model to be used, with the history of how it came to that."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import Field
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from pipelines.evaluate import promotion
from pipelines.evaluate.spec import Task
from server.access import Caller, Permission
from server.audit import Action, record
from server.errors import Conflict
from server.jobs.states import State
from server.services import common
from server.settings import Settings
from server.specs import Body, Id
from server.store.models import Champion, Cohort, Evaluation, Export, Job, Model, Site, Study, new_id


class ChampionIn(Body):
    """A model to be the champion of a task, and the evaluation that compares it with the one before."""

    task: Task
    model: Id
    evaluation: Id
    comment: str = Field("", max_length=2000)


def promote(session: Session, caller: Caller, settings: Settings, site: Site, body: ChampionIn) -> Champion:
    """Name a champion. Conflict, with the reason, where the rule of pipelines.evaluate.promotion does not allow it."""
    session.refresh(site, with_for_update=True)  # two at once would both be compared with the one before
    caller.require(Permission.MODEL_READ)
    model = common.get(session, Model, body.model)
    evaluation = common.get(session, Evaluation, body.evaluation)
    if evaluation.state != "ready" or evaluation.result is None:
        raise Conflict("The evaluation has no result; wait for its job to finish.")
    if {export.site_id for export in evaluation.cohort.exports} != {site.id}:
        raise Conflict("The evaluation is on patients of another site; evaluate on a cohort of this site alone.")
    before = current(session, site.id, body.task)
    practice = model.practice or evaluation.practice
    if practice and before is not None and not before.model.practice:
        raise Conflict("Practice data says nothing about patients; it cannot replace a champion of theirs.")
    digest = before.model.digest if before else None
    ruling = promotion.rule(evaluation.result, body.task, model.digest or "", digest, settings.promotion_margin)
    if not ruling.allowed:
        raise Conflict(ruling.reason)
    champion = Champion(
        id=new_id(),
        site=site,
        task=body.task,
        model=model,
        evaluation=evaluation,
        before_id=before.id if before else None,
        ruling=asdict(ruling) | {"margin": settings.promotion_margin, "looks": evaluation.result.get("looks")},
        comment=body.comment,
        practice=practice,
        created_by=caller.user_id,
    )
    session.add(champion)
    named = {"task": body.task, "model": model.id, "evaluation": evaluation.id}
    record(
        session, caller, Action.MODEL_PROMOTE, f"site:{site.id}", **named, before=before.model_id if before else None
    )
    return champion


def current(session: Session, site_id: str, task: str) -> Champion | None:
    """The champion of a task now: the one that no other has followed."""
    followed = select(Champion.before_id).where(Champion.before_id.is_not(None))
    own = select(Champion).where(Champion.site_id == site_id, Champion.task == task, Champion.id.not_in(followed))
    return session.scalar(own)


def looks(session: Session, cohort: Cohort) -> int:
    """Looks at the test patients of a cohort so far: evaluations and judgements of studies, on it or on any other
    cohort that shares an export with it or is of the same external set, because a patient's split never changes. What
    was canceled before it began is none."""
    shared = {export.id for export in cohort.exports}
    same = Cohort.exports.any(Export.id.in_(shared))
    if cohort.public_set is not None:
        same = Cohort.result["public_set"].as_string() == cohort.public_set
    cohorts = select(Cohort.id).where(or_(Cohort.id == cohort.id, same))
    evaluations = select(Evaluation.id).where(Evaluation.cohort_id.in_(cohorts))
    studies = select(Study.id).where(Study.cohort_id.in_(cohorts))
    looked = select(Job.id).where(
        Job.stage.in_(("evaluate", "scale")),
        or_(Job.resource_id.in_(evaluations), Job.resource_id.in_(studies)),
        or_(Job.state != State.CANCELED, Job.started_at.is_not(None)),
    )
    return len(session.scalars(looked).all())
