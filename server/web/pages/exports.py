"""Exports: list, registration, detail."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelines.deidentify.reasons import REASONS
from pipelines.deidentify.spec import read_columns
from server.access import Caller
from server.access import Permission as P
from server.dependencies import SessionDep, SettingsDep, allow
from server.errors import Invalid, Problem
from server.services import common, exports, policies, review
from server.settings import Settings
from server.store.models import Export, Job, LabelRun, Site
from server.web.forms import FormData, Typed, again_on_problem
from server.web.render import may, page, see

router = APIRouter(prefix="/exports")
STATES = {
    "registered": "Registered; not de-identified yet.",
    "working": "De-identification is at work.",
    "waiting": "De-identified; waits for a privacy officer's verdict.",
    "released": "Released: cohorts may be built from it.",
    "sent_back": "Sent back by the privacy officer; de-identify it again when the reason is mended.",
    "failed": "De-identification ended without a result; the job below says why.",
}


class Again(FormData):
    policy: str = ""


class Registration(FormData):
    name: str = ""
    site: str = ""
    path: str = ""
    purpose: str = ""
    approval: str = ""
    retain_until: str = ""
    opt_out: str = ""
    aliases: str = ""
    policy: str = ""
    report_columns: str = ""


@router.get("")
def list_page(
    request: Request, session: SessionDep, after: str | None = None, caller: Caller = allow(P.EXPORT_READ)
) -> HTMLResponse:
    rows = common.page(session, Export, after)
    waiting = sum(e.state == "waiting" for e in rows.items)
    state = f"{waiting} of {len(rows.items)} wait for review." if rows.items else "No export is registered."
    return page(
        request, session, caller, "exports.html", "Exports", state=state, exports=rows.items,
        may=may(caller, create=P.EXPORT_REGISTER),
    )  # fmt: skip


def _form(
    request: Request, caller: Caller, settings: Settings, session: Session, typed: Typed, problem: Problem | None
) -> HTMLResponse:
    sites = list(session.scalars(select(Site).order_by(Site.name)))
    sentence = problem.detail if problem else None if sites else "Add a site first: an export belongs to one."
    return page(
        request, session, caller, "export_new.html", "Register an export", form=typed, sites=sites,
        roots=[str(r) for r in settings.export_roots], policies=policies.installed(settings),
        problem=sentence, status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/new")
def new_page(
    request: Request, session: SessionDep, settings: SettingsDep, caller: Caller = allow(P.EXPORT_REGISTER)
) -> HTMLResponse:
    return _form(request, caller, settings, session, Typed(), None)


@router.post("")
def register(
    form: Annotated[Registration, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.EXPORT_REGISTER),
) -> Response:
    again_on_problem(request, form, lambda s, typed, p: _form(request, caller, settings, s, typed, p))
    try:
        until = date.fromisoformat(form.retain_until) if form.retain_until else None
    except ValueError:
        raise Invalid("The retention date is not a date; write it as year-month-day.") from None
    if not form.name:
        raise Invalid("The export needs a name; give one.")
    given = exports.Registration(
        site=form.site, path=form.path, name=form.name, purpose=form.purpose, approval=form.approval,
        retain_until=until, opt_out=form.opt_out or None, aliases=form.aliases or None,
        policy=form.policy or None,
        report_columns=read_columns(form.report_columns.splitlines()),
    )  # fmt: skip
    return see(f"/exports/{exports.register(session, caller, settings, given).id}")


@router.get("/{id_}")
def detail(
    id_: str, request: Request, session: SessionDep, settings: SettingsDep, caller: Caller = allow(P.EXPORT_READ)
) -> HTMLResponse:
    export = common.get(session, Export, id_)
    jobs = common.page(session, Job, resource_kind="export", resource_id=id_).items
    return page(
        request, session, caller, "export.html", export.name, export=export, state=STATES[export.state], jobs=jobs,
        reviews=review.reviews(session, id_), reasons=REASONS, policies=policies.installed(settings),
        labels=common.page(session, LabelRun, export_id=id_).items,
        may=may(caller, deidentify=P.EXPORT_DEIDENTIFY, build=P.COHORT_BUILD, label=P.LABEL_CREATE),
    )  # fmt: skip


@router.post("/{id_}/deidentify")
def deidentify(
    id_: str,
    form: Annotated[Again, Form()],
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.EXPORT_DEIDENTIFY),
) -> Response:
    export, body = common.get(session, Export, id_), exports.DeidentifyBody()
    job = exports.deidentify(session, caller, settings, export, body, form.policy or None)
    return see(f"/jobs/{job.id}")
