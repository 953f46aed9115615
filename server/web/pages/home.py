"""Home: what needs a person, the latest answers, what is at work."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select

from server.access import Caller, Permission
from server.dependencies import SessionDep, allow
from server.jobs.states import State
from server.store.models import Evaluation, Export, Job, Study
from server.web.render import page

router = APIRouter()


@router.get("/")
def home(request: Request, session: SessionDep, caller: Caller = allow(Permission.SIGNED_IN)) -> HTMLResponse:
    needs: list[dict[str, Any]] = []
    whole = select(Job).where(Job.parent_id.is_(None))
    for export in session.scalars(select(Export).where(Export.state == "waiting").order_by(Export.created_at)):
        needs.append({"href": f"/review/{export.id}", "name": export.name, "what": "waits for a privacy officer"})
    failed = whole.where(Job.state == State.FAILED).order_by(Job.finished_at.desc()).limit(5)
    for job in session.scalars(failed):
        needs.append({"href": f"/jobs/{job.id}", "name": job.title, "what": job.message})
    at_work = Job.state.in_([State.QUEUED, State.RUNNING, State.CANCELING])
    live = list(session.scalars(whole.where(at_work).order_by(Job.created_at)))
    studies = select(Study).where(Study.result.is_not(None), Study.state == "ready")
    studies = studies.order_by(Study.created_at.desc()).limit(1)
    ready = select(Evaluation).where(Evaluation.state == "ready").order_by(Evaluation.created_at.desc()).limit(3)
    words = {0: "Nothing needs a person.", 1: "One thing needs a person."}
    return page(
        request, session, caller, "home.html", "Home",
        state=words.get(len(needs), f"{len(needs)} things need a person."), needs=needs, live=live,
        answers=list(session.scalars(ready)), studies=list(session.scalars(studies)),
        first=session.scalar(select(Export.id).limit(1)) is None,
    )  # fmt: skip
