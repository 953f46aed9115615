"""Jobs as people see them: cancel, resume, and what a stage said. The pattern itself is server.jobs."""

from __future__ import annotations

from sqlalchemy.orm import Session

from server.access import CONTROLS, Caller
from server.audit import Action, record
from server.jobs import finish, service
from server.jobs.states import ENDED, IllegalTransition
from server.store.models import Job


def cancel(session: Session, caller: Caller, job: Job) -> Job:
    """Cancel a queued job, or ask the supervisor of a running one to."""
    _require_whole(job)
    caller.require(CONTROLS[job.resource_kind])
    service.cancel(session, job)
    record(session, caller, Action.JOB_CANCEL, f"job:{job.id}", resource=f"{job.resource_kind}:{job.resource_id}")
    return job


def resume(session: Session, caller: Caller, job: Job) -> Job:
    """Queue a failed or canceled job again; it goes on from what its folder holds."""
    _require_whole(job)
    caller.require(CONTROLS[job.resource_kind])
    # Lock what it makes, so that nobody queues a newer job for it meanwhile. Not while a worker holds the job: workers
    # lock the two the other way round.
    resource = finish.resource(session, job) if job.state in ENDED else None
    if resource is not None:
        session.refresh(resource, with_for_update=True)
    service.resume(session, job)
    record(session, caller, Action.JOB_RESUME, f"job:{job.id}", resource=f"{job.resource_kind}:{job.resource_id}")
    return job


def _require_whole(job: Job) -> None:
    if job.parent_id:
        raise IllegalTransition(f"This job only helps with the job {job.parent_id}; cancel or resume that one.")
