"""What every resource shares: find one, list many, and queue the job that makes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.access import Caller
from server.errors import Conflict, NotFound
from server.jobs import service as job_service
from server.jobs.states import ENDED
from server.settings import Settings
from server.store.models import (
    Champion,
    Cohort,
    Evaluation,
    Export,
    Job,
    LabelRun,
    Model,
    Run,
    Similarity,
    Site,
    Study,
)
from server.store.paging import LIMIT, Page, newest

R = TypeVar("R", Site, Export, LabelRun, Cohort, Run, Model, Evaluation, Similarity, Study, Champion, Job)


def get(session: Session, model: type[R], id_: str) -> R:
    """The row, or NotFound."""
    row = session.get(model, id_)
    if row is None:
        raise NotFound(f"There is no {model.__tablename__} {id_}; check the id.")
    return row


def page(
    session: Session, model: type[R], after: str | None = None, limit: int = LIMIT, **equal: str | None
) -> Page[R]:
    """Rows newest first; `equal` filters by columns, those that are None aside. Shares are listed by their parent."""
    rows = select(model).filter_by(**{k: v for k, v in equal.items() if v is not None})
    if model is Job and equal.get("parent_id") is None:
        rows = rows.where(Job.parent_id.is_(None))
    return newest(session, rows, model, after, limit)


def latest_job(session: Session, kind: str, id_: str) -> Job | None:
    """The last job queued for a resource, shares aside."""
    jobs = select(Job).where(Job.resource_kind == kind, Job.resource_id == id_, Job.parent_id.is_(None))
    return session.scalar(jobs.order_by(Job.created_at.desc(), Job.id.desc()).limit(1))


def require_idle(session: Session, kind: str, id_: str) -> None:
    """Conflict while a job still works, or waits to work, on the resource."""
    job = latest_job(session, kind, id_)
    if job is not None and job.state not in ENDED:
        raise Conflict(f"The job {job.id} is at work on this {kind}; wait for it or cancel it first.")


def queue(
    session: Session,
    caller: Caller,
    settings: Settings,
    row: Export | LabelRun | Cohort | Run | Model | Evaluation | Similarity | Study,
    stage: str,
    spec: dict[str, Any],
    *,
    gpus: int = 0,
    processes: int = 1,
    folder: str | None = None,
    needs: Iterable[Job] = (),
) -> Job:
    """Queue the stage that makes `row`, in its folder when no other is given, behind the jobs `needs`."""
    session.add(row)
    session.flush()
    verb = {"deidentify": "De-identify", "scale": "Judge", "external": "Build", "similarity": "Map"}
    return job_service.enqueue(
        session,
        stage=stage,
        resource_kind=type(row).__tablename__,
        resource_id=row.id,
        title=f"{verb.get(stage, stage.capitalize())} {row.name}"[:200],
        spec=spec,
        folder=folder or row.folder or "",
        gpus=gpus,
        processes=processes,
        created_by=caller.user_id,
        max_attempts=settings.max_attempts,
        needs=needs,
    )
