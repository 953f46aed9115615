"""Shares: jobs by which free workers help with another one that has much left to do.

A running job keeps one share on offer; when a worker takes it, the next one is offered. So as many help as are free.
A share is claimed, leased, fenced and reaped like any job. It works on the run folder of its parent, where claims on
the units of work keep apart who does what (pipelines.claims), and has a run folder of its own for what it says.
Other jobs come first: a share is taken by who finds nothing else, and makes room when something else waits.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.jobs import service
from server.jobs.states import State
from server.store.models import Job, new_id

FAILURES = 3
"""After so many failed shares something is wrong with them, and the job goes on alone."""


def offer(session: Session, job: Job, root: Path, least: int) -> None:
    """Have a share on offer while `job`, whose row the caller has locked, has `least` items left in its step.

    `root` is the data root; `least` 0 offers none. Stages that can be shared have `share_of` in their spec.
    """
    progress = job.progress or {}
    left = (progress.get("total") or 0) - (progress.get("done") or 0)
    if not least or left < least or "share_of" not in job.spec or job.parent_id or job.state != State.RUNNING:
        return
    states = [share.state for share in of(session, job.id)]
    if State.QUEUED in states or states.count(State.FAILED) >= FAILURES:
        return
    share = new_id()
    service.enqueue(
        session,
        id_=share,
        parent_id=job.id,
        stage=job.stage,
        resource_kind=job.resource_kind,
        resource_id=job.resource_id,
        title=f"Help: {job.title}"[:200],
        spec=job.spec | {"share_of": str(root / job.folder)},
        folder=f"{job.folder}.shares/{share}",
        created_by=job.created_by,
        max_attempts=job.max_attempts,
    )


def of(session: Session, job_id: str) -> list[Job]:
    """The shares of a job, oldest first."""
    return list(session.scalars(select(Job).where(Job.parent_id == job_id).order_by(Job.created_at, Job.id)))
