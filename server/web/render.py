"""Pages from templates: the frame around each (rail, who is signed in), and problems as pages."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.staticfiles import StaticFiles

from server.access import Caller, Permission
from server.errors import Problem
from server.store.models import Export, Job
from server.web import filters

HERE = Path(__file__).parent
RAIL = (
    ("Home", "/", Permission.SIGNED_IN),
    ("Exports", "/exports", Permission.EXPORT_READ),
    ("Review", "/review", Permission.EXPORT_READ),
    ("Labels", "/labels", Permission.LABEL_READ),
    ("Cohorts", "/cohorts", Permission.COHORT_READ),
    ("Runs", "/runs", Permission.RUN_READ),
    ("Models", "/models", Permission.MODEL_READ),
    ("Evaluations", "/evaluations", Permission.EVALUATION_READ),
    ("Similarity maps", "/similarities", Permission.SIMILARITY_READ),
    ("Scaling studies", "/studies", Permission.STUDY_READ),
    ("Jobs", "/jobs", Permission.JOB_READ),
)
ADMINISTRATION = (
    ("Sites", "/sites", Permission.SITE_CREATE),
    ("People", "/people", Permission.USER_MANAGE),
    ("Audit log", "/audit", Permission.AUDIT_READ),
)
environment = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
filters.install(environment)


def page(
    request: Request, session: Session, caller: Caller, template: str, title: str, *, status: int = 200, **context: Any
) -> HTMLResponse:
    """A whole page for a signed-in caller; `context` is what its template shows."""
    frame = {"title": title, "rail": _rail(request, session, caller), "who": caller, "problem": None}
    return HTMLResponse(environment.get_template(template).render(frame | context), status)


def bare(template: str, title: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A page without the rail: before the sign-in, and for problems."""
    return HTMLResponse(environment.get_template(template).render({"title": title, "problem": None} | context), status)


def fragment(template: str, **context: Any) -> HTMLResponse:
    """A live part of a page."""
    return HTMLResponse(environment.get_template(template).render(context))


def see(path: str) -> Response:
    """Go on to another page after a form was taken."""
    return RedirectResponse(path, 303)


def may(caller: Caller, **needs: Permission) -> SimpleNamespace:
    """What a template may offer: `may(caller, create=P.RUN_CREATE).create`."""
    return SimpleNamespace(**{name: caller.may(permission) for name, permission in needs.items()})


def _rail(request: Request, session: Session, caller: Caller) -> dict[str, Any]:
    """The rail's words; a count stands only where a person must act."""
    counts = {"/review": (0, ""), "/jobs": (0, "")}
    if caller.may(Permission.EXPORT_REVIEW):
        waiting = session.scalar(select(func.count()).select_from(Export).where(Export.state == "waiting")) or 0
        counts["/review"] = (waiting, "exports wait for review")
    if caller.may(Permission.JOB_CONTROL):
        whole = select(func.count()).select_from(Job).where(Job.parent_id.is_(None))
        failed = session.scalar(whole.where(Job.state == "failed")) or 0
        counts["/jobs"] = (failed, "jobs failed")

    def item(word: str, href: str) -> dict[str, Any]:
        path = request.url.path
        here = path == href or (href != "/" and path.startswith(href + "/"))
        count, why = counts.get(href, (0, ""))
        return {"word": word, "href": href, "here": here, "count": count, "why": why}

    return {
        "main": [item(w, h) for w, h, p in RAIL if caller.may(p)],
        "admin": [item(w, h) for w, h, p in ADMINISTRATION if caller.may(p)],
    }


def render_problem(request: Request, problem: Problem) -> Response:
    """A problem for a browser: the form it came from with the sentence above it, the sign-in page, or a plain page."""
    again = getattr(request.state, "form_again", None)
    if again is not None and problem.status < 500:
        return cast(Response, again(problem))
    if problem.status == 401:
        return RedirectResponse(f"/signin?next={quote(request.url.path)}", 303)
    title = {403: "Not allowed", 404: "Not found"}.get(problem.status, "That did not work")
    return bare("error.html", title, status=problem.status, detail=problem.detail)


def install(app: FastAPI) -> None:
    """Mount the pages and their static files on the app."""
    from server.web.pages import routers

    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.state.render_problem = render_problem
    for router in routers:
        app.include_router(router, include_in_schema=False)
