"""A lease on a job: held by renewal, fenced by its token, given back or ended by its holder.

Every write of a supervisor begins with `hold`, in the same transaction: the conditional update checks the token, renews
the lease and locks the row, so that nothing written after it can come from a holder who was replaced meanwhile.
"""

from __future__ import annotations

from datetime import timedelta
from typing import cast

from sqlalchemy import CursorResult, Select, select, update
from sqlalchemy.orm import Session

from server.jobs import finish, outbox
from server.jobs.clock import clock
from server.jobs.states import State, move
from server.store.models import GpuSlot, Job, job_need, now

LONGEST_PAUSE = 3600.0


class LeaseLost(Exception):
    """The job is no longer ours: another worker holds it, or it ended."""


def hold(session: Session, job_id: str, token: str, seconds: float) -> Job:
    """Renew the lease for `seconds` and return the job, locked until the transaction ends.

    Raises LeaseLost when the token is no longer the job's: another holds it, or nobody does.
    """
    ours = update(Job).where(Job.id == job_id, Job.lease_token == token)
    renewed = session.execute(
        ours.values(lease_expires_at=clock(session) + timedelta(seconds=seconds)),
        execution_options={"synchronize_session": False},
    )
    if cast("CursorResult[object]", renewed).rowcount != 1:
        raise LeaseLost(f"The lease on job {job_id} is no longer held.")
    return session.get_one(Job, job_id, populate_existing=True)


def end(session: Session, job: Job, state: State, message: str) -> None:
    """The job is over: succeeded, failed or canceled. The caller has locked the row."""
    move(job, state)
    job.message = _sentence(message)
    job.finished_at = now()
    _let_go(job)
    if state is not State.SUCCEEDED:
        finish.fail(session, job)
    _close_shares(session, job)
    for waiting in session.scalars(_waiting_for(job)):
        outbox.add(session, waiting)


def _waiting_for(job: Job) -> Select[Job]:
    """Queued jobs that may be taken now that `job` is over."""
    return (
        select(Job)
        .join(job_need, job_need.c.job_id == Job.id)
        .where(job_need.c.need_id == job.id, Job.state == State.QUEUED)
    )


def _close_shares(session: Session, job: Job) -> None:
    """Nobody need help any more; who does so still is asked to stop, unless the work is done."""
    for share in session.scalars(select(Job).where(Job.parent_id == job.id).with_for_update()):
        if share.state == State.QUEUED:
            end(session, share, State.CANCELED, "No help is needed any more.")
        elif share.state == State.RUNNING and job.state != State.SUCCEEDED:
            move(share, State.CANCELING)
            share.cancel_requested_at = now()


def pause(first: float, attempt: int) -> float:
    """Seconds before a job is tried again after so many attempts: four times as long each time, an hour at most."""
    return min(first * 4.0 ** (attempt - 1), LONGEST_PAUSE)


def give_back(session: Session, job: Job, message: str, *, refund: bool = False, after: float = 0) -> None:
    """The attempt ended without an outcome that counts. The caller has locked the row.

    A canceling job is canceled, any other queued again while attempts are left, to be taken in `after` seconds at the
    earliest. `refund` is for a worker that stopped in good order: its attempt is not counted.
    """
    if job.state == State.CANCELING:
        return end(session, job, State.CANCELED, "Canceled.")
    job.attempt -= refund
    if job.attempt >= job.max_attempts:
        return end(session, job, State.FAILED, f"{message} It was tried {job.attempt} times.")
    move(job, State.QUEUED)
    job.message = _sentence(message)
    job.not_before = clock(session) + timedelta(seconds=after) if after else None
    _let_go(job)
    outbox.add(session, job)


def free_slots(session: Session, job_id: str, host: str) -> None:
    """Free the GPUs of `host` that the job held. Only for whoever has seen that no process of it lives there."""
    session.execute(update(GpuSlot).where(GpuSlot.job_id == job_id, GpuSlot.host == host).values(job_id=None))


def _let_go(job: Job) -> None:
    job.lease_token = job.lease_expires_at = job.pid = None


def _sentence(text: str) -> str:
    """Text as every database takes it: no NUL, no half of a surrogate pair, no novel."""
    return text.replace("\0", "").encode(errors="replace").decode()[:2000]
