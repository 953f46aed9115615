"""Jobs: list, live detail, cancel and resume."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server.access import Caller
from server.access import Permission as P
from server.dependencies import SessionDep, allow
from server.jobs import shares
from server.jobs.finish import resource
from server.jobs.states import LIVE, State
from server.services import common, jobs
from server.store.models import Job, JobEvent
from server.web.render import fragment, may, page, see

router = APIRouter(prefix="/jobs")
PLURALS = {"study": "studies", "similarity": "similarities"}
TAIL = 40
STATES = {
    State.QUEUED: "Waits for a free worker.",
    State.RUNNING: "Is at work.",
    State.CANCELING: "Was asked to stop and saves what it has.",
    State.SUCCEEDED: "Finished.",
    State.FAILED: "Failed. The message says why and what to do; then resume it.",
    State.CANCELED: "Canceled. It can be resumed from where it stopped.",
}


@router.get("")
def list_page(
    request: Request, session: SessionDep, after: str | None = None, caller: Caller = allow(P.JOB_READ)
) -> HTMLResponse:
    rows = common.page(session, Job, after)
    whole = select(func.count()).select_from(Job).where(Job.parent_id.is_(None))
    running = session.scalar(whole.where(Job.state.in_(LIVE))) or 0
    queued = session.scalar(whole.where(Job.state == State.QUEUED)) or 0
    return page(
        request, session, caller, "jobs.html", "Jobs", jobs=rows.items, next=rows.next,
        state=f"{running} running, {queued} waiting.",
    )  # fmt: skip


@router.get("/{id_}")
def detail(id_: str, request: Request, session: SessionDep, caller: Caller = allow(P.JOB_READ)) -> HTMLResponse:
    job = common.get(session, Job, id_)
    thing = resource(session, job)
    tail = select(JobEvent).where(JobEvent.job_id == id_).order_by(JobEvent.id.desc()).limit(TAIL)
    return page(
        request, session, caller, "job.html", job.title, job=job, state=STATES[State(job.state)],
        resource_href=f"/{PLURALS.get(job.resource_kind, job.resource_kind + 's')}/{job.resource_id}",
        resource_name=thing.name if thing else "nothing",
        events=list(session.scalars(tail))[::-1], helpers=_helpers(session, id_),
        may=may(caller, cancel=P.JOB_CONTROL),
    )  # fmt: skip


@router.get("/{id_}/progress", dependencies=[allow(P.JOB_READ)])
def progress(id_: str, session: SessionDep) -> Response:
    """The live part of a page; when the job has ended, the browser is told to load the page anew."""
    job = common.get(session, Job, id_)
    response = fragment("job_progress.html", job=job, helpers=_helpers(session, id_))
    if job.state not in LIVE and job.state != State.QUEUED:
        response.headers["HX-Refresh"] = "true"
    return response


def _helpers(session: Session, id_: str) -> list[Job]:
    """The shares of a job that a worker has taken."""
    return [share for share in shares.of(session, id_) if share.started_at]


@router.post("/{id_}/cancel")
def cancel(id_: str, session: SessionDep, caller: Caller = allow(P.JOB_CONTROL)) -> Response:
    jobs.cancel(session, caller, common.get(session, Job, id_))
    return see(f"/jobs/{id_}")


@router.post("/{id_}/resume")
def resume(id_: str, session: SessionDep, caller: Caller = allow(P.JOB_CONTROL)) -> Response:
    jobs.resume(session, caller, common.get(session, Job, id_))
    return see(f"/jobs/{id_}")
