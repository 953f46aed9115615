"""What people ask of jobs: start, cancel, resume. Workers answer through claim, lease and reaper."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from server.jobs import finish, lease, outbox
from server.jobs.states import ENDED, IllegalTransition, State, move
from server.store.models import Job, new_id, now


def enqueue(
    session: Session,
    *,
    stage: str,
    resource_kind: str,
    resource_id: str,
    title: str,
    spec: dict[str, Any],
    folder: str,
    gpus: int = 0,
    processes: int = 1,
    created_by: str | None = None,
    max_attempts: int = 3,
    parent_id: str | None = None,
    id_: str | None = None,
    needs: Iterable[Job] = (),
) -> Job:
    """Queue a stage, in the caller's transaction.

    `spec` holds resolved paths and nothing but JSON, `folder` is the run folder below the data root, `resource_kind`
    one of export, label, cohort, run, model, evaluation and study. `processes` above 1 runs the stage under torchrun.
    `parent_id` is the job that this one is a share of; it is not taken before `needs` have ended, well or badly.
    """
    job = Job(
        id=id_ or new_id(),
        parent_id=parent_id,
        stage=stage,
        resource_kind=resource_kind,
        resource_id=resource_id,
        title=title,
        spec=spec,
        folder=folder,
        gpus=gpus,
        processes=processes,
        created_by=created_by,
        max_attempts=max_attempts,
        needs=list(needs),
    )
    session.add(job)
    outbox.add(session, job)
    return job


def cancel(session: Session, job: Job) -> None:
    """Cancel a queued job, or ask the supervisor of a running one to; IllegalTransition when it has ended."""
    session.refresh(job, with_for_update=True)
    if job.state == State.QUEUED:
        lease.end(session, job, State.CANCELED, "Canceled before it began.")
    elif job.state != State.CANCELING:
        move(job, State.CANCELING)
        job.cancel_requested_at = now()


def resume(session: Session, job: Job) -> None:
    """Queue a failed or canceled job again with fresh attempts; it goes on from what its folder holds."""
    session.refresh(job, with_for_update=True)
    if job.state not in ENDED:
        # The table allows running -> queued, but that is for workers that give a job back.
        raise IllegalTransition(f"A job that is {job.state} cannot be resumed.")
    if session.scalar(_successor(job)):
        raise IllegalTransition("A newer job works on the same thing; this one cannot be resumed.")
    move(job, State.QUEUED)
    job.attempt = 0
    job.message = ""
    job.cancel_requested_at = job.finished_at = job.not_before = None
    finish.wait(session, job)
    outbox.add(session, job)


def _successor(job: Job) -> Select[str]:
    same = select(Job.id).where(Job.resource_kind == job.resource_kind, Job.resource_id == job.resource_id)
    return same.where(Job.parent_id.is_(None), Job.id != job.id, Job.created_at > job.created_at).limit(1)
