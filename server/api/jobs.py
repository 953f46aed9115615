"""/jobs: watch, cancel, resume."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from server.access import Caller, Permission
from server.api.schemas import DEFAULT_LIMIT, After, EventOut, JobOut, Limit, Page
from server.dependencies import DatabaseDep, SessionDep, allow
from server.jobs import events
from server.jobs.states import ENDED
from server.services import common, jobs
from server.store.db import Database
from server.store.models import Job

router = APIRouter(prefix="/jobs", tags=["jobs"])
POLL_SECONDS = 1.0
# A stream is opened by who may see the job then; it ends now and again so that the browser must ask anew.
STREAM_SECONDS = 600.0
EVENTS = 1000


class Events(BaseModel):
    """Events oldest first; give `next` as `after` to go on from here."""

    items: list[EventOut]
    next: int


@router.get("", dependencies=[allow(Permission.JOB_READ)])
def list_jobs(
    session: SessionDep,
    state: str | None = None,
    resource: str | None = None,
    parent: str | None = None,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[JobOut]:
    """Jobs newest first; `resource` is the id of what they make, `parent` asks for those that help with a job."""
    equal = {"state": state, "resource_id": resource, "parent_id": parent}
    return Page[JobOut].of(common.page(session, Job, after, limit, **equal), JobOut.model_validate)


@router.get("/{job_id}", dependencies=[allow(Permission.JOB_READ)])
def get_job(job_id: str, session: SessionDep) -> JobOut:
    return JobOut.model_validate(common.get(session, Job, job_id))


@router.get("/{job_id}/events", dependencies=[allow(Permission.JOB_READ)])
def list_events(
    job_id: str,
    session: SessionDep,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=EVENTS)] = EVENTS,
) -> Events:
    """What the stage said behind the event `after`."""
    common.get(session, Job, job_id)
    rows = events.since(session, job_id, after, limit)
    return Events(items=[EventOut.model_validate(r) for r in rows], next=rows[-1].id if rows else after)


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, session: SessionDep, caller: Caller = allow(Permission.JOB_CONTROL)) -> JobOut:
    """Cancel; a running stage saves what it has and can be resumed."""
    return JobOut.model_validate(jobs.cancel(session, caller, common.get(session, Job, job_id)))


@router.post("/{job_id}/resume")
def resume_job(job_id: str, session: SessionDep, caller: Caller = allow(Permission.JOB_CONTROL)) -> JobOut:
    """Queue a failed or canceled job again, from where it was."""
    return JobOut.model_validate(jobs.resume(session, caller, common.get(session, Job, job_id)))


def _existing(job_id: str, db: DatabaseDep) -> None:
    """A job that is not there is a problem, not a stream that breaks off."""
    with db.reading() as session:
        common.get(session, Job, job_id)


@router.get(
    "/{job_id}/stream",
    response_class=EventSourceResponse,
    dependencies=[allow(Permission.JOB_READ), Depends(_existing)],
)
async def stream_job(
    job_id: str, db: DatabaseDep, last_event_id: Annotated[int, Header(ge=0)] = 0
) -> AsyncIterator[ServerSentEvent]:
    """The job as it goes: `event` for what the stage says (with ids to resume by), `job` when the job changes,
    `end` when it has ended.
    """
    end = time.monotonic() + STREAM_SECONDS
    shown: JobOut | None = None
    while time.monotonic() < end:
        job, rows = await run_in_threadpool(_look, db, job_id, last_event_id)
        for row in rows:
            last_event_id = row.id
            yield ServerSentEvent(data=row, event="event", id=str(row.id))
        if job != shown:
            shown = job
            yield ServerSentEvent(data=job, event="job")
        if job.state in ENDED and not rows:
            yield ServerSentEvent(data={"state": job.state}, event="end")
            return
        await asyncio.sleep(0 if len(rows) == EVENTS else POLL_SECONDS)


def _look(db: Database, job_id: str, after: int) -> tuple[JobOut, list[EventOut]]:
    with db.reading() as session:
        job = JobOut.model_validate(common.get(session, Job, job_id))
        return job, [EventOut.model_validate(r) for r in events.since(session, job_id, after, EVENTS)]
