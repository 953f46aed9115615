"""Cohorts: list, forms for exports and for external sets, detail with the flow table."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BeforeValidator
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.access import Caller
from server.access import Permission as P
from server.dependencies import SessionDep, SettingsDep, allow
from server.errors import Problem
from server.services import cohorts, common, external, labels
from server.settings import Settings
from server.store.models import Cohort, Export, Job, Run
from server.web.forms import FormData, Typed, again_on_problem, body_of
from server.web.render import may, page, see

router = APIRouter(prefix="/cohorts")
STATES = {
    "waiting": "Waits for a free worker.",
    "working": "Is being built.",
    "ready": "Ready: runs and evaluations can use it.",
    "failed": "Was not built; the job below says why.",
}
# As the page on external sets says them.
LAYOUTS = {
    "auto": "as its tables are named",
    "chestx-ray14": "ChestX-ray14",
    "ranzcr-clip": "RANZCR CLiP",
    "vindr-cxr": "VinDr-CXR",
    "candid-ptx": "CANDID-PTX",
    "table": "a plain table",
}
SPLITS = {
    "published": "as the set states; all test where it states none",
    "test": "all patients are test",
    "divide": "drawn by patient into train, validation and test",
}


def _words(typed: Any) -> list[str]:
    """`site, rules` of one field as its words."""
    return re.findall(r"[^\s,]+", " ".join(typed) if isinstance(typed, list) else typed)


class CohortForm(FormData):
    name: str = ""
    deid: list[str] = []  # noqa: RUF012 - a pydantic field
    side: str = ""
    minimum_age: str = ""
    labels: list[str] = []  # noqa: RUF012
    label_sources: Annotated[list[str], BeforeValidator(_words)] = []  # noqa: RUF012


class ExternalForm(FormData):
    name: str = ""
    path: str = ""
    public_set: str = ""
    layout: str = ""
    split: str = ""
    side: str = ""


@router.get("")
def list_page(
    request: Request, session: SessionDep, after: str | None = None, caller: Caller = allow(P.COHORT_READ)
) -> HTMLResponse:
    rows = common.page(session, Cohort, after).items
    ready = sum(c.state == "ready" for c in rows)
    return page(
        request, session, caller, "cohorts.html", "Cohorts", cohorts=rows, may=may(caller, create=P.COHORT_BUILD),
        state=f"{ready} of {len(rows)} are ready." if rows else "A cohort is built from released exports.",
    )  # fmt: skip


def _form(request: Request, caller: Caller, session: Session, typed: Typed, problem: Problem | None) -> HTMLResponse:
    released = list(session.scalars(select(Export).where(Export.state == "released").order_by(Export.name)))
    return page(
        request, session, caller, "cohort_new.html", "Build a cohort", form=typed, exports=released,
        chosen=typed.deid or request.query_params.getlist("export"), label_runs=labels.ready(session),
        picked=typed.labels or request.query_params.getlist("labels"), problem=problem.detail if problem else None,
        status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/new")
def new_page(request: Request, session: SessionDep, caller: Caller = allow(P.COHORT_BUILD)) -> HTMLResponse:
    return _form(request, caller, session, Typed(), None)


@router.post("")
def build(
    form: Annotated[CohortForm, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.COHORT_BUILD),
) -> Response:
    again_on_problem(request, form, lambda s, typed, p: _form(request, caller, s, typed, p))
    body = body_of(cohorts.CohortBody, form)
    return see(f"/cohorts/{cohorts.build(session, caller, settings, body).id}")


def _external_form(
    request: Request, caller: Caller, settings: Settings, session: Session, typed: Typed, problem: Problem | None
) -> HTMLResponse:
    return page(
        request, session, caller, "external_new.html", "Add an external set", form=typed,
        roots=[str(r) for r in settings.external_roots], layouts=LAYOUTS, splits=SPLITS,
        problem=problem.detail if problem else None, status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/external")
def new_external_page(
    request: Request, session: SessionDep, settings: SettingsDep, caller: Caller = allow(P.COHORT_BUILD)
) -> HTMLResponse:
    return _external_form(request, caller, settings, session, Typed(), None)


@router.post("/external")
def build_external(
    form: Annotated[ExternalForm, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.COHORT_BUILD),
) -> Response:
    again_on_problem(request, form, lambda s, typed, p: _external_form(request, caller, settings, s, typed, p))
    body = body_of(external.ExternalBody, form)
    return see(f"/cohorts/{external.build(session, caller, settings, body).id}")


@router.get("/{id_}")
def detail(id_: str, request: Request, session: SessionDep, caller: Caller = allow(P.COHORT_READ)) -> HTMLResponse:
    cohort = common.get(session, Cohort, id_)
    return page(
        request, session, caller, "cohort.html", cohort.name, cohort=cohort,
        state="Ready: evaluations can use it." if cohort.external and cohort.state == "ready" else STATES[cohort.state],
        jobs=common.page(session, Job, resource_kind="cohort", resource_id=id_).items,
        runs=common.page(session, Run, cohort_id=id_).items, contaminated=external.contaminated(session, cohort),
        splits=SPLITS,
        may=may(caller, run=P.RUN_CREATE, evaluate=P.EVALUATION_CREATE),
    )  # fmt: skip
