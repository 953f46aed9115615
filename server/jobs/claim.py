"""Taking a queued job: a conditional update under a fresh fencing token, with its GPUs in the same transaction."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from sqlalchemy import ColumnElement, CursorResult, Select, and_, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from server.jobs import finish, lease
from server.jobs.clock import clock
from server.jobs.states import ENDED, State, check
from server.store.models import GpuSlot, Job, job_need


@dataclass(frozen=True)
class Claimant:
    """Who claims. `host` and `boot_id` name the place where `pid` means something; `worker` is for people."""

    worker: str
    host: str
    boot_id: str
    pid: int


@dataclass(frozen=True)
class Claim:
    """A job taken, and the token that every later write must show."""

    job_id: str
    token: str


def claim(session: Session, me: Claimant, queue: str, lease_seconds: float) -> Claim | None:
    """Take the oldest queued job of `queue` that fits this host; None when there is none or its GPUs are in use."""
    job = session.scalar(_oldest(session, me, queue))
    if job is None:
        return None
    if not finish.prepare(session, job):
        lease.end(session, job, State.CANCELED, "Nothing that it was to work on has finished; resume that first.")
        return claim(session, me, queue, lease_seconds)
    slots = _free_slots(session, me, job.gpus)
    if len(slots) < job.gpus:
        # It keeps its place: smaller jobs that overtook it for ever would starve it.
        return None
    token = str(uuid.uuid4())
    check(job.state, State.RUNNING)
    taken = session.execute(
        update(Job)
        .where(Job.id == job.id, Job.state == State.QUEUED)
        .values(
            state=State.RUNNING,
            attempt=Job.attempt + 1,
            lease_token=token,
            lease_expires_at=(at := clock(session)) + timedelta(seconds=lease_seconds),
            worker=me.worker,
            host=me.host,
            boot_id=me.boot_id,
            pid=me.pid,
            started_at=func.coalesce(Job.started_at, at),
            not_before=None,
        ),
        execution_options={"synchronize_session": False},
    )
    if cast("CursorResult[object]", taken).rowcount != 1:
        return None
    for slot in slots:
        slot.job_id = job.id
    finish.begin(session, job)
    return Claim(job.id, token)


def _due(session: Session) -> ColumnElement[bool]:
    """Queued, not in the pause after an attempt that failed, and nothing that it needs is still to come."""
    paused = or_(Job.not_before.is_(None), Job.not_before <= clock(session))
    need = aliased(Job)
    open_need = select(job_need.c.job_id).join(need, need.id == job_need.c.need_id)
    open_need = open_need.where(job_need.c.job_id == Job.id, need.state.not_in(ENDED))
    return and_(Job.state == State.QUEUED, paused, ~open_need.correlate(Job).exists())


def wanted(session: Session) -> bool:
    """Whether a job that is no share waits for a CPU slot."""
    waiting = select(Job.id).where(_due(session), Job.gpus == 0, Job.parent_id.is_(None))
    return session.scalar(waiting.limit(1)) is not None


def _oldest(session: Session, me: Claimant, queue: str) -> Select[Job]:
    query = select(Job).where(_due(session))
    if queue == "gpu":
        here = select(func.count()).select_from(GpuSlot).where(GpuSlot.host == me.host).scalar_subquery()
        query = query.where(Job.gpus > 0, Job.gpus <= here)
    else:
        query = query.where(Job.gpus == 0)
    # A share is for who has nothing of its own to do.
    own_first = query.order_by(Job.parent_id.is_not(None), Job.created_at, Job.id)
    return own_first.limit(1).with_for_update(skip_locked=True)


def _free_slots(session: Session, me: Claimant, wanted: int) -> list[GpuSlot]:
    if not wanted:
        return []
    free = select(GpuSlot).where(GpuSlot.host == me.host, GpuSlot.job_id.is_(None)).order_by(GpuSlot.uuid)
    return list(session.scalars(free.limit(wanted).with_for_update(skip_locked=True)))
