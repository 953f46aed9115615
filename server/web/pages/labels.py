"""Label runs: list, form, detail with counts and the comparison of the sources."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.access import Caller
from server.access import Permission as P
from server.dependencies import SessionDep, SettingsDep, allow
from server.errors import Problem
from server.services import common, labels
from server.settings import Settings
from server.store.models import Export, Job, LabelRun
from server.web.forms import FormData, Typed, again_on_problem, body_of
from server.web.render import may, page, see

router = APIRouter(prefix="/labels")
STATES = {
    "waiting": "Waits for a free worker.",
    "working": "The reports are being read.",
    "ready": "Ready: cohorts can be built with these labels.",
    "failed": "Ended without labels; the job below says why.",
}
SOURCES = {
    "site": "the site's own table",
    "rules": "rules over the reports",
    "model": "a language model that reads the reports",
}
# Why a report gave no label, by the codes of the stage.
REASONS = {
    "empty": "no findings or impression",
    "too_long": "longer than can be read",
    "language": "not in English",
    "answer_not_json": "the model's answer was no JSON",
    "answer_not_valid": "the model's answer did not fit the schema",
    "answer_cut_off": "the model's answer did not end",
}


class LabelForm(FormData):
    name: str = ""
    deid: str = ""
    sources: list[str] = []  # noqa: RUF012 - a pydantic field
    model: str = ""
    gpus: str = ""


@router.get("")
def list_page(
    request: Request, session: SessionDep, after: str | None = None, caller: Caller = allow(P.LABEL_READ)
) -> HTMLResponse:
    rows = common.page(session, LabelRun, after).items
    ready = sum(r.state == "ready" for r in rows)
    return page(
        request, session, caller, "labels.html", "Labels", runs=rows, may=may(caller, create=P.LABEL_CREATE),
        state=f"{ready} of {len(rows)} are ready." if rows else "No export has been labelled here yet.",
    )  # fmt: skip


def _form(
    request: Request, caller: Caller, settings: Settings, session: Session, typed: Typed, problem: Problem | None
) -> HTMLResponse:
    released = list(session.scalars(select(Export).where(Export.state == "released").order_by(Export.name)))
    return page(
        request, session, caller, "label_new.html", "Label an export", form=typed, exports=released,
        chosen=typed.deid or request.query_params.get("export"), sources=SOURCES,
        picked=typed.sources or ["site", "rules"], roots=[str(r) for r in settings.weights_roots],
        problem=problem.detail if problem else None, status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/new")
def new_page(
    request: Request, session: SessionDep, settings: SettingsDep, caller: Caller = allow(P.LABEL_CREATE)
) -> HTMLResponse:
    return _form(request, caller, settings, session, Typed(), None)


@router.post("")
def create(
    form: Annotated[LabelForm, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.LABEL_CREATE),
) -> Response:
    again_on_problem(request, form, lambda s, typed, p: _form(request, caller, settings, s, typed, p))
    body = body_of(labels.LabelBody, form)
    return see(f"/labels/{labels.create(session, caller, settings, body).id}")


@router.get("/{id_}")
def detail(id_: str, request: Request, session: SessionDep, caller: Caller = allow(P.LABEL_READ)) -> HTMLResponse:
    run = common.get(session, LabelRun, id_)
    jobs = common.page(session, Job, resource_kind="label", resource_id=id_).items
    return page(
        request, session, caller, "label.html", run.name, run=run, state=STATES[run.state], jobs=jobs,
        job=jobs[0] if jobs else None, sources=SOURCES, reasons=REASONS, counts=_by_label(run.result or {}),
        may=may(caller, build=P.COHORT_BUILD),
    )  # fmt: skip


def _by_label(result: dict[str, Any]) -> dict[str, dict[str, dict[str, int]]]:
    """label -> source -> how many are present, absent, uncertain; labels in the order in which they are met."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for source, counts in result.get("sources", {}).items():
        for label, values in counts["labels"].items():
            found.setdefault(label, {})[source] = values
    return dict(sorted(found.items()))
