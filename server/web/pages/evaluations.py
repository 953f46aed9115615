"""Evaluations: list, form, detail with the report."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.access import Caller
from server.access import Permission as P
from server.dependencies import SessionDep, SettingsDep, allow
from server.errors import NotFound, Problem
from server.services import common, evaluations
from server.store.models import Cohort, Evaluation, Job, Model
from server.web import filters
from server.web.forms import FormData, Typed, again_on_problem, body_of
from server.web.render import may, page, see

router = APIRouter(prefix="/evaluations")
STATES = {
    "waiting": "Waits for a free worker.",
    "working": "Is being computed.",
    "ready": "Ready. The answer stands first in the report, the evidence behind it.",
    "failed": "Ended without a result; the job below says why.",
}
# A report is one self-contained page with inline styles and no scripts; it is shown inside ours and may do nothing.
REPORT_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-downloads; "
    "frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
}


class EvaluationForm(FormData):
    name: str = ""
    cohort: str = ""
    models: list[str] = []  # noqa: RUF012 - pydantic fields
    baselines: list[str] = []  # noqa: RUF012
    tasks: list[str] = []  # noqa: RUF012
    teacher: str = ""
    attentive: str = ""


@router.get("")
def list_page(
    request: Request, session: SessionDep, after: str | None = None, caller: Caller = allow(P.EVALUATION_READ)
) -> HTMLResponse:
    rows = common.page(session, Evaluation, after).items
    ready = sum(e.state == "ready" for e in rows)
    return page(
        request, session, caller, "evaluations.html", "Evaluations", evaluations=rows,
        may=may(caller, create=P.EVALUATION_CREATE),
        state=f"{ready} of {len(rows)} have an answer." if rows else "An evaluation says whether a model is better.",
    )  # fmt: skip


def _form(request: Request, caller: Caller, session: Session, typed: Typed, problem: Problem | None) -> HTMLResponse:
    def ready(kind: Any) -> list[Any]:
        return list(session.scalars(select(kind).where(kind.state == "ready").order_by(kind.created_at.desc())))

    models = ready(Model)
    run = request.query_params.get("run")
    of_run = next((m for m in models if m.run_id == run), None) if run else None
    trained = next((c for c in ready(Cohort) if of_run and c.digest == (of_run.result or {}).get("cohort")), None)
    chosen = typed.cohort or request.query_params.get("cohort") or (trained.id if trained else None)
    return page(
        request, session, caller, "evaluation_new.html", "Evaluate models", form=typed, cohorts=ready(Cohort),
        models=models, tasks=filters.TASKS, chosen_run=run, chosen_cohort=chosen,
        problem=problem.detail if problem else None, status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/new")
def new_page(request: Request, session: SessionDep, caller: Caller = allow(P.EVALUATION_CREATE)) -> HTMLResponse:
    return _form(request, caller, session, Typed(), None)


@router.post("")
def create(
    form: Annotated[EvaluationForm, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.EVALUATION_CREATE),
) -> Response:
    again_on_problem(request, form, lambda s, typed, p: _form(request, caller, s, typed, p))
    values = form.model_dump(exclude={"attentive"})
    if form.attentive:
        values["methods"] = [*evaluations.EvaluationBody.model_fields["methods"].default, "attentive"]
    body = body_of(evaluations.EvaluationBody, values)
    return see(f"/evaluations/{evaluations.create(session, caller, settings, body).id}")


@router.get("/{id_}")
def detail(id_: str, request: Request, session: SessionDep, caller: Caller = allow(P.EVALUATION_READ)) -> HTMLResponse:
    return detail_of(request, caller, session, common.get(session, Evaluation, id_), None)


def detail_of(
    request: Request, caller: Caller, session: Session, row: Evaluation, problem: Problem | None
) -> HTMLResponse:
    """The page of an evaluation, with a problem above it where its form was refused."""
    jobs = common.page(session, Job, resource_kind="evaluation", resource_id=row.id).items
    named = [session.get(Model, m) for m in (*row.spec.get("models", []), *row.spec.get("baselines", []))]
    return page(
        request, session, caller, "evaluation.html", row.name, evaluation=row, jobs=jobs,
        job=jobs[0] if jobs else None, models=[m for m in named if m],
        state=STATES[row.state], sites={e.site for e in row.cohort.exports},
        may=may(caller, promote=P.MODEL_PROMOTE, maps=P.SIMILARITY_CREATE),
        tasks=(row.result or {}).get("tasks", {}),
        contaminated=[m for m in (row.result or {}).get("models", ()) if m.get("contaminated")],
        problem=problem.detail if problem else None,
        status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/{id_}/report.{form}", dependencies=[allow(P.EVALUATION_READ)])
def report(id_: str, form: Literal["html", "pdf"], session: SessionDep, settings: SettingsDep) -> FileResponse:
    """The report itself, self-contained, to read or to print."""
    row = common.get(session, Evaluation, id_)
    path = settings.root / row.folder / f"report.{form}"
    if row.state != "ready" or not path.exists():
        raise NotFound("The evaluation has no such report yet; wait for its job to finish.")
    if form == "pdf":
        return FileResponse(path, media_type="application/pdf", filename=f"evaluation-{id_}.pdf")
    return FileResponse(path, media_type="text/html", headers=REPORT_HEADERS)


@router.get("/{id_}/{table}.parquet", dependencies=[allow(P.EVALUATION_READ)])
def table_file(
    id_: str, table: Literal["scores", "results", "subgroups"], session: SessionDep, settings: SettingsDep
) -> FileResponse:
    """What every number of the report is computed from."""
    row = common.get(session, Evaluation, id_)
    path = settings.root / row.folder / f"{table}.parquet"
    if row.state != "ready" or not path.exists():
        raise NotFound("The evaluation has no tables yet; wait for its job to finish.")
    return FileResponse(path, media_type="application/vnd.apache.parquet", filename=f"{table}.parquet")
