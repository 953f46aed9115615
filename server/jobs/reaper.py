"""Jobs whose holder is gone: found by an expired lease anywhere, or at once on the holder's own host."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.jobs import lease
from server.jobs.clock import clock
from server.jobs.states import LIVE
from server.store.models import GpuSlot, Job

LOST = "The worker was lost."


def reap(session: Session) -> list[str]:
    """Give back every job whose lease has expired; returns their ids.

    GPUs are not freed here: a process of the job may still live on its host, and only a worker there can see that.
    """
    expired = select(Job).where(Job.state.in_(LIVE), Job.lease_expires_at < clock(session))
    jobs = list(session.scalars(expired.with_for_update(skip_locked=True)))
    for job in jobs:
        lease.give_back(session, job, LOST)
    return [job.id for job in jobs]


def live_on(session: Session, host: str, boot_id: str) -> list[Job]:
    """The jobs held on this boot of this host."""
    held = select(Job).where(Job.state.in_(LIVE), Job.host == host, Job.boot_id == boot_id)
    return list(session.scalars(held))


def tokens(session: Session, job_ids: set[str]) -> dict[str, str | None]:
    """The token that each of these jobs is held with; jobs that are not in this database are left out."""
    held = select(Job.id, Job.lease_token).where(Job.id.in_(job_ids))
    return dict(session.execute(held).tuples().all())


def take_back(session: Session, job_id: str, token: str, host: str, *, refund: bool = False) -> bool:
    """Give back a job whose processes the caller has seen dead; False when it is no longer held with `token`."""
    try:
        job = lease.hold(session, job_id, token, 0)
    except lease.LeaseLost:
        return False
    lease.give_back(session, job, LOST, refund=refund)
    lease.free_slots(session, job_id, host)
    return True


def abandoned_slots(session: Session, host: str) -> set[str]:
    """Jobs that hold GPUs of this host although they do not run here."""
    leased = select(GpuSlot.job_id, Job.state, Job.host).join(Job, Job.id == GpuSlot.job_id)
    rows = session.execute(leased.where(GpuSlot.host == host))
    return {job_id for job_id, state, where in rows if job_id and (state not in LIVE or where != host)}
